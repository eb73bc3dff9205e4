"""The training commands: data, network, objective and loop put together, and the result saved."""

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kd_cli import data, device, networks
from kd_cli.checkpoint import Metadata, load_checkpoint, path_for, save_checkpoint
from kd_cli.context import Place, Result, find_teachers, follow, heading, member_path, require_teachers
from kd_cli.data import Dataset, Split
from kd_cli.evaluate import Quality, measure_quality
from kd_cli.files import require_writable
from kd_cli.journal import Entry, Journal
from kd_cli.labels import choose_labels
from kd_cli.methods import FROM_LABELS, Choice, MethodName, require_possible
from kd_cli.networks import checksum, compute_logits, count_parameters
from kd_cli.objectives import bind
from kd_cli.progress import Terminal, Watch
from kd_cli.settings import KdError, LabelBudget, Role, RunStoppedError, Spec, TrainingSettings, Transfer
from kd_cli.teaching import Teaching, average
from kd_cli.train import Training


@dataclass(frozen=True)
class Lesson:
    """A training run before it starts: what learns, from which pictures, in which way, with which settings."""

    student: Spec
    choice: Choice
    settings: TrainingSettings
    train: Split
    teaching: Teaching | None = None

    def fingerprint(self) -> list[str]:
        """A checksum of each teacher's weights: a run is the same only if its teachers are."""
        if self.teaching is None:
            return []
        return [checksum(network) for network in self.teaching.networks]

    def start(self, dataset: Dataset) -> Training:
        """A fresh network and everything that trains it. The same seed gives the same network, whatever the method."""
        device.make_repeatable(self.settings.seed)
        device.keep_freed_memory()
        network = networks.build(self.student, len(dataset.classes)).to(self.train.images.device)
        objective = bind(self.choice, self.teaching, network, self.settings.seed)
        return Training(network, objective, self.train, dataset.normalisation, self.settings)


def train_teacher(
    place: Place,
    spec: Spec,
    settings: TrainingSettings,
    output: Path | None = None,
    ensemble: int = 1,
    resume: bool = False,
) -> Result:
    """Train a network on labels alone and save it as the teacher; or several, with seeds that follow each other.

    The result of an ensemble is that of its members' averaged probabilities, and has theirs as ``members``.
    """
    worker = device.select(place.device)
    dataset = data.load(place.dataset, place.data_dir).to(worker)
    first = output or path_for(place.models_dir, dataset.name, Role.teacher)
    paths = [member_path(first, number) for number in range(1, ensemble + 1)]
    for path in paths:
        require_writable(path)
    members, trained, journals = [], [], []
    for number, path in enumerate(paths):
        lesson = Lesson(spec, FROM_LABELS, replace(settings, seed=settings.seed + number), dataset.train)
        result, network, journal = _train(Role.teacher, dataset, lesson, {"method": "labels"}, path, resume)
        members.append(result)
        trained.append(network)
        journals.append(journal)
    for journal in journals:
        journal.remove()
    if ensemble == 1:
        return members[0]
    logits = compute_logits(lambda images: average(trained, images, 1.0), dataset.test.images, dataset.normalisation)
    quality = measure_quality(logits, dataset.test.labels)
    together = {"ensemble": ensemble, "accuracy": quality.accuracy, "error_count": quality.error_count}
    seconds = {"train_seconds": math.fsum(member["train_seconds"] for member in members)}
    return members[0] | {"parameters": ensemble * members[0]["parameters"], **together, **seconds, "members": members}


def distill(
    place: Place,
    spec: Spec,
    settings: TrainingSettings,
    choice: Choice,
    teachers: Sequence[Path] = (),
    ensemble: int = 1,
    budget: LabelBudget | None = None,
    output: Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> Result:
    """Train a student by a method, from teachers' checkpoints or from the ensemble that `train_teacher` saved."""
    budget = budget or LabelBudget()
    require_possible(choice, spec)
    require_labels(choice, budget)
    worker = device.select(place.device)
    given = [load_checkpoint(path, worker) for path in teachers]
    dataset = data.load(follow(given, place.dataset), place.data_dir).to(worker)
    path = output or path_for(place.models_dir, dataset.name, Role.student)
    method: dict[str, Any] = {"method": choice.name.value, **choice.values}
    if budget.fraction < 1:
        method |= {"train_fraction": budget.fraction, "transfer": budget.transfer.value}
    train = choose_labels(dataset.train, budget, settings.seed, teacher=choice != FROM_LABELS)
    lesson = Lesson(spec, choice, settings, train)
    if choice != FROM_LABELS:
        sources = given or find_teachers(place.models_dir, dataset, ensemble)
        require_teachers(choice, spec, sources, dataset)
        require_writable(path)  # before the teachers' pass over all pictures
        method["teachers"] = [str(source.path) for source in sources]
        teaching = Teaching([each.network for each in sources], train, dataset.normalisation, settings.always_new)
        lesson = replace(lesson, teaching=teaching)
    result, _, journal = _train(Role.student, dataset, lesson, method, path, resume, watch)
    journal.remove()
    return result


def require_labels(choice: Choice, budget: LabelBudget) -> None:
    """Refuse to hide labels from a method that is defined by them.

    Raises:
        KdError: dkd was to see pictures without labels.
    """
    if choice.name is MethodName.dkd and budget.fraction < 1 and budget.transfer is Transfer.all:
        raise KdError("dkd needs the label of every picture: use --transfer labelled, or a method such as kd")


def _train(
    role: Role,
    dataset: Dataset,
    lesson: Lesson,
    method: dict[str, Any],
    path: Path,
    resume: bool,
    watch: Watch | None = None,
) -> tuple[Result, networks.Network, Journal]:
    """Train, save the checkpoint, and leave it to the caller to remove the journal once all is done."""
    require_writable(path)
    settings, spec = lesson.settings, lesson.student
    options = asdict(settings) | method
    training = lesson.start(dataset)
    network = training.network
    identity = heading(dataset) | {"role": role.value, "architecture": str(spec), "method": method["method"]}
    journal = Journal(path, identity | options | {"teachers": lesson.fingerprint(), "torch": torch.__version__})
    history = journal.restore(training) if resume else []
    earlier = math.fsum(entry["seconds"] for entry in history)
    start = time.perf_counter()
    watch = watch or Terminal()
    watch.begin(training.total_steps, training.steps_done)
    try:
        with closing(watch):
            for number in range(training.epochs_done + 1, settings.epochs + 1):
                watch.begin_epoch(f"{role.value} {spec}, epoch {number}/{settings.epochs}")
                epoch = training.run_epoch(watch)
                quality = _test(network, dataset)
                history.append(
                    {
                        "epoch": number,
                        "loss": epoch.loss,
                        "accuracy": quality.accuracy,
                        "error_count": quality.error_count,
                        "seconds": epoch.seconds,
                    }
                )
                journal.keep(training, history)
                if not watch.end_epoch(history[-1]):
                    break
    except KeyboardInterrupt:
        raise RunStoppedError(f"stopped; {_kept(journal, history, settings)}") from None
    except KdError as error:
        raise KdError(f"{error}; {_kept(journal, history, settings)}") from None
    seconds = earlier + time.perf_counter() - start
    last = history[-1]
    if len(history) < settings.epochs:
        options["stopped_after"] = len(history)
    metadata = Metadata(
        role=role,
        architecture=str(spec),
        dataset=dataset.name,
        classes=dataset.classes,
        normalisation=dataset.normalisation,
        method=method["method"],
        seed=settings.seed,
        accuracy=last["accuracy"],
        options=options,
    )
    save_checkpoint(path, network, metadata)
    result = heading(dataset) | {
        "role": role.value,
        "seed": settings.seed,
        "architecture": str(spec),
        "parameters": count_parameters(network),
        **method,
        "epochs": len(history),
        "options": options,
        "checkpoint": str(path),
        "test_images": len(dataset.test),
        "accuracy": last["accuracy"],
        "error_count": last["error_count"],
        "train_seconds": seconds,
        "history": history,
    }
    return result, network, journal


def _test(network: networks.Network, dataset: Dataset) -> Quality:
    network.eval()
    logits = compute_logits(network, dataset.test.images, dataset.normalisation)
    return measure_quality(logits, dataset.test.labels)


def _kept(journal: Journal, history: list[Entry], settings: TrainingSettings) -> str:
    """What a run that ends early leaves behind, and how to go on."""
    if not history:
        return "no epoch was complete, so nothing was kept; earlier checkpoints are as they were"
    return (
        f"{journal.path} keeps {len(history)} of {settings.epochs} epochs: "
        "repeat the command with --resume to go on from there"
    )
