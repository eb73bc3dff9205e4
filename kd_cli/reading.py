"""The command that reads pictures: files in, what teacher and student make of them out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd_cli import device, predict
from kd_cli.checkpoint import find, load_checkpoint
from kd_cli.context import Place, Result, identify
from kd_cli.settings import DatasetName, KdError, Role


def read_pictures(place: Place, files: Sequence[Path], teacher: Path | None, student: Path | None) -> Result:
    """Read pictures with a teacher and a student. A file that cannot be read has an ``error`` and no readings."""
    worker = device.select(place.device)
    name = DatasetName.mnist if place.dataset is DatasetName.auto else place.dataset
    paths = {Role.teacher: teacher, Role.student: student}
    checkpoints = {
        role.value: load_checkpoint(path or find(place.models_dir, name, role), worker) for role, path in paths.items()
    }
    rows: list[Result] = []
    pictures = []
    for file in files:
        try:
            pictures.append(predict.read_picture(file))
            rows.append({"file": str(file), "error": None})
        except KdError as error:
            rows.append({"file": str(file), "error": str(error)})
    if pictures:
        readings = {role: predict.classify(each, np.stack(pictures)) for role, each in checkpoints.items()}
        readable = [row for row in rows if row["error"] is None]
        for i, row in enumerate(readable):
            for role, checkpoint in checkpoints.items():
                reading = readings[role][i]
                row[role] = {
                    "class": reading.class_index,
                    "label": checkpoint.metadata.classes[reading.class_index],
                    "confidence": reading.confidence,
                    "probabilities": reading.probabilities,
                }
            row["agree"] = row["teacher"]["label"] == row["student"]["label"]
    return {
        "dataset": name.value,
        **device.describe(worker),
        "models": [identify(each) for each in checkpoints.values()],
        "pictures": rows,
    }
