"""The command line. A command parses, calls one function, and hands the result to `report`.

Nothing slow is imported before a command runs, so that help and usage errors appear at once.
"""

import logging
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kd_cli import __version__
from kd_cli.grid import make_grid
from kd_cli.methods import Choice, MethodName, choose, require_possible
from kd_cli.options import (
    DEFAULTS,
    AlphaOption,
    AlphasOption,
    ArchitectureOption,
    AugmentOption,
    BatchSizeOption,
    BetaOption,
    CheckpointsArgument,
    DataDirOption,
    DatasetOption,
    DeviceOption,
    EnsembleOption,
    EpochsOption,
    FractionOption,
    JsonOption,
    LrOption,
    MethodOption,
    MethodsOption,
    ModelsDirOption,
    OutputOption,
    PlotOption,
    ResumeOption,
    ScheduleOption,
    SeedOption,
    StudentsOption,
    TeachersOption,
    TemperatureOption,
    TemperaturesOption,
    TransferOption,
    WarpOption,
    WeightOption,
)
from kd_cli.settings import (
    Cost,
    DatasetName,
    DeviceName,
    KdError,
    LabelBudget,
    RunStoppedError,
    TrainingSettings,
    Transfer,
)

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


def _choose(name: MethodName, options: dict[str, float | None]) -> Choice:
    try:
        return choose(name, options)
    except KdError as error:
        raise typer.BadParameter(str(error)) from None


@app.callback(invoke_without_command=True)
def _kd(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        print(f"kd {__version__}")
        raise typer.Exit


@app.command()
def train_teacher(
    arch: ArchitectureOption = "cnn-32",  # type: ignore[assignment]
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
    output: OutputOption = None,
    ensemble: Annotated[int, typer.Option(min=1, help="Teachers to train, with seeds that follow each other.")] = 1,
    epochs: EpochsOption = DEFAULTS.epochs,
    batch_size: BatchSizeOption = DEFAULTS.batch_size,
    lr: LrOption = DEFAULTS.lr,
    schedule: ScheduleOption = DEFAULTS.schedule,
    augment: AugmentOption = DEFAULTS.augment,
    warp: WarpOption = DEFAULTS.warp,
    seed: SeedOption = DEFAULTS.seed,
    resume: ResumeOption = False,
    plot: PlotOption = None,
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
) -> None:
    """Train a teacher on labels."""
    from kd_cli import plots, recipes, report
    from kd_cli.context import Place

    plots.require_ready(plot)
    settings = TrainingSettings(epochs, batch_size, lr, schedule, augment, seed, warp)
    place = Place(dataset, data_dir, models_dir, device)
    result = recipes.train_teacher(place, arch, settings, output, ensemble, resume)
    _show(result, report.print_training, json)
    plots.save(plot, plots.draw_training, result)


@app.command()
def distill(
    teacher: TeachersOption = None,
    ensemble: EnsembleOption = 1,
    student: ArchitectureOption = "mlp-128",  # type: ignore[assignment]
    method: MethodOption = MethodName.kd,
    temperature: TemperatureOption = None,
    alpha: AlphaOption = None,
    weight: WeightOption = None,
    beta: BetaOption = None,
    train_fraction: FractionOption = 1.0,
    transfer: TransferOption = Transfer.labelled,
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
    output: OutputOption = None,
    epochs: EpochsOption = DEFAULTS.epochs,
    batch_size: BatchSizeOption = DEFAULTS.batch_size,
    lr: LrOption = DEFAULTS.lr,
    schedule: ScheduleOption = DEFAULTS.schedule,
    augment: AugmentOption = DEFAULTS.augment,
    warp: WarpOption = DEFAULTS.warp,
    seed: SeedOption = DEFAULTS.seed,
    resume: ResumeOption = False,
    plot: PlotOption = None,
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
) -> None:
    """Distil a teacher into a student; the default is alpha * T^2 * KL + (1 - alpha) * cross-entropy."""
    options = {"temperature": temperature, "alpha": alpha, "weight": weight, "beta": beta}
    choice = _choose(method, options)
    require_possible(choice, student)
    if teacher and ensemble > 1:
        raise typer.BadParameter("give --teacher or --ensemble, not both.")
    from kd_cli import plots, recipes, report
    from kd_cli.context import Place

    plots.require_ready(plot)
    settings = TrainingSettings(epochs, batch_size, lr, schedule, augment, seed, warp)
    place = Place(dataset, data_dir, models_dir, device)
    budget = LabelBudget(train_fraction, transfer)
    result = recipes.distill(place, student, settings, choice, teacher or [], ensemble, budget, output, resume)
    _show(result, report.print_training, json)
    plots.save(plot, plots.draw_training, result)


@app.command()
def compare(
    methods: MethodsOption = "kd",
    students: StudentsOption = "mlp-128",
    temperatures: TemperaturesOption = "",
    alphas: AlphasOption = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each; their seeds start at --seed.")] = 5,
    teacher: TeachersOption = None,
    ensemble: EnsembleOption = 1,
    train_fraction: FractionOption = 1.0,
    transfer: TransferOption = Transfer.labelled,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time, each with one thread. Default: one per core.")
    ] = None,
    results_dir: Annotated[
        Path, typer.Option(envvar="KD_RESULTS_DIR", help="Where finished runs are kept: none is done twice.")
    ] = Path("results"),
    csv: Annotated[Path | None, typer.Option(help="Write the table there, too.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy against cost there: PNG, SVG or PDF.")] = None,
    plot_cost: Annotated[Cost, typer.Option(help="What --plot takes for cost.")] = Cost.macs,
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
    epochs: EpochsOption = DEFAULTS.epochs,
    batch_size: BatchSizeOption = DEFAULTS.batch_size,
    lr: LrOption = DEFAULTS.lr,
    schedule: ScheduleOption = DEFAULTS.schedule,
    augment: AugmentOption = DEFAULTS.augment,
    warp: WarpOption = DEFAULTS.warp,
    seed: SeedOption = DEFAULTS.seed,
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
) -> None:
    """Did it help? Train every method, student and seed, and compare each with the same student from labels alone."""
    if teacher and ensemble > 1:
        raise typer.BadParameter("give --teacher or --ensemble, not both.")
    lists: tuple[Any, Any, Any, Any] = (methods, students, temperatures, alphas)  # lists, by their callbacks
    try:
        make_grid(*lists)
    except KdError as error:
        raise typer.BadParameter(str(error)) from None
    from kd_cli import plots, report_comparison
    from kd_cli.compare import Comparison
    from kd_cli.compare import compare as carry_out
    from kd_cli.context import Place
    from kd_cli.files import require_writable

    plots.require_ready(plot)
    if csv:
        require_writable(csv)
    settings = TrainingSettings(epochs, batch_size, lr, schedule, augment, seed, warp)
    place = Place(dataset, data_dir, models_dir, device)
    budget = LabelBudget(train_fraction, transfer)
    result = carry_out(
        place, Comparison(*lists, seeds=seeds), settings, budget, results_dir, teacher or [], ensemble, jobs
    )
    _show(result, report_comparison.print_comparison, json)
    if csv:
        report_comparison.write_csv(result, csv)
    plots.save(plot, partial(plots.draw_comparison, cost=plot_cost), result)
    for failure in result["failed"]:
        _complain(f"{failure['run']}: {failure['error']}")
    if result["failed"]:
        raise typer.Exit(1)


@app.command()
def evaluate(
    checkpoints: CheckpointsArgument = None,
    confusion: Annotated[bool, typer.Option("--confusion", help="Show which classes are taken for which.")] = False,
    plot: PlotOption = None,
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
) -> None:
    """Measure accuracy, calibration and agreement on the test set."""
    from kd_cli import measure, plots, plots_quality, report_quality
    from kd_cli.context import Place

    plots.require_ready(plot)
    result = measure.evaluate(Place(dataset, data_dir, models_dir, device), checkpoints or [])
    _show(result, partial(report_quality.print_evaluation, confusion=confusion), json)
    plots.save(plot, plots_quality.draw_evaluation, result)


@app.command()
def benchmark(
    checkpoints: CheckpointsArgument = None,
    plot: PlotOption = None,
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
    device: DeviceOption = DeviceName.auto,
    json: JsonOption = False,
) -> None:
    """Measure parameters, MACs, size, latency and throughput, side by side."""
    from kd_cli import measure, plots, report
    from kd_cli.context import Place

    plots.require_ready(plot)
    result = measure.benchmark(Place(dataset, data_dir, models_dir, device), checkpoints or [])
    _show(result, report.print_benchmark, json)
    plots.save(plot, plots.draw_benchmark, result)


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
    from kd_cli import reading, report_reading
    from kd_cli.context import Place

    place = Place(dataset, Path(), models_dir, device)
    result = reading.read_pictures(place, files, teacher, student, top, labels_from_name, save_preprocessed)
    if csv:
        report_reading.print_readings_csv(result)
    else:
        _show(result["pictures"] if json else result, report_reading.print_readings, json)
    if show:
        report_reading.print_pictures(result)
    errors = [picture["error"] for picture in result["pictures"] if picture["error"]]
    for error in errors:
        _complain(error)
    if errors:
        raise typer.Exit(1)


@app.command("app")
def serve_app(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page listens.")] = 8501,
    host: Annotated[str, typer.Option(help="Its address; 0.0.0.0 lets every machine in that can reach this one.")] = (
        "localhost"
    ),
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    dataset: DatasetOption = DatasetName.auto,
    data_dir: DataDirOption = Path("data"),
    models_dir: ModelsDirOption = Path("models"),
) -> None:
    """Draw digits, upload pictures, compare, and train in the browser. Needs the extra app."""
    from kd_cli.app.serve import serve

    serve(host, port, browser, dataset, data_dir, models_dir)
    raise typer.Exit(130)  # the server ends when it is interrupted, and only then


def main(arguments: list[str] | None = None) -> int:
    """Run the program; what a command expects to go wrong becomes one line on stderr and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    notices = logging.StreamHandler(sys.stderr)
    notices.setFormatter(logging.Formatter("kd: %(message)s"))
    log = logging.getLogger("kd_cli")
    log.handlers, log.level = [notices], logging.INFO
    # Where there is a CUDA compiler but no GPU, torch warns about it when its own compiler is loaded.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be ended is to be interrupted
    try:
        code = app(arguments or ["--help"], prog_name="kd", standalone_mode=False)
    except UsageError as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "kd"
        _complain(f"{error.format_message().rstrip('.')}; see {command} --help")  # type: ignore[attr-defined]
        return 2
    except RunStoppedError as error:
        _complain(str(error))
        return 130
    except KdError as error:
        _complain(str(error))
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        _complain("stopped; files that were complete are as they were")
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
