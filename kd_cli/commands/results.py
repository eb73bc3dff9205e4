"""What commands give back: one frozen dataclass each. `report.as_json` makes the ``--json`` object of them.

A field is a key of that object, unless its metadata says otherwise: ``json`` is another key, or None for none.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_cli.digits.boxes import Box
from kd_cli.evaluation.measures import BiasedQuality, Cost, Disagreement, Quality, Speed
from kd_cli.evaluation.statistics import Difference
from kd_cli.training.epoch_result import EpochResult


@dataclass(frozen=True)
class Result:
    """What every result begins with: the data set and the device, the latter also as people say it."""

    dataset: str
    device: str
    device_name: str


@dataclass(frozen=True)
class TrainingResult(Result):
    """A network that was trained, and how it went.

    ``accuracy`` is of the test set, ``history`` of the images that ``history_of`` names: "validation" where some are
    set aside, else "test". ``options`` are all that the run was told, ``method_options`` those of its method.
    ``train_seconds`` is the sum over the epochs: of training alone, without tests and files. ``teacher_outputs`` is how
    they came about: computed once, or live; None without a teacher. ``kept_epoch`` is the one that the validation
    images chose; None where it is the last. ``fault`` is why it is no result, such as an accuracy no better than
    chance, and what to do; None if it is one.
    """

    role: str
    seed: int
    architecture: str
    parameters: int
    method: str
    epochs: int
    options: dict[str, Any]
    checkpoint: str
    test_images: int
    accuracy: float
    error_count: int
    train_seconds: float
    history: tuple[EpochResult, ...]
    history_of: str = field(default="test", kw_only=True)
    method_options: dict[str, float | str]
    teachers: tuple[str, ...]
    teacher_outputs: str | None = None
    kept_epoch: int | None = None
    fault: str | None = None


@dataclass(frozen=True, kw_only=True)
class EnsembleResult(TrainingResult):
    """Teachers that were trained to be averaged. Accuracy and errors are those of their averaged probabilities.

    ``seed`` is the first member's, ``checkpoint`` the file after which the members' files are named, ``parameters`` the
    sum, and ``history`` the mean over the members.
    """

    ensemble: int
    members: tuple[TrainingResult, ...]


@dataclass(frozen=True)
class Model:
    """What every result says of a network that it speaks of.

    ``assumed`` is whether its file does not name its data; ``precision`` what it computes with: float32, but for
    exported files.
    """

    role: str
    checkpoint: str
    shipped: bool
    architecture: str
    method: str
    assumed: bool = field(default=False, kw_only=True)
    precision: str = field(default="float32", kw_only=True)


@dataclass(frozen=True)
class EvaluatedModel(Quality, Model):
    """A network's quality; ``disagreements`` with the teacher are a student's, the most telling first.

    ``nll``, ``ece`` and ``calibration`` are of the network as it is, ``scaled_ece`` of its logits divided by
    ``temperature``, whose probabilities `predict` gives; both are None where the checkpoint has no temperature.
    ``with_class_bias`` is the quality with the biases that were asked for.
    """

    parameters: int
    disagreements: tuple[Disagreement, ...] | None
    temperature: float | None = None
    scaled_ece: float | None = None
    with_class_bias: BiasedQuality | None = None


@dataclass(frozen=True)
class EvaluationResult(Result):
    """The quality of networks on the test set."""

    test_images: int
    classes: tuple[str, ...]
    models: tuple[EvaluatedModel, ...]


@dataclass(frozen=True)
class BenchmarkedModel(Cost, Model):
    """A network's cost, and the accuracy that it buys; ``macs`` are its multiply-accumulates for one image."""

    parameters: int
    macs: int
    size_bytes: int
    accuracy: float


@dataclass(frozen=True)
class RuntimeResult(Model):
    """A network as a runtime runs it: with one thread and with all, where there are more.

    ``size_bytes`` are those of the file that the runtime reads. ``load_seconds`` is the time from that file to the
    logits of a first image, without imports but with the compiler's work.
    """

    runtime: str
    size_bytes: int
    accuracy: float
    load_seconds: float
    speeds: tuple[Speed, ...]


@dataclass(frozen=True)
class BenchmarkResult(Result):
    """The cost of networks; ``student_speedup`` is the teacher's median latency over the student's.

    ``load_average`` is how many programs wanted one of the machine's ``cores`` in the minute before, where it tells.
    ``runtimes`` and ``failed`` are of those that were asked for.
    """

    threads: int
    latency_threads: int
    cores: int
    load_average: float | None
    models: tuple[BenchmarkedModel, ...]
    student_speedup: float | None
    runtimes: tuple[RuntimeResult, ...] = ()
    failed: "tuple[FailedRun, ...]" = ()


@dataclass(frozen=True)
class ExportResult(Result):
    """An exported network beside its original, both run over the same ``images``.

    These are the test set; or ``random_pixels`` where that cannot be had, of which nobody can say what is correct.
    ``agreement`` is the share of images for which both predict the same class.
    """

    file: str
    format: str
    precision: str
    size_bytes: int
    accuracy: float | None
    error_count: int | None
    original: Model
    original_size_bytes: int
    original_accuracy: float | None
    original_error_count: int | None
    max_logit_difference: float
    agreement: float
    images: int
    random_pixels: bool


@dataclass(frozen=True)
class PageResult(Result):
    """A page that runs ``networks``, each checked beside its original; ``size_bytes`` are those of the whole folder."""

    folder: str
    size_bytes: int
    networks: tuple[ExportResult, ...]


@dataclass(frozen=True)
class RunMeasures:
    """What one run of a comparison came to on the test set, and the seconds that it trained.

    ``fault`` is why it is no result, such as an accuracy no better than chance, and what to do; None if it is one.
    """

    seed: int
    accuracy: float
    error_count: int
    agreement: float
    nll: float
    ece: float
    train_seconds: float
    fault: str | None = None


MEASURES = tuple(each.name for each in fields(RunMeasures) if each.name not in ("seed", "fault"))
"""Those of which a comparison gives means."""


@dataclass(frozen=True)
class CellResult:
    """A student trained with one method, over several seeds, beside its baseline.

    ``mean`` and ``std`` are over the runs, by the names of their measures; ``std`` is None for a single run.
    ``difference`` is None for the baseline itself, and where it has no run to compare with.
    """

    student: str
    method: str
    options: dict[str, float | str]
    parameters: int
    macs: int
    runs: tuple[RunMeasures, ...]
    mean: dict[str, float]
    std: dict[str, float | None]
    difference: Difference | None


@dataclass(frozen=True)
class RunCount:
    """The runs of a comparison: in all, carried out now rather than found, and at a time."""

    total: int
    carried_out: int
    side_by_side: int


@dataclass(frozen=True)
class FailedRun:
    """A run that came to nothing, and why."""

    run: str
    error: str


@dataclass(frozen=True)
class RefusedCell:
    """A student and a method that cannot go together, and why."""

    cell: str
    reason: str


@dataclass(frozen=True)
class ComparisonResult(Result):
    """A comparison of methods, students and seeds."""

    teachers: tuple[str, ...]
    teacher_architectures: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    options: dict[str, Any]
    test_images: int
    results_dir: str
    runs: RunCount
    cells: tuple[CellResult, ...]
    failed: tuple[FailedRun, ...]
    refused: tuple[RefusedCell, ...]


@dataclass(frozen=True)
class TrialResult:
    """A trial of a study: its setting, and the validation accuracy after each epoch that it was given.

    ``state`` is "complete"; or "pruned" where it fell behind others, or "diverged". ``repeats`` are the validation
    accuracies of the same setting with further seeds, if it was one of the finalists.
    """

    number: int
    options: dict[str, float]
    state: str
    accuracies: tuple[float, ...]
    train_seconds: float
    repeats: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TunedMethod(CellResult):
    """A method with the setting that validation images chose, trained with it on all training images.

    ``validation_accuracy`` is the mean of ``validation_runs``, one for each seed that the setting was validated with.
    ``trials`` counts those of ``search`` that came to an end, and ``repeats`` the runs of finalists with further seeds.
    ``epochs`` is what all of these were trained, ``seconds`` how long. ``command`` repeats the first run.
    """

    validation_accuracy: float
    validation_runs: tuple[float, ...]
    trials: int
    repeats: int
    epochs: int
    seconds: float
    command: str
    search: tuple[TrialResult, ...]


@dataclass(frozen=True)
class TuningResult(Result):
    """Methods and the baseline, each tuned with the same number of trials, judged on the test set.

    ``trials_carried_out`` counts repeats, too. ``settings`` is the file that ``kd compare --from-study`` takes.
    """

    student: str
    teachers: tuple[str, ...]
    teacher_architectures: tuple[str, ...]
    trials: int
    trials_carried_out: int
    seeds: tuple[int, ...]
    epochs: int
    options: dict[str, Any]
    validation_images: int
    test_images: int
    results_dir: str
    settings: str
    runs: RunCount
    rows: tuple[TunedMethod, ...]
    failed: tuple[FailedRun, ...]
    refused: tuple[RefusedCell, ...]


@dataclass(frozen=True)
class Measured:
    """How many test images each run gets wrong, with mean and standard deviation; the latter is None for a single run.

    ``biases`` are those that were fitted for each run, by class.
    """

    runs: tuple[int, ...]
    mean: float
    std: float | None
    biases: tuple[dict[str, float], ...] = ()


@dataclass(frozen=True)
class ReadingResult:
    """A number of a paper beside ours, and beside the same student from labels.

    ``paper`` is None where the paper gives no number, ``ours`` and ``from_labels`` where no run came to anything, the
    latter also where there is nothing to compare with.
    """

    name: str
    paper: int | None
    temperature: float | None
    ours: Measured | None
    from_labels: Measured | None


@dataclass(frozen=True)
class RowResult:
    """A result of a paper, measured again; ``commands`` repeat its first run.

    ``holds`` is whether ``claim`` is true of the means; None where nothing is claimed, or a number is missing.
    """

    name: str
    says: str
    claim: str
    holds: bool | None
    readings: tuple[ReadingResult, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class ReproductionResult(Result):
    """A paper's results, measured again. Numbers are errors on the test set."""

    paper: str
    reference: str
    quick: bool
    seeds: tuple[int, ...]
    test_images: int
    results_dir: str
    runs: RunCount
    rows: tuple[RowResult, ...]
    failed: tuple[FailedRun, ...]


@dataclass(frozen=True)
class RankedClass:
    """A class with the probability that a network gives it."""

    class_index: int = field(metadata={"json": "class"})
    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """A network's output for an image: the most probable class, its probability, all probabilities, and the first few.

    ``correct`` is None where nothing says what the image shows. ``unlike`` is whether the image is unlike those that
    the network learnt; None where its checkpoint does not say how to tell.
    """

    class_index: int = field(metadata={"json": "class"})
    label: str
    confidence: float
    probabilities: tuple[float, ...]
    top: tuple[RankedClass, ...]
    correct: bool | None
    unlike: bool | None = None


@dataclass(frozen=True)
class ImagePrediction:
    """An image file and what the networks predict; or the error that kept it from being read, and no predictions.

    ``label`` is what the file's name says that it shows, if it was asked. ``agree`` is None without a second network.
    ``unsure`` is whether the image may show none of the classes, None where no network can tell.
    ``preprocessed`` is the file that holds what they saw, ``seen`` the same in memory if it was kept, uint8 (C, H, W).
    ``digits`` is how many digits the file shows, ``digit`` the number of the one that was read, from 1, line by line,
    and ``box`` where that is, in pixels of the upright image; they are None where the data is not of digits.
    """

    file: str
    error: str | None
    label: str | None
    teacher: Prediction | None
    student: Prediction | None
    agree: bool | None
    preprocessed: str | None
    seen: NDArray[np.uint8] | None = field(metadata={"json": None}, repr=False)
    digits: int | None = None
    digit: int | None = None
    box: Box | None = None
    unsure: bool | None = None


@dataclass(frozen=True)
class Score:
    """How many images with a label a network predicts correctly; ``accuracy`` is None where none has one."""

    correct: int
    images: int
    accuracy: float | None


@dataclass(frozen=True)
class PredictionResult(Result):
    """Predictions for images; ``accuracy`` by role, where labels were taken from the files' names.

    If ``every_digit``, an image that shows several digits has an entry for each; else the one with most ink was read.
    """

    models: tuple[Model, ...]
    images: tuple[ImagePrediction, ...]
    accuracy: dict[str, Score] | None
    every_digit: bool = False
