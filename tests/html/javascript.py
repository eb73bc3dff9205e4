"""The page's scripts in Node.js, without a browser."""

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_cli.html.files import read_text

NODE = shutil.which("node")

SCRIPTS = ["grids.js", "masks.js", "paper.js", "ink.js", "handwriting.js", "images.js", "signs.js"]

PROGRAM = """
{
    const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
    const [call] = [...given.scripts, given.call].map((script) => require("vm").runInThisContext(script)).slice(-1);
    const unpack = ([width, height, data]) => ({ width, height, data: Buffer.from(data, "base64") });
    const answers = given.images.map((image) => call(unpack(image)));
    console.log(JSON.stringify(answers));
}
"""


def call_for_each(function: str, images: Sequence[NDArray[np.uint8]]) -> list[Any]:
    """What a JavaScript function of a canvas's pixels gives for each image, (height, width, 3)."""
    assert NODE is not None
    opaque = [np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]) for image in images]
    given = {
        "scripts": [read_text(name) for name in SCRIPTS],
        "call": function,
        "images": [[image.shape[1], image.shape[0], base64.b64encode(image.tobytes()).decode()] for image in opaque],
    }
    answer = subprocess.run(
        [NODE, "-e", PROGRAM], input=json.dumps(given), capture_output=True, text=True, check=True, timeout=300
    )
    results: list[Any] = json.loads(answer.stdout)
    return results
