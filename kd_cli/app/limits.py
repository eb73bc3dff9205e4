"""What a visitor may ask of the server, which all visitors share. The command line has none of these limits."""

UPLOAD_MEGABYTES = 20
"""Of one image."""

TOTAL_MEGABYTES = 100
"""Of all images that a visitor uploads: the server keeps them in memory while they are shown."""

ALL_UPLOADS_MEGABYTES = 500
"""Of all images that all visitors upload."""

MESSAGE_MEGABYTES = 20
"""Of what a browser sends at a time apart from uploads, and of what it is sent. A drawing takes a thousandth."""

DISCONNECTED_SECONDS = 20
"""For which a visitor whose connection broke is waited for. After that all that the server kept for them is freed."""

MAX_TABS = 1_000
"""That are remembered as somebody's."""

MAX_IMAGES = 50
"""That are uploaded and shown at a time."""

MAX_PARAMETERS = 5_000_000
"""Of a student that is trained."""

MAX_RUN_MEGABYTES = 1_000
"""Of memory that a training run may take beside its images, as counted before it starts."""

MAX_RUN_MINUTES = 15
"""That a training run may take, as estimated from its first steps."""

LONGEST_RUN_SECONDS = 1200.0
"""After which a run is ended, whatever was estimated."""

MAX_OWN_RUNS = 3
"""Of a visitor, that wait or go on."""

MAX_RUNS = 60
"""Of all visitors, that wait or go on."""

MAX_STUDENTS = 20
"""That were trained on the page and are kept: 400 MB on disk at most."""

MAX_EPOCHS = 60
"""Of a training run."""

MEASURING_SECONDS = 120.0
"""That a measurement may take. It takes ten where the machine has nothing else to do."""
