"""The measuring commands: checkpoints and a test set in, quality or cost out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from kd_cli import data, device
from kd_cli.checkpoint import Checkpoint, find, load_checkpoint
from kd_cli.context import Place, Result, follow, heading, identify, require_fit
from kd_cli.data import Dataset
from kd_cli.evaluate import find_disagreements, measure_quality
from kd_cli.networks import compute_logits, count_parameters
from kd_cli.settings import LATENCY_THREADS, Role

DISAGREEMENTS = 10
"""How many of a student's disagreements with its teacher are shown."""


def evaluate(place: Place, paths: Sequence[Path]) -> Result:
    """Measure the quality of the given checkpoints, or of the data set's teacher and student, on the test set."""
    dataset, checkpoints = _load_for_testing(place, paths)
    logits = [compute_logits(each.network, dataset.test.images, dataset.normalisation) for each in checkpoints]
    teachers = [i for i, each in enumerate(checkpoints) if each.metadata.role is Role.teacher]
    reference = logits[teachers[0]] if teachers else None
    qualities = [measure_quality(each, dataset.test.labels, reference) for each in logits]
    models = [
        identify(checkpoint) | {"parameters": count_parameters(checkpoint.network)} | asdict(quality)
        for checkpoint, quality in zip(checkpoints, qualities, strict=True)
    ]
    for model, own in zip(models, logits, strict=True):
        model["disagreements"] = None
        if reference is not None and model["role"] == Role.student.value:
            found = find_disagreements(own, reference, dataset.test.labels, DISAGREEMENTS)
            model["disagreements"] = [asdict(each) for each in found]
    return heading(dataset) | {"test_images": len(dataset.test), "classes": list(dataset.classes), "models": models}


def benchmark(place: Place, paths: Sequence[Path]) -> Result:
    """Measure the cost, and the accuracy, of the given checkpoints, or of the data set's teacher and student."""
    from kd_cli.benchmark import measure_costs  # torch's tools for it take a while to import

    dataset, checkpoints = _load_for_testing(place, paths)
    costs = measure_costs([each.network for each in checkpoints], dataset.test, dataset.normalisation)
    models = []
    for checkpoint, cost in zip(checkpoints, costs, strict=True):
        logits = compute_logits(checkpoint.network, dataset.test.images, dataset.normalisation)
        quality = measure_quality(logits, dataset.test.labels)
        files = {"size_bytes": checkpoint.path.stat().st_size, "accuracy": quality.accuracy}
        models.append(identify(checkpoint) | asdict(cost) | files)
    p50 = {model["role"]: model["latency_ms"]["p50"] for model in reversed(models)}
    speedup = p50["teacher"] / p50["student"] if {"teacher", "student"} <= p50.keys() else None
    threads = {"threads": torch.get_num_threads(), "latency_threads": LATENCY_THREADS}
    return heading(dataset) | threads | {"models": models, "student_speedup": speedup}


def _load_for_testing(place: Place, paths: Sequence[Path]) -> tuple[Dataset, list[Checkpoint]]:
    """The test pictures on the device, and the given checkpoints or, without any, the data set's own two."""
    worker = device.select(place.device)
    checkpoints = [load_checkpoint(path, worker) for path in paths]
    dataset = data.load(follow(checkpoints, place.dataset), place.data_dir, train=False).to(worker)
    if not checkpoints:
        checkpoints = [load_checkpoint(find(place.models_dir, dataset.name, role), worker) for role in Role]
    for checkpoint in checkpoints:
        require_fit(checkpoint, dataset)
    return dataset, checkpoints
