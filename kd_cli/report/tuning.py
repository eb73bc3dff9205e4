"""A study as a Rich table, as a CSV file and as a plot."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from kd_cli.commands.results import TunedMethod, TuningResult
from kd_cli.commands.tune_config import FINALISTS, REPEATS
from kd_cli.distillation.methods import LEARNING_RATES, METHODS, OPTION_SYMBOLS, Range, describe_options
from kd_cli.report import as_csv
from kd_cli.report.comparison import (
    P_VALUE,
    POINTS,
    VERDICT,
    add_columns,
    describe_faults,
    describe_origin,
    explain_verdicts,
    fold_measures,
    measures_of,
    print_fitting,
    say_dropped,
)
from kd_cli.report.plots import line_style, new_figure
from kd_cli.report.tables import counted, new_table, open_console, plain, print_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CSV_FIRST = ("dataset", "student", "method")
CSV_LAST = (
    *("validation_accuracy", "accuracy", "std", "difference", "low", "high", "adjusted_p_value", "verdict"),
    *("trials", "epochs", "seconds", "command"),
)

VALIDATION, ACCURACY, TRIALS, SECONDS = "Validation", "Accuracy", "Trials", "Seconds"
COLUMNS = (VALIDATION, ACCURACY, POINTS, P_VALUE, VERDICT, TRIALS, SECONDS)

NARROWER = (
    *((POINTS, 14), (P_VALUE, 6), (VERDICT, 13)),
    *((SECONDS, 0), (TRIALS, 0)),
    *((ACCURACY, 7), (P_VALUE, 0)),
)
"""The steps that make the table narrower, until it fits: a column and the width to fold it to; 0 drops it."""

PLOT_COLUMNS = 3


def print_tuning(result: TuningResult) -> None:
    """One row for each method, tuned, against the tuned baseline; and the command that repeats each."""
    console = open_console()
    dropped = print_fitting(console, lambda widths: _table(result, widths), NARROWER)
    _print_notes(console, result, dropped)


def tuning_title(result: TuningResult) -> str:
    """What was tuned on what, and for how long."""
    seeds, epochs, trials = counted(len(result.seeds), "seed"), counted(result.epochs, "epoch"), result.trials
    return f"Tuned {result.student} on {result.dataset}: {counted(trials, 'trial')} each, {seeds}, {epochs}"


def write_csv(result: TuningResult, path: Path) -> None:
    """Write the table, one line for each method.

    Raises:
        KdError: the file cannot be written.
    """
    options = list(dict.fromkeys(name for row in result.rows for name in row.options))
    rows: list[list[object]] = [[*CSV_FIRST, *options, *CSV_LAST]]
    for row in result.rows:
        difference = row.difference
        low, high = difference.interval if difference and difference.interval else ("", "")
        rows.append(
            [
                *(result.dataset, row.student, row.method),
                *(row.options.get(name, "") for name in options),
                *(row.validation_accuracy, row.mean["accuracy"], row.std["accuracy"]),
                *((difference.mean, low, high) if difference else ("", "", "")),
                *((difference.adjusted_p_value, difference.verdict) if difference else ("", "")),
                *(row.trials, row.epochs, row.seconds, row.command),
            ]
        )
    as_csv.write_rows(path, rows)


def is_our_csv(path: Path) -> bool:
    """Whether a file is what `write_csv` writes, as far as its header tells."""
    return as_csv.has_header(path, CSV_FIRST, CSV_LAST[-1])


def _table(result: TuningResult, widths: Mapping[str, int]) -> Table:
    columns = [name for name in COLUMNS if widths.get(name) != 0]
    table = new_table(tuning_title(result), result.device_name, "Trained with", "Setting", left=2)
    add_columns(table, columns, widths)
    for row in result.rows:
        measures = measures_of(row) | {
            VALIDATION: f"{row.validation_accuracy:.2%}",
            TRIALS: str(row.trials),
            SECONDS: f"{row.seconds:.0f}",
        }
        shown = fold_measures(measures, columns, widths)
        table.add_row(plain(row.method), plain(describe_options(row.options)), *shown)
    return table


def _print_notes(console: Console, result: TuningResult, dropped: list[str]) -> None:
    trials, repeats = sum(row.trials for row in result.rows), sum(row.repeats for row in result.rows)
    epochs, runs = sum(row.epochs for row in result.rows), result.runs
    notes = [
        f"Validation: mean over {REPEATS + 1} seeds, on {counted(result.validation_images, 'training image')} "
        f"set aside. By it the setting was chosen out of {FINALISTS}: those of the best trials with one seed, and that "
        "of the trial in which the teacher counts least. It was then trained on all training images.",
        f"Accuracy: mean ± standard deviation over the seeds, on {counted(result.test_images, 'test image')}.",
        *explain_verdicts(result.rows),
        *([say_dropped(dropped)] if dropped else []),
        *describe_faults(result.rows, lambda row: row.method),
        *describe_origin(result),
        f"{counted(trials, 'trial')} and {counted(repeats, 'repeat')}, {result.trials_carried_out} of them carried out "
        f"now, trained for {epochs:,} of {(trials + repeats) * result.epochs:,} epochs; "
        f"{counted(runs.total, 'run')}, {runs.carried_out} of them carried out now, "
        f"{runs.side_by_side} at a time; {len(result.failed)} failed; kept in {result.results_dir}",
        f"Settings: {result.settings} (kd compare --from-study)",
        "The same rows, one by one:",
        *(row.command for row in result.rows),
    ]
    for note in notes:
        print_line(console, note)


def draw_tuning(result: TuningResult) -> "Figure":
    """Validation accuracy against each option, a mark for each trial; and what a trial costs."""
    options = list(dict.fromkeys(name for row in result.rows for trial in row.search for name in trial.options))
    lines = -(-(len(options) + 1) // PLOT_COLUMNS)
    figure = new_figure(12, 1 + 3.5 * lines, f"{tuning_title(result)}\n{result.device_name}")
    panels = figure.subplots(lines, PLOT_COLUMNS, squeeze=False).flatten().tolist()
    for option, axes in zip(options, panels, strict=False):
        _draw_option(axes, result, option)
    _draw_cost(panels[len(options)], result)
    for axes in panels[len(options) + 1 :]:
        axes.remove()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", title="Trained with", fontsize="small")
    return figure


def _draw_option(axes: "Axes", result: TuningResult, option: str) -> None:
    for number, row in enumerate(result.rows):
        trials = [trial for trial in row.search if option in trial.options and trial.accuracies]
        whole = [trial for trial in trials if trial.state == "complete"]
        style = line_style(number) | {"linestyle": "none"}
        axes.plot(
            [trial.options[option] for trial in whole],
            [100 * trial.accuracies[-1] for trial in whole],
            label=row.method,
            **style,
        )
        stopped = [trial for trial in trials if trial.state != "complete"]
        axes.plot(
            [trial.options[option] for trial in stopped],
            [100 * trial.accuracies[-1] for trial in stopped],
            **style | {"markersize": 3, "alpha": 0.5},
        )
    if all(_range_of(row, option).log for row in result.rows if option in row.options):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.tick_params("x", rotation=45)
        axes.minorticks_off()
    axes.set_xlabel(OPTION_SYMBOLS.get(option, option))
    axes.set_ylabel("Validation accuracy (%)\nsmall: when it was stopped")
    axes.grid(alpha=0.3)


def _range_of(row: TunedMethod, option: str) -> Range:
    return LEARNING_RATES if option == "lr" else METHODS[row.method].ranges.get(option, LEARNING_RATES)


def _draw_cost(axes: "Axes", result: TuningResult) -> None:
    names = [row.method for row in result.rows]
    axes.bar(
        names, [fmean(trial.train_seconds for trial in row.search) for row in result.rows], color="#7f7f7f", hatch="//"
    )
    axes.set_ylabel("Seconds that a trial trains, mean")
    axes.tick_params("x", rotation=45)
    axes.grid(alpha=0.3, axis="y")
