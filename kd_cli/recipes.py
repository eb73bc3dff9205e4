"""The training commands: data, network, objective and loop put together, and the result saved."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kd_cli import data, device, networks
from kd_cli.checkpoint import Metadata, find, load_checkpoint, path_for, save_checkpoint
from kd_cli.context import Place, Result, follow, heading, require_fit
from kd_cli.data import Dataset
from kd_cli.evaluate import measure_quality
from kd_cli.files import require_writable
from kd_cli.networks import compute_logits, count_parameters
from kd_cli.objectives import Distillation, Objective, cached_teacher, from_labels, live_teacher
from kd_cli.settings import Role, Spec, TrainingSettings
from kd_cli.train import Training


def train_teacher(place: Place, spec: Spec, settings: TrainingSettings, output: Path | None = None) -> Result:
    """Train a network on labels alone and save it as the teacher."""
    worker = device.select(place.device)
    dataset = data.load(place.dataset, place.data_dir).to(worker)
    path = output or path_for(place.models_dir, dataset.name, Role.teacher)
    return _train(Role.teacher, dataset, spec, from_labels, settings, {"method": "labels"}, path)


def distill(
    place: Place,
    spec: Spec,
    settings: TrainingSettings,
    temperature: float,
    alpha: float,
    teacher: Path | None = None,
    output: Path | None = None,
) -> Result:
    """Train a student from a teacher's soft targets and the labels; with alpha 0, from the labels alone."""
    worker = device.select(place.device)
    given = load_checkpoint(teacher, worker) if teacher else None
    dataset = data.load(follow([given] if given else [], place.dataset), place.data_dir).to(worker)
    path = output or path_for(place.models_dir, dataset.name, Role.student)
    if alpha == 0:
        return _train(Role.student, dataset, spec, from_labels, settings, {"method": "labels"}, path)
    source = given or load_checkpoint(find(place.models_dir, dataset.name, Role.teacher), worker)
    require_fit(source, dataset)
    require_writable(path)  # before the teacher's pass over all pictures
    if settings.augment:
        teacher_logits = live_teacher(source.network)
    else:
        teacher_logits = cached_teacher(source.network, dataset.train, dataset.normalisation)
    objective = Distillation(teacher_logits, temperature, alpha)
    method = {"method": "kd", "temperature": temperature, "alpha": alpha, "teacher": str(source.path)}
    return _train(Role.student, dataset, spec, objective, settings, method, path)


def _train(
    role: Role,
    dataset: Dataset,
    spec: Spec,
    objective: Objective,
    settings: TrainingSettings,
    method: dict[str, Any],
    path: Path,
) -> Result:
    require_writable(path)
    device.make_repeatable(settings.seed)
    device.keep_freed_memory()
    network = networks.build(spec, len(dataset.classes)).to(dataset.train.images.device)
    training = Training(network, objective, dataset.train, dataset.normalisation, settings)
    history = []
    start = time.perf_counter()
    with tqdm(total=training.total_steps, unit="step", disable=None, leave=False) as bar:
        for number in range(1, settings.epochs + 1):
            bar.set_description(f"{role.value} {spec}, epoch {number}/{settings.epochs}")
            epoch = training.run_epoch(bar)
            network.eval()
            logits = compute_logits(network, dataset.test.images, dataset.normalisation)
            quality = measure_quality(logits, dataset.test.labels)
            history.append(
                {"epoch": number, "loss": epoch.loss, "accuracy": quality.accuracy, "seconds": epoch.seconds}
            )
    seconds = time.perf_counter() - start
    options = asdict(settings) | method
    metadata = Metadata(
        role=role,
        architecture=str(spec),
        dataset=dataset.name,
        classes=dataset.classes,
        normalisation=dataset.normalisation,
        method=method["method"],
        seed=settings.seed,
        accuracy=quality.accuracy,
        options=options,
    )
    save_checkpoint(path, network, metadata)
    return heading(dataset) | {
        "role": role.value,
        "seed": settings.seed,
        "architecture": str(spec),
        "parameters": count_parameters(network),
        **method,
        "epochs": settings.epochs,
        "options": options,
        "checkpoint": str(path),
        "test_images": len(dataset.test),
        "accuracy": quality.accuracy,
        "error_count": quality.error_count,
        "train_seconds": seconds,
        "history": history,
    }
