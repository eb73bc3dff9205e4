"""What was read from pictures -> a Rich table, CSV, and the pictures as the networks saw them."""

import csv
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kd_cli.report import Result, print_line, print_sources

ROLES = ("teacher", "student")


def print_readings(result: Result) -> None:
    """What teacher and student make of each picture, the most probable class first."""
    console = Console()
    table = Table(title=f"Read by networks trained on {result['dataset']}", caption=result["device_name"])
    table.add_column("File", overflow="fold")
    for column in ("Teacher", "Student"):
        table.add_column(column)
    table.add_column("Agree")
    if "accuracy" in result:
        table.add_column("Label")
    for picture in result["pictures"]:
        if picture["error"] is None:
            cells = [_ranking(picture[role]["top"]) for role in ROLES] + ["yes" if picture["agree"] else "no"]
        else:
            cells = ["not read", "not read", "-"]
        if "accuracy" in result:
            cells.append(picture["label"] or "-")
        table.add_row(escape(picture["file"]), *map(escape, cells))
    console.print(table)
    for role, count in result.get("accuracy", {}).items():
        share = (
            f"{count['correct'] / count['pictures']:.2%}" if count["pictures"] else "unknown: no picture has a label"
        )
        print_line(
            console, f"{role.capitalize()}'s accuracy {share} ({count['correct']:,} of {count['pictures']:,} right)"
        )
    print_sources(console, result)


def print_readings_csv(result: Result) -> None:
    """The same as comma-separated values, one line for each picture."""
    ranks = max((len(picture["teacher"]["top"]) for picture in result["pictures"] if not picture["error"]), default=1)
    columns = ["file", "error", *(["label"] if "accuracy" in result else [])]
    for role in ROLES:
        for rank in range(1, ranks + 1):
            name = role if rank == 1 else f"{role}_{rank}"
            columns += [name, f"{name}_confidence"]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*columns, "agree"])
    for picture in result["pictures"]:
        cells = [picture["file"], picture["error"], *([picture["label"]] if "accuracy" in result else [])]
        if picture["error"] is None:
            tops = [each for role in ROLES for each in picture[role]["top"]]
            cells += [value for each in tops for value in (each["label"], f"{each['probability']:.6f}")]
            cells.append("yes" if picture["agree"] else "no")
        writer.writerow(cells + [""] * (len(columns) + 1 - len(cells)))


def print_pictures(result: Result) -> None:
    """What the networks saw, two pixels to a character: in greys on a terminal that has them, else black and white."""
    console = Console()
    blocks = " ▀▄█" if console.encoding.startswith("utf") else " '.#"
    for file, pixels in result["seen"].items():
        print_line(console, file)
        for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
            line = Text()
            for above, below in zip(upper, lower, strict=True):
                if console.color_system is None:
                    line.append(blocks[(above > 127) + 2 * (below > 127)])
                else:
                    line.append("▀", f"rgb({above},{above},{above}) on rgb({below},{below},{below})")
            console.print(line, soft_wrap=True)


def _ranking(top: list[Result]) -> str:
    return ", ".join(f"{each['label']} {each['probability']:.1%}" for each in top)
