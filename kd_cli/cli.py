"""The command line. A command parses, calls one function, and hands the result to `report`.

Nothing slow is imported before a command runs, so that help and usage errors appear at once.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from kd_cli import __version__
from kd_cli.settings import DatasetName, DeviceName, KdError, Schedule, Spec, TrainingSettings, parse_spec

# Where Click lies depends on the version of Typer; this names its class in all of them.
UsageError: type[Exception] = typer.BadParameter.__base__  # type: ignore[assignment]

# Plain help: drawing it with Rich doubles the time that `kd --help` takes.
app = typer.Typer(
    name="kd",
    help="Knowledge distillation, measured: a small student network learns from a larger teacher.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _architecture(text: str) -> Spec:
    try:
        return parse_spec(text)
    except KdError as error:
        raise typer.BadParameter(str(error)) from None


def _positive(value: float) -> float:
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value} is not a positive number.")
    return value


DEFAULTS = TrainingSettings()

DatasetOption = Annotated[DatasetName, typer.Option(help="Data set; auto is MNIST, or the bundled digits without it.")]
DataDirOption = Annotated[Path, typer.Option(envvar="KD_DATA_DIR", help="Where data sets are kept.")]
ModelsDirOption = Annotated[
    Path, typer.Option(envvar="KD_MODELS_DIR", help="Where checkpoints are kept, a folder for each data set.")
]
DeviceOption = Annotated[DeviceName, typer.Option(help="Where to compute.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Same seed, same machine: same weights.")]
EpochsOption = Annotated[int, typer.Option(min=1, help="Times that every training picture is shown.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Pictures per training step.")]
LrOption = Annotated[float, typer.Option(callback=_positive, help="Peak learning rate of Adam.")]
ScheduleOption = Annotated[Schedule, typer.Option(help="How the learning rate goes down.")]
AugmentOption = Annotated[bool, typer.Option("--augment", help="Move each picture by up to 2 pixels, anew each time.")]
OutputOption = Annotated[Path | None, typer.Option(help="Checkpoint to write, in place of the one in --models-dir.")]
CheckpointsArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="[CHECKPOINT]...", help="Default: the data set's teacher and student.")
]


@app.callback(invoke_without_command=True)
def _kd(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        print(f"kd {__version__}")
        raise typer.Exit


@app.command()
def train_teacher(
    arch: Annotated[Spec, typer.Option(parser=_architecture, metavar="SPEC", help="cnn-N or mlp-N[-M...].")] = "cnn-32",  # type: ignore[assignment]
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
    output: OutputOption = None,
    epochs: EpochsOption = DEFAULTS.epochs,
    batch_size: BatchSizeOption = DEFAULTS.batch_size,
    lr: LrOption = DEFAULTS.lr,
    schedule: ScheduleOption = DEFAULTS.schedule,
    augment: AugmentOption = DEFAULTS.augment,
    seed: SeedOption = DEFAULTS.seed,
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
) -> None:
    """Train a teacher on labels."""
    from kd_cli import recipes, report
    from kd_cli.context import Place

    settings = TrainingSettings(epochs, batch_size, lr, schedule, augment, seed)
    place = Place(dataset, data_dir, models_dir, device)
    _show(recipes.train_teacher(place, arch, settings, output), report.print_training, json)


@app.command()
def distill(
    teacher: Annotated[Path | None, typer.Option(help="Teacher's checkpoint. Default: the data set's teacher.")] = None,
    student: Annotated[
        Spec, typer.Option(parser=_architecture, metavar="SPEC", help="cnn-N or mlp-N[-M...].")
    ] = "mlp-128",  # type: ignore[assignment]
    temperature: Annotated[float, typer.Option(callback=_positive, help="Softness of the teacher's targets.")] = 4.0,
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of the teacher; 0 is the baseline: labels alone.")
    ] = 0.9,
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
    output: OutputOption = None,
    epochs: EpochsOption = DEFAULTS.epochs,
    batch_size: BatchSizeOption = DEFAULTS.batch_size,
    lr: LrOption = DEFAULTS.lr,
    schedule: ScheduleOption = DEFAULTS.schedule,
    augment: AugmentOption = DEFAULTS.augment,
    seed: SeedOption = DEFAULTS.seed,
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
) -> None:
    """Distil a teacher into a student: alpha * T^2 * KL(teacher || student) + (1 - alpha) * cross-entropy."""
    from kd_cli import recipes, report
    from kd_cli.context import Place

    settings = TrainingSettings(epochs, batch_size, lr, schedule, augment, seed)
    place = Place(dataset, data_dir, models_dir, device)
    result = recipes.distill(place, student, settings, temperature, alpha, teacher, output)
    _show(result, report.print_training, json)


@app.command()
def evaluate(
    checkpoints: CheckpointsArgument = None,
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
) -> None:
    """Measure accuracy, calibration and agreement on the test set."""
    from kd_cli import measure, report
    from kd_cli.context import Place

    place = Place(dataset, data_dir, models_dir, device)
    _show(measure.evaluate(place, checkpoints or []), report.print_evaluation, json)


@app.command()
def benchmark(
    checkpoints: CheckpointsArgument = None,
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
) -> None:
    """Measure parameters, MACs, size, latency and throughput, side by side."""
    from kd_cli import measure, report
    from kd_cli.context import Place

    place = Place(dataset, data_dir, models_dir, device)
    _show(measure.benchmark(place, checkpoints or []), report.print_benchmark, json)


@app.command()
def predict(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Pictures, each of one handwritten digit; folders; patterns; - is stdin."
        ),
    ],
    teacher: Annotated[Path | None, typer.Option(help="Teacher's checkpoint. Default: the data set's teacher.")] = None,
    student: Annotated[Path | None, typer.Option(help="Student's checkpoint. Default: the data set's student.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Show this many classes of each reading.")] = 2,
    show: Annotated[bool, typer.Option("--show", help="Draw what the networks saw.")] = False,
    save_preprocessed: Annotated[Path | None, typer.Option(help="Folder for what they saw, as PNG files.")] = None,
    labels_from_name: Annotated[
        bool,
        typer.Option(
            "--labels-from-name", help="Count errors: right is the digit that names the folder or begins the file."
        ),
    ] = False,
    dataset: DatasetOption = DatasetName.auto,
    models_dir: ModelsDirOption = Path("models"),
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values instead of tables.")] = False,
) -> None:
    """Read pictures of digits with teacher and student. Needs no data set."""
    if json + csv + show > 1:
        raise typer.BadParameter("Use one of --json, --csv and --show.")
    from kd_cli import reading, report
    from kd_cli.context import Place

    place = Place(dataset, Path(), models_dir, device)
    result = reading.read_pictures(place, files, teacher, student, top, labels_from_name, save_preprocessed)
    if csv:
        report.print_readings_csv(result)
    else:
        _show(result["pictures"] if json else result, report.print_readings, json)
    if show:
        report.print_pictures(result)
    errors = [picture["error"] for picture in result["pictures"] if picture["error"]]
    for error in errors:
        _complain(error)
    if errors:
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Run the program; what a command expects to go wrong becomes one line on stderr and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(format="kd: %(message)s", stream=sys.stderr)
    logging.getLogger("kd_cli").setLevel(logging.INFO)
    # Where there is a CUDA compiler but no GPU, torch warns about it whenever it first builds an optimiser.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        code = app(arguments or ["--help"], prog_name="kd", standalone_mode=False)
    except UsageError as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "kd"
        _complain(f"{error.format_message().rstrip('.')}; see {command} --help")  # type: ignore[attr-defined]
        return 2
    except KdError as error:
        _complain(str(error))
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        _complain("interrupted; files that were complete are kept as they were")
    return code if isinstance(code, int) else 0


def run() -> None:
    """The ``kd`` script."""
    sys.exit(main())


def _show(result: Any, print_table: Callable[[dict[str, Any]], None], json: bool) -> None:
    from kd_cli import report

    if json:
        report.print_json(result)
    else:
        print_table(result)


def _complain(message: str) -> None:
    print(f"kd: {message}", file=sys.stderr)
