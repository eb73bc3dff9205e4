"""The command line. A command parses, calls one function of `commands`, and hands the result to `report`.

Nothing slow is imported before a command runs, so that help and usage errors appear at once.
"""

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from kd_cli.commands.grid import ComparisonConfig
from kd_cli.commands.reproduce_config import PAPERS, ReproduceConfig
from kd_cli.commands.tune_config import TuneConfig
from kd_cli.config import (
    CacheConfig,
    ClassBiasConfig,
    ConfigError,
    DataConfig,
    DeviceConfig,
    ExportConfig,
    HtmlConfig,
    ImagesConfig,
    KdError,
    LabelConfig,
    LogConfig,
    OutputConfig,
    PageConfig,
    ReportConfig,
    ResultConfig,
    Role,
    RunConfig,
    RunStoppedError,
    RuntimesConfig,
    TeacherConfig,
    TrainingConfig,
)
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.spec import SPEC_HELP, parse_spec
from kd_cli.options import (
    STDOUT,
    ComparisonReportConfig,
    EvaluationReportConfig,
    PredictionConfig,
    StudentNetworkConfig,
    TeacherNetworkConfig,
    TuningReportConfig,
    with_options,
)
from kd_cli.terminal import open_stdout, printable
from kd_cli.training.launch import current_launch
from kd_cli.version import __version__

if TYPE_CHECKING:  # to import it is to import numpy
    from kd_cli.commands.results import FailedRun

# Where Click lies depends on the version of Typer; this names its class in all of them.
UsageError: type[Exception] = typer.BadParameter.__base__  # type: ignore[assignment]

ShownResult = TypeVar("ShownResult")

CheckpointsArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="[CHECKPOINT]...", help="Default: the data set's teacher and student.")
]

IN_SEVERAL_PROCESSES = ("train-teacher", "distill")
"""The commands that torchrun may start several times, to compute together."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

# Plain help: drawing it with Rich doubles the time that `kd --help` takes.
app = typer.Typer(
    name="kd",
    help="Knowledge distillation, measured: a small student network learns from a larger teacher.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
listing = typer.Typer(help="Show methods, networks, data sets, layers.", rich_markup_mode=None)
app.add_typer(listing, name="list")


@app.callback(invoke_without_command=True)
def _kd(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        print(f"kd {__version__}")
        raise typer.Exit


@app.command()
@with_options
def train_teacher(
    network: TeacherNetworkConfig,
    data: DataConfig,
    training: TrainingConfig,
    run: DeviceConfig,
    output: OutputConfig,
    logs: LogConfig,
    shown: ReportConfig,
) -> None:
    """Train a teacher on labels."""
    from kd_cli.commands.checkpoints import member_path
    from kd_cli.commands.train_teacher import train_teacher
    from kd_cli.report import plots
    from kd_cli.report.training import draw_training, print_training

    named = output.output if output.output and output.output.name else None
    members = [member_path(named, number) for number in range(1, network.ensemble + 1)] if named else []
    _prepare_training(shown, logs, *members)
    reports = _given(shown.plot)
    result = train_teacher(
        network.arch, data, training, run, output, network.ensemble, shown.force, network.init, reports, logs
    )
    if current_launch().is_first:
        _show(result, print_training, shown.json)
        plots.save(shown.plot, draw_training, result)


@app.command()
@with_options
def distill(
    teachers: TeacherConfig,
    network: StudentNetworkConfig,
    method: MethodConfig,
    labels: LabelConfig,
    data: DataConfig,
    training: TrainingConfig,
    run: DeviceConfig,
    output: OutputConfig,
    logs: LogConfig,
    shown: ReportConfig,
) -> None:
    """Distil a teacher into a student.

    The default loss is alpha * T^2 * KL(teacher, student) + (1 - alpha) * cross-entropy with the labels.
    """
    from kd_cli.commands.distill import distill
    from kd_cli.commands.job import StudentConfig
    from kd_cli.report import plots
    from kd_cli.report.training import draw_training, print_training

    _prepare_training(shown, logs, output.output)
    role = Role.teacher if network.as_teacher else Role.student
    config = StudentConfig(network.student, method, teachers, labels, data, training, run, network.init, logs, role)
    result = distill(config, output, shown.force, reports=_given(shown.plot))
    if current_launch().is_first:
        _show(result, print_training, shown.json)
        plots.save(shown.plot, draw_training, result)


@app.command()
@with_options
def compare(
    comparison: ComparisonConfig,
    teachers: TeacherConfig,
    labels: LabelConfig,
    data: DataConfig,
    training: TrainingConfig,
    run: DeviceConfig,
    logs: LogConfig,
    shown: ReportConfig,
    table: ComparisonReportConfig,
) -> None:
    """Does it help? Compare methods with labels alone.

    Every student is trained with every method and seed, and compared with the same student and seed from labels.
    """
    from kd_cli.commands.compare import compare
    from kd_cli.files import require_output
    from kd_cli.report import plots
    from kd_cli.report.comparison import draw_comparison, is_our_csv, print_comparison, write_csv

    _prepare_training(shown, logs, table.csv)
    if table.csv:
        require_output(table.csv, is_our_csv, force=shown.force)
    reports = _given(table.csv, shown.plot)
    result = compare(comparison, teachers, labels, data, training, run, logs, reports=reports)
    _show(result, print_comparison, shown.json)
    if table.csv:
        write_csv(result, table.csv)
    plots.save(shown.plot, partial(draw_comparison, cost=table.plot_cost), result)
    _end_with_failures(result.failed)


@app.command()
@with_options
def tune(
    tuning: TuneConfig,
    teachers: TeacherConfig,
    labels: LabelConfig,
    data: DataConfig,
    training: TrainingConfig,
    run: DeviceConfig,
    logs: LogConfig,
    shown: ReportConfig,
    table: TuningReportConfig,
) -> None:
    """Does it help, once both are tuned? Search settings.

    The learning rate and the options of every method, and the learning rate of the baseline, are searched with the same
    number of trials, on training images that are set aside. What is chosen is trained on all training images, and
    compared on the test set, once. Needs the extra tune.
    """
    from kd_cli.commands.tune import tune
    from kd_cli.files import require_output
    from kd_cli.report import plots
    from kd_cli.report.tuning import draw_tuning, is_our_csv, print_tuning, write_csv

    _prepare_training(shown, logs, table.csv)
    if table.csv:
        require_output(table.csv, is_our_csv, force=shown.force)
    reports = _given(table.csv, shown.plot)
    result = tune(tuning, teachers, labels, data, training, run, logs, reports=reports)
    _show(result, print_tuning, shown.json)
    if table.csv:
        write_csv(result, table.csv)
    plots.save(shown.plot, draw_tuning, result)
    _end_with_failures(result.failed)


@app.command()
@with_options
def reproduce(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help=f"One of: {', '.join(PAPERS)}.")],
    config: ReproduceConfig,
    shown: ReportConfig,
) -> None:
    """Measure a paper's results again.

    Every number of the paper stands beside ours, beside the same student from labels, and with the commands behind it.
    """
    from kd_cli.commands.reproduce import reproduce
    from kd_cli.report import plots
    from kd_cli.report.reproduction import draw_reproduction, print_reproduction

    _prepare_training(shown, LogConfig())
    result = reproduce(paper, config)
    _show(result, print_reproduction, shown.json)
    plots.save(shown.plot, draw_reproduction, result)
    _end_with_failures(result.failed)


@app.command()
@with_options
def evaluate(
    data: DataConfig,
    run: RunConfig,
    bias: ClassBiasConfig,
    shown: ReportConfig,
    table: EvaluationReportConfig,
    checkpoints: CheckpointsArgument = None,
) -> None:
    """Measure accuracy, calibration and agreement."""
    from kd_cli.commands.evaluate import evaluate
    from kd_cli.report import plots
    from kd_cli.report.evaluation import draw_evaluation, print_evaluation

    plots.require_ready(shown.plot, shown.force)
    result = evaluate(checkpoints or (), data, run, _given(shown.plot), bias)
    _show(result, partial(print_evaluation, details=table.details, confusion=table.confusion), shown.json)
    plots.save(shown.plot, draw_evaluation, result)


@app.command()
@with_options
def benchmark(
    data: DataConfig,
    run: RunConfig,
    config: RuntimesConfig,
    shown: ReportConfig,
    checkpoints: CheckpointsArgument = None,
) -> None:
    """Measure parameters, MACs, size, latency, throughput.

    Exported files (.onnx) are measured, too.
    """
    from kd_cli.commands.benchmark import benchmark
    from kd_cli.report import plots
    from kd_cli.report.benchmark import draw_benchmark, print_benchmark

    plots.require_ready(shown.plot, shown.force)
    result = benchmark(checkpoints or (), data, run, _given(shown.plot), config.runtimes)
    _show(result, print_benchmark, shown.json)
    plots.save(shown.plot, draw_benchmark, result)
    _end_with_failures(result.failed)


@app.command()
@with_options
def export(
    config: ExportConfig,
    page: HtmlConfig,
    data: DataConfig,
    run: RunConfig,
    shown: ResultConfig,
    checkpoint: Annotated[
        Path | None, typer.Argument(metavar="[CHECKPOINT]", help="Default: the data set's student; see --role.")
    ] = None,
) -> None:
    """Write a network for other programs, or for a browser.

    What was written is run over the test set, and takes its place only if it computes what the original does. ONNX
    needs the extra export.
    """
    from kd_cli.report.export import print_export, print_page

    if page.html:
        from kd_cli.commands.export_page import export_page

        _show(export_page(checkpoint, page, config, data, run, shown.force), print_page, shown.json)
    else:
        from kd_cli.commands.export import export

        _show(export(checkpoint, config, data, run, shown.force), print_export, shown.json)


@app.command()
@with_options
def predict(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Images, of a digit each for MNIST's networks; folders; patterns; - is stdin."
        ),
    ],
    config: PredictionConfig,
    run: RunConfig,
) -> None:
    """Predict what images show.

    Teacher and student predict side by side. No data set is needed.
    """
    from kd_cli.commands.predict import predict
    from kd_cli.files import require_output
    from kd_cli.report import predictions

    csv = None if config.csv == STDOUT else config.csv
    if csv:
        require_output(csv, predictions.is_our_csv, force=config.force)
    result = predict(
        config.dataset,
        run,
        files,
        config.teacher,
        config.student,
        config.top,
        config.labels_from_name,
        config.save_preprocessed,
        config.force,
        keep_seen=config.show,
        every_digit=config.all,
        reports=_given(csv),
        data_dir=config.data_dir,
        model=config.model,
    )
    if config.csv == STDOUT:
        predictions.print_csv(result)
    else:
        _show(result, predictions.print_predictions, config.json)
    if csv:
        predictions.write_csv(result, csv)
    if config.show:
        predictions.print_images(result)
    errors = [image.error for image in result.images if image.error]
    for error in errors:
        _complain(error)
    if errors:
        raise typer.Exit(1)


@app.command("app")
@with_options
def serve_app(
    data: DataConfig,
    page: PageConfig,
) -> None:
    """Draw, upload, compare and train in the browser.

    Needs the extra app.
    """
    from kd_cli.app.serve import serve

    serve(page, data)
    raise KeyboardInterrupt  # the server ends when it is interrupted, and only then


@listing.callback(invoke_without_command=True)
def _list(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@listing.command("methods")
def list_methods(json: JsonOption = False) -> None:
    """Methods: papers, what they read, options."""
    from kd_cli.commands.listing import list_methods
    from kd_cli.report.listing import print_methods

    _show(list_methods(), print_methods, json)


@listing.command("networks")
def list_networks(json: JsonOption = False) -> None:
    """Networks: how they are named."""
    from kd_cli.commands.listing import list_networks
    from kd_cli.report.listing import print_networks

    _show(list_networks(), print_networks, json)


@listing.command("datasets")
def list_datasets(json: JsonOption = False) -> None:
    """Data sets: names, classes, shapes."""
    from kd_cli.commands.listing import list_datasets
    from kd_cli.report.listing import print_datasets

    _show(list_datasets(), print_datasets, json)


@listing.command("layers")
@with_options
def list_layers(
    architecture: Annotated[str, typer.Argument(metavar="SPEC", help=SPEC_HELP)],
    images: ImagesConfig,
    json: JsonOption = False,
) -> None:
    """Layers of a network: names and shapes."""
    from kd_cli.commands.listing import list_layers
    from kd_cli.report.listing import print_layers

    _show(list_layers(parse_spec(architecture), images), print_layers, json)


@listing.command("cache")
@with_options
def list_cache(
    cache: CacheConfig,
    clear: Annotated[bool, typer.Option("--clear", help="Remove them.")] = False,
    json: JsonOption = False,
) -> None:
    """Teachers' outputs on disk: how much they take."""
    from kd_cli.distillation import output_cache
    from kd_cli.report.listing import print_cache

    found = output_cache.clear(cache.cache_dir) if clear else output_cache.describe(cache.cache_dir)
    _show(found, partial(print_cache, cleared=clear), json)


def main(arguments: list[str] | None = None) -> int:
    """Run the program; what a command expects to go wrong becomes one line on stderr and an exit code.

    With ``KD_DEBUG=1`` in the environment the chain of causes follows that line. Of several processes that torchrun
    started, one says it.
    """
    launch = current_launch()
    _prepare_logging(logging.INFO if launch.is_first else logging.CRITICAL)
    if threading.current_thread() is threading.main_thread():
        if launch.size > 1:
            launch.prepare()
        else:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be ended is to be interrupted
    try:
        return _run_command(sys.argv[1:] if arguments is None else arguments)
    except (KeyboardInterrupt, typer.Abort):
        if launch.may_tell():
            _complain("stopped; no file is half written")
        return 130


def _run_command(arguments: list[str]) -> int:
    try:
        _require_alone(arguments)
        with contextlib.redirect_stdout(open_stdout()):
            code = app(arguments or ["--help"], prog_name="kd", standalone_mode=False)
            sys.stdout.flush()
    except UsageError as error:
        message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        return _fail(f"{message}; see {_command_of(arguments)} --help", 2, error)
    except ConfigError as error:
        return _fail(f"{error}; see {_command_of(arguments)} --help", 2, error)
    except RunStoppedError as error:
        return _fail(str(error), 130, error)
    except KdError as error:
        return _fail(str(error), 1, error)
    except (MemoryError, RuntimeError) as error:
        from kd_cli.training.device import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _fail("out of memory: use a smaller architecture or --batch-size, or end other programs", 1, error)
    if code == 130:  # how Typer says that a command was interrupted
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _require_alone(arguments: list[str]) -> None:
    """Refuse to do what would only be done several times."""
    command = _command_of(arguments)
    if current_launch().size > 1 and command != "kd" and command.removeprefix("kd ") not in IN_SEVERAL_PROCESSES:
        raise KdError(f"{command} computes in one process: start it without torchrun")


def run() -> None:
    """The ``kd`` script."""
    code = main()
    # Else the interpreter, as it ends, looks for garbage among all of torch's objects: a fifth of `kd predict`.
    gc.freeze()
    sys.exit(code)


class _NoticeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"kd: {printable(record.getMessage())}"


def _prepare_logging(level: int) -> None:
    notices = logging.StreamHandler(sys.stderr)
    notices.setFormatter(_NoticeFormatter())
    log = logging.getLogger("kd_cli")
    log.handlers = [notices]
    log.setLevel(level)
    # Where there is a CUDA compiler but no GPU, torch warns about it when its own compiler is loaded.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _command_of(arguments: list[str]) -> str:
    known = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}  # type: ignore[union-attr]
    known |= {group.name for group in app.registered_groups}
    return f"kd {arguments[0]}" if arguments and arguments[0] in known else "kd"


def _prepare_training(shown: ReportConfig, logs: LogConfig, *results: Path | None) -> None:
    """Find out before a training that something could not be written, and make the process ready for it.

    ``results`` are files that are written beside the plot.
    """
    from kd_cli.report import plots
    from kd_cli.training import tensorboard
    from kd_cli.training.memory import keep_freed_memory

    _require_apart(shown.plot, *results)
    plots.require_ready(shown.plot, shown.force)
    tensorboard.require_ready(logs.tensorboard)
    keep_freed_memory()


def _given(*files: Path | None) -> list[Path]:
    return [file for file in files if file]


def _require_apart(plot: Path | None, *others: Path | None) -> None:
    """Refuse to write two results to one file: the second would replace the first.

    For some disks ``a.png`` is ``A.png``, and neither need be there yet.
    """

    def place(path: Path) -> str:
        return os.path.realpath(path).casefold()

    if plot and place(plot) in map(place, _given(*others)):
        raise ConfigError(f"two results would go to {plot}: give each its own file")


def _end_with_failures(failed: "Sequence[FailedRun]") -> None:
    """Say which runs came to nothing, and end with exit code 1 if there are any."""
    for failure in failed:
        _complain(f"{failure.run}: {failure.error}")
    if failed:
        raise typer.Exit(1)


def _show(result: ShownResult, print_table: Callable[[ShownResult], None], json: bool) -> None:
    if json:
        from kd_cli.report.as_json import print_json

        print_json(result)
    else:
        print_table(result)


def _fail(message: str, code: int, error: BaseException) -> int:
    if not current_launch().may_tell():
        return code
    _complain(message)
    if os.environ.get("KD_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return code


def _complain(message: str) -> None:
    print(f"kd: {printable(message)}", file=sys.stderr)
