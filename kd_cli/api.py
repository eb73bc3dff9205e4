"""The Python API: the commands as functions, for networks and images that a program has at hand.

All options of a command are keywords: ``epochs=10``, ``temperature=2``, ``augment="flip-crop"``. Nothing is printed.
Nothing is written but ``output``, and prepared copies of folders and downloads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import torch
from torch import nn

from kd_cli.commands import benchmark as benchmark_command
from kd_cli.commands import compare as compare_command
from kd_cli.commands import evaluate as evaluate_command
from kd_cli.commands import export as export_command
from kd_cli.commands import predict as predict_command
from kd_cli.commands import reproduce as reproduce_command
from kd_cli.commands.checkpoints import open_dataset
from kd_cli.commands.grid import ComparisonConfig
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.reproduce_config import ReproduceConfig
from kd_cli.commands.resolve import resolve_student, resolve_teacher
from kd_cli.commands.results import (
    BenchmarkResult,
    ComparisonResult,
    EvaluationResult,
    ExportResult,
    PredictionResult,
    ReproductionResult,
    TrainingResult,
    TuningResult,
)
from kd_cli.commands.training_run import run_job
from kd_cli.commands.tune_config import TuneConfig
from kd_cli.config import (
    ClassBiasConfig,
    Config,
    ConfigError,
    DataConfig,
    ExportConfig,
    KdError,
    LabelConfig,
    OutputConfig,
    Role,
    RunConfig,
    RunStoppedError,
    RuntimesConfig,
    TeacherConfig,
    TrainingConfig,
    require_name,
)
from kd_cli.data import in_memory
from kd_cli.data.dataset import DataInfo
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.checkpoint import for_each_channel, save_checkpoint
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.handed_over import hand_over
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.spec import HANDED_OVER, Spec, parse_spec
from kd_cli.options import make_config
from kd_cli.training.loop import Callback, DivergedError

Network: TypeAlias = str | nn.Module | Callable[[], nn.Module]
"""What is to be trained: a spec; a module, whose copies start with its weights; or a function that makes a fresh one.

Modules take images that are normalised by the data's mean and standard deviation."""

Trained: TypeAlias = str | Path | nn.Module
"""What is trained already: a checkpoint's path, or a module that takes normalised images."""

Data: TypeAlias = str | Path | tuple[in_memory.Part, in_memory.Part]
"""The name of a data set, a folder of images, or what to train on and what to test on: see `in_memory.Part`."""

SHARED = (LabelConfig, DataConfig, TrainingConfig, RunConfig)
_DATA_OPTIONS = frozenset(field.name for field in fields(DataConfig))


@dataclass(frozen=True)
class TrainedNetwork:
    """What came of a training run.

    Attributes:
        classifier: pixels from 0 to 1, (N, C, H, W) -> logits, (N, classes), in evaluation mode. The network itself,
            which takes normalised images, is ``classifier.network``.
        result: what the command would print. Its ``fault`` says why a network is none to use; None if it is.
    """

    classifier: Classifier
    result: TrainingResult

    @property
    def accuracy(self) -> float:
        """On the test set, from 0 to 1."""
        return self.result.accuracy


def train_teacher(
    network: Network = "cnn-32", data: Data = "auto", *, output: str | Path | None = None, **options: Any
) -> TrainedNetwork:
    """Train a network on labels; ``options`` are those of ``kd train-teacher``.

    Raises:
        KdError: something is not there, does not fit, or cannot be written; or the run diverged.
    """
    options["dataset"] = _name(data)
    images, training, run = _configure(options, DataConfig, TrainingConfig, RunConfig)
    return _run(resolve_teacher(_spec(network), images, training, run), output)


def distill(
    student: Network = "mlp-128",
    teacher: Trained | Sequence[Trained] | None = None,
    data: Data = "auto",
    *,
    output: str | Path | None = None,
    **options: Any,
) -> TrainedNetwork:
    """Distil a teacher into a student; ``options`` are those of ``kd distill``.

    Args:
        student: what to train.
        teacher: the data set's teacher by default; several are averaged.
        data: what to train and to test with.
        output: a checkpoint to write, for a student that is a spec.
        options: of the command.

    Raises:
        KdError: something is not there, does not fit, or cannot be written; or the run diverged.
    """
    options["dataset"] = _name(data)
    with _in_files(teacher, Role.teacher, options) as options["teachers"]:
        method, teachers, *shared = _configure(options, MethodConfig, TeacherConfig, *SHARED)
        config = StudentConfig(_spec(student), method, teachers, *shared)
        return _run(resolve_student(config, needs_teacher=False), output)


def compare(
    students: Network | Sequence[Network] = "mlp-128",
    teacher: Trained | Sequence[Trained] | None = None,
    data: Data = "auto",
    *,
    methods: str | Sequence[str] = "kd",
    **options: Any,
) -> ComparisonResult:
    """Does distillation help? Every method beside the same student from labels, with the options of ``kd compare``.

    What was handed over as an object is known to this process alone, so the runs are then carried out in it, one after
    the other. Finished runs are kept only where ``results_dir`` is given.

    Raises:
        KdError: something is not there, or does not fit together; or no run came to an end.
    """
    options |= {"methods": methods, "students": [_spec(student) for student in _listed(students)]}
    with _many_runs(options["students"], teacher, data, options) as options:
        comparison, *shared = _configure(options, ComparisonConfig, TeacherConfig, *SHARED)
        return compare_command.compare(comparison, *shared)


def tune(
    student: Network = "mlp-128",
    teacher: Trained | Sequence[Trained] | None = None,
    data: Data = "auto",
    *,
    methods: str | Sequence[str] = "kd",
    **options: Any,
) -> TuningResult:
    """Does distillation help, once both sides are tuned? With the options of ``kd tune``; otherwise as `compare`.

    Raises:
        KdError: Optuna, the extra "tune", is missing; or something is not there, or does not fit together; or no run
            came to an end.
    """
    from kd_cli.commands.tune import tune  # needs an extra

    kept = "results_dir" in options
    options |= {"methods": methods, "student": _spec(student)}
    with _many_runs([options["student"]], teacher, data, options) as options:
        tuning, *shared = _configure(options, TuneConfig, TeacherConfig, *SHARED)
        result = tune(tuning, *shared)
    return result if kept else replace(result, settings="")


def reproduce(paper: str = "hinton-2015", **options: Any) -> ReproductionResult:
    """Measure a paper's results again; ``options`` are those of ``kd reproduce``, which keeps its networks.

    Raises:
        KdError: there is no such paper, its data set is not there, or no network came to anything.
    """
    return reproduce_command.reproduce(paper, *_configure(options, ReproduceConfig))


def evaluate(
    *networks: Trained, teacher: Trained | None = None, data: Data = "auto", **options: Any
) -> EvaluationResult:
    """Measure the quality of networks on the test set; ``options`` are those of ``kd evaluate``.

    Raises:
        KdError: something is not there, or does not fit together.
    """
    options["dataset"] = _name(data)
    with _in_files(teacher, Role.teacher, options) as first, _in_files(networks, Role.student, options) as others:
        images, run, bias = _configure(options, DataConfig, RunConfig, ClassBiasConfig)
        return evaluate_command.evaluate([*first, *others], images, run, bias=bias)


def benchmark(
    *networks: Trained,
    teacher: Trained | None = None,
    data: Data = "auto",
    runtimes: str | Sequence[str] = (),
    **options: Any,
) -> BenchmarkResult:
    """Measure what it takes to run networks; ``options`` are those of ``kd benchmark``.

    Args:
        networks: checkpoints, exported files and modules.
        teacher: what they are compared with.
        data: whose test images are run.
        runtimes: such as ``torch,onnx``, in which each network is run on the CPU, too. What fails in one of them is in
            the result's ``failed``.
        options: of the command.

    Raises:
        KdError: something is not there, or does not fit together.
    """
    options |= {"dataset": _name(data), "runtimes": runtimes if isinstance(runtimes, str) else ",".join(runtimes)}
    with _in_files(teacher, Role.teacher, options) as first, _in_files(networks, Role.student, options) as others:
        images, run, config = _configure(options, DataConfig, RunConfig, RuntimesConfig)
        return benchmark_command.benchmark([*first, *others], images, run, runtimes=config.runtimes)


def predict(
    *images: str | Path,
    teacher: Trained | None = None,
    student: Trained | None = None,
    data: Data = "auto",
    top: int = 2,
    every_digit: bool = False,
    model: Trained | None = None,
    **options: Any,
) -> PredictionResult:
    """What teacher and student predict for image files; ``options`` are those of ``kd predict`` about networks.

    Of an image that shows several digits, the one with most ink is read, or ``every_digit``. ``model`` predicts alone.

    Raises:
        KdError: there is no such network, or the two take different images.
    """
    options["dataset"] = _name(data)
    with (
        _in_files(teacher, Role.teacher, options) as first,
        _in_files(student, Role.student, options) as second,
        _in_files(model, Role.student, options) as alone,
    ):
        dataset, data_dir = options.pop("dataset"), options.pop("data_dir", DataConfig().data_dir)
        (run,) = _configure(options, RunConfig)
        return predict_command.predict(
            dataset,
            run,
            list(map(str, images)),
            next(iter(first), None),
            next(iter(second), None),
            top,
            every_digit=every_digit,
            data_dir=Path(data_dir),
            model=next(iter(alone), None),
        )


def export(
    network: Trained | None = None, output: str | Path | None = None, data: Data = "auto", **options: Any
) -> ExportResult:
    """Write a network for other programs, checked over the test set; ``options`` are those of ``kd export``.

    Args:
        network: the data set's student by default.
        output: the file to write, which a module needs; it replaces only what ``kd`` wrote.
        data: what the network was trained on.
        options: of the command.

    Raises:
        KdError: the network cannot be exported, or what was exported differs; or a file is not there, or would be lost.
    """
    if isinstance(network, nn.Module) and output is None:
        raise ConfigError("output: say which file to write")
    options |= {"dataset": _name(data), "output": output and Path(output)}
    with _in_files(network, Role.student, options) as paths:
        return export_command.export(next(iter(paths), None), *_configure(options, ExportConfig, DataConfig, RunConfig))


@contextmanager
def _many_runs(students: Sequence[Spec], teacher: Any, data: Data, given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The options of a command that carries out many runs, for as long as it takes."""
    methods = given["methods"]
    options = given | {"dataset": _name(data), "methods": methods if isinstance(methods, str) else ",".join(methods)}
    objects = any(spec.family == HANDED_OVER for spec in students)
    if objects and "results_dir" in options:
        raise ConfigError("results_dir: runs of a network that has no name are not kept; give it as file.py:factory")
    if objects or isinstance(data, tuple) or any(isinstance(each, nn.Module) for each in _listed(teacher)):
        options["jobs"] = 1
    with TemporaryDirectory() as folder, _in_files(teacher, Role.teacher, options) as options["teachers"]:
        yield {"results_dir": folder} | options


def _configure(options: dict[str, Any], *kinds: type[Config]) -> list[Any]:
    names = [field.name for kind in kinds for field in fields(kind)]
    for name in options:
        require_name("option", name, names)
    return [make_config(kind, options) for kind in kinds]


def _name(data: Data) -> str:
    return in_memory.hand_over(*data) if isinstance(data, tuple) else str(data)


def _listed(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]


def _spec(network: Network) -> Spec:
    return parse_spec(network) if isinstance(network, str) else hand_over(network)


@contextmanager
def _in_files(given: Any, role: Role, options: dict[str, Any]) -> Iterator[list[Path]]:
    """The checkpoints of networks, for as long as they are needed; modules are saved, as those of the data in hand."""
    networks = _listed(given)
    with TemporaryDirectory() as folder:
        paths = [
            Path(folder) / f"{type(network).__name__}-{number}.safetensors"
            if isinstance(network, nn.Module)
            else Path(network)
            for number, network in enumerate(networks, start=1)
        ]
        if modules := {path: each for path, each in zip(paths, networks, strict=True) if isinstance(each, nn.Module)}:
            info = _describe_data(options)
            for path, module in modules.items():
                _save(module, path, role, info)
        yield paths


def _describe_data(options: dict[str, Any]) -> DataInfo:
    """What modules are told of the data in hand, with the teacher's own normalisation where that is given."""
    (data,) = _configure({name: options[name] for name in options if name in _DATA_OPTIONS}, DataConfig)
    own: dict[str, Any] = {name: options.pop(name) for name in ("teacher_mean", "teacher_std") if name in options}
    (teacher,) = _configure(own, TeacherConfig)
    info = open_dataset(data, torch.device("cpu"), train=False).info
    mean = for_each_channel(teacher.teacher_mean, info.mean, "--teacher-mean")
    return replace(info, mean=mean, std=for_each_channel(teacher.teacher_std, info.std, "--teacher-std"))


def _save(module: nn.Module, path: Path, role: Role, info: DataInfo) -> None:
    if isinstance(module, Classifier):
        mean, std = (tuple(each.flatten().tolist()) for each in (module.mean, 1 / module.inverse_std))
        module, info = module.network, replace(info, mean=mean, std=std)
    save_checkpoint(path, module, Metadata(role, str(hand_over(module)), info, "unknown", 0, 0.0, {}))


def _run(job: Job, output: str | Path | None) -> TrainedNetwork:
    if output is not None and job.architecture.family == HANDED_OVER:
        raise ConfigError("output: no file can bring back a network that has no name; give it as file.py:factory")
    with TemporaryDirectory() as folder:
        path = Path(output or Path(folder) / "network.safetensors")
        try:
            finished = run_job(job, path, OutputConfig(path), force=output is None, callbacks=[Callback()])
        except (RunStoppedError, KdError) as error:
            if output is None and isinstance(error.__cause__, KeyboardInterrupt | DivergedError):
                raise error.__cause__ from error  # the rest of the message is about files that are gone
            raise
        finished.state.remove()
    result = finished.result if output else replace(finished.result, checkpoint="")
    return TrainedNetwork(finished.classifier.eval(), result)
