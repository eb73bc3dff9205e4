"""A paper's numbers beside ours, as a Rich table and as a plot."""

from typing import TYPE_CHECKING

from rich.table import Table

from kd_cli.commands.results import Measured, ReadingResult, ReproductionResult, RowResult
from kd_cli.report.plots import line_style, new_figure
from kd_cli.report.tables import counted, new_table, open_console, plain, print_line, print_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOLDS = {True: "yes", False: "no", None: "-"}


def print_reproduction(result: ReproductionResult) -> None:
    """A line for each number, what is claimed of each result, and the commands behind it."""
    console = open_console()
    print_table(console, _table(result))
    for note in _notes(result):
        print_line(console, note)
    shown: set[str] = set()
    for row in result.rows:
        print_line(console, f"{row.name}: {row.says}.")
        if row.claim:
            print_line(console, f"  Claim: {row.claim}: {HOLDS[row.holds]}")
        for command in row.commands:
            if command not in shown:
                print_line(console, f"  {command}")
        shown.update(row.commands)


def reproduction_title(result: ReproductionResult) -> str:
    """Which paper was measured again, on what, and how often."""
    scale = ", smaller networks" if result.quick else ""
    return f"{result.paper}: errors on {result.test_images:,} test images, {counted(len(result.seeds), 'seed')}{scale}"


def _table(result: ReproductionResult) -> Table:
    columns = ("Result", "Number", "Paper", "Ours", "From labels", "Claim holds")
    table = new_table(reproduction_title(result), result.device_name, *columns, left=2)
    for row in result.rows:
        for number, reading in enumerate(row.readings):
            first = number == 0
            table.add_row(
                plain(row.name) if first else "",
                plain(reading.name),
                "-" if reading.paper is None else f"{reading.paper:,}",
                _mean(reading.ours),
                _mean(reading.from_labels),
                HOLDS[row.holds] if first else "",
            )
    return table


def _mean(measured: Measured | None) -> str:
    if measured is None:
        return "-"
    return f"{measured.mean:,.1f}" + ("" if measured.std is None else f" ± {measured.std:,.1f}")


def _notes(result: ReproductionResult) -> list[str]:
    runs = result.runs
    notes = [
        result.reference,
        "Ours: mean ± standard deviation over the seeds. From labels: the same student without a teacher.",
    ]
    for row in result.rows:
        for reading in row.readings:
            if reading.ours and reading.ours.biases:
                fitted = "; ".join(_describe_biases(biases) for biases in reading.ours.biases)
                notes.append(f"{row.name}, {reading.name}: biases fitted to validation images: {fitted}")
    if result.quick:
        notes.append(
            "--quick: the networks are smaller, and students see a fifth of the images: only the directions can be "
            "compared with the paper's."
        )
    notes.append(
        f"{counted(runs.total, 'network')}, {runs.carried_out} of them trained now, {runs.side_by_side} at a time, "
        f"{len(result.failed)} failed; kept in {result.results_dir}"
    )
    return notes


def _describe_biases(biases: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:+.2f}" for name, value in biases.items())


def draw_reproduction(result: ReproductionResult) -> "Figure":
    """The paper's numbers and ours; beside them the errors at each temperature where several were tried."""
    sweeps = [row for row in result.rows if _is_sweep(row)]
    numbers = [(row, reading) for row in result.rows for reading in row.readings if reading.paper is not None]
    title = f"{reproduction_title(result)}\n{result.device_name}"
    figure = new_figure(6.5 * (bool(numbers) + bool(sweeps)), 5, title)
    panels = list(figure.subplots(1, bool(numbers) + bool(sweeps), squeeze=False)[0])
    if numbers:
        _draw_numbers(panels.pop(0), numbers)
    if sweeps:
        _draw_sweeps(panels.pop(0), sweeps)
    return figure


def _is_sweep(row: RowResult) -> bool:
    return len({reading.temperature for reading in row.readings if reading.temperature is not None}) > 1


def _draw_numbers(axes: "Axes", numbers: list[tuple[RowResult, ReadingResult]]) -> None:
    places = range(len(numbers))
    marks = line_style(0) | {"linestyle": "none"}
    axes.plot([reading.paper or 0 for _, reading in numbers], places, label="paper", **marks)
    for number, label in enumerate(("ours", "from_labels"), start=1):
        found = [(place, getattr(reading, label)) for place, (_, reading) in zip(places, numbers, strict=True)]
        shown = [(place, measured) for place, measured in found if measured]
        axes.errorbar(
            [measured.mean for _, measured in shown],
            [place for place, _ in shown],
            xerr=[measured.std or 0 for _, measured in shown],
            capsize=3,
            label=label.replace("_", " "),
            **line_style(number) | {"linestyle": "none"},
        )
    axes.set_yticks(places, [f"{row.name}: {reading.name}" for row, reading in numbers])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="Errors on the test set (images), logarithmic; mean and standard deviation")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _draw_sweeps(axes: "Axes", sweeps: list[RowResult]) -> None:
    for number, row in enumerate(sweeps):
        points = [(each.temperature, each.ours) for each in row.readings if each.temperature and each.ours]
        if not points:
            continue
        axes.errorbar(
            [temperature for temperature, _ in points],
            [measured.mean for _, measured in points],
            [measured.std or 0 for _, measured in points],
            capsize=3,
            label=row.name,
            **line_style(number),
        )
        labels = next((each.from_labels for each in row.readings if each.from_labels), None)
        if labels:
            colour = line_style(number)["color"]
            axes.axhline(labels.mean, color=colour, linestyle=":", label=f"{row.name}, from labels")
    axes.set(xscale="log", yscale="log", xlabel="Temperature, logarithmic")
    axes.set_ylabel("Errors on the test set (images), logarithmic")
    temperatures = sorted({each.temperature for row in sweeps for each in row.readings if each.temperature})
    axes.set_xticks(temperatures, [f"{each:g}" for each in temperatures])
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter("{x:,g}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
