"""Predictions as a Rich table, as CSV, and the images that the networks saw, drawn in characters."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.markup import escape
from rich.style import Style
from rich.table import Table
from rich.text import Text

from kd_cli.commands.results import ImagePrediction, Prediction, PredictionResult
from kd_cli.config import Role
from kd_cli.report import as_csv
from kd_cli.report.tables import (
    UNLIMITED,
    counted,
    measure,
    new_table,
    open_console,
    print_checkpoints,
    print_line,
    print_table,
)
from kd_cli.terminal import open_stdout, printable

CSV_FIRST = ("file", "error")
CSV_LAST = "agree"
CSV_OF_DIGITS = ("digits", "digit", "left", "top", "right", "bottom")

INCORRECT = "!"
"""Stands before a prediction that is not the label."""

SHORTEST_NAME = 20
"""Columns that a file's name has on any terminal."""

UNSURE = "?"
"""Stands before predictions for an image that may show none of the classes."""

LAYOUTS = ((", ", UNLIMITED), *(("\n", length) for length in (UNLIMITED, 24, 18, 14, 10)))
"""What stands between the classes of a prediction, and how long their names may be; the first that fits is taken."""


def print_predictions(result: PredictionResult) -> None:
    """What teacher and student predict for each image, the most probable class first."""
    console = open_console()
    longest = max((cell_len(printable(image.file)) for image in result.images), default=0)
    if not console.is_terminal:
        console.width = max(console.width, measure(console, _table(result)).maximum)
    for separator, longest_label in LAYOUTS:
        missing = measure(console, _table(result, UNLIMITED, separator, longest_label)).maximum - console.width
        room = max(SHORTEST_NAME, longest - max(0, missing))
        if longest - room >= missing:
            break
    print_table(console, _table(result, room, separator, longest_label))
    if any(each and each.correct is False for image in result.images for each in (image.teacher, image.student)):
        print_line(console, f"{INCORRECT} marks an incorrect prediction.")
    _print_notes_on_digits(console, result)
    if any(image.unsure for image in result.images):
        print_line(console, f"{UNSURE} not sure: the image may show none of the classes.")
    if any(image.unsure or image.agree is False for image in result.images):
        print_line(console, "What the networks saw: --show draws it, --save-preprocessed DIR keeps it.")
    for role, score in (result.accuracy or {}).items():
        share = "unknown: no image has a label" if score.accuracy is None else f"{score.accuracy:.2%}"
        counts = f"{score.correct:,} of {score.images:,} correct"
        print_line(console, f"{role.capitalize()}'s accuracy {share} ({counts})")
    print_checkpoints(console, result.dataset, result.models)


def _print_notes_on_digits(console: Console, result: PredictionResult) -> None:
    several = len({image.file for image in result.images if _shows_several(image)})
    if result.every_digit:
        print_line(console, "Box: left,top-right,bottom, in pixels of the image.")
        if result.accuracy is not None:
            print_line(console, f"A label is for one digit: images of several digits, here {several:,}, have none.")
    elif several:
        where = counted(several, "image")
        print_line(console, f"Several digits in {where}: the one with most ink was read; --all reads each.")


def _table(
    result: PredictionResult, room: int = UNLIMITED, separator: str = ", ", longest_label: int = UNLIMITED
) -> Table:
    """The table, with at most ``room`` columns for the names of files."""

    def name(label: str) -> str:
        shown = Text(printable(label))
        shown.truncate(longest_label, overflow="ellipsis")
        return escape(shown.plain)

    def rank(prediction: Prediction | None, unsure: bool | None) -> str:
        if prediction is None:
            return "no prediction"
        mark = (INCORRECT if prediction.correct is False else "") + (UNSURE if unsure else "")
        return mark + separator.join(f"{name(each.label)} {each.probability:.1%}" for each in prediction.top)

    table = new_table(f"Predictions of networks trained on {result.dataset}", result.device_name)
    table.add_column("File", no_wrap=True)
    several = any(map(_shows_several, result.images))
    if several or result.every_digit:
        table.add_column("Digit, box" if result.every_digit else "Several digits")
    roles = [model.role for model in result.models]
    for column in (*map(str.capitalize, roles), *(["Agree"] if len(roles) > 1 else [])):
        table.add_column(column)
    if result.accuracy is not None:
        table.add_column("Label")
    for image in result.images:
        cells = [escape(_shorten(printable(image.file), room))]
        if result.every_digit:
            place = [_number(image), "{},{}-{},{}".format(*image.box)] if image.box else ["-"]
            cells.append((" at " if separator == ", " else separator).join(place))
        elif several:
            cells.append(f"read no. {_number(image)}" if _shows_several(image) else "-")
        cells += [rank(getattr(image, role), image.unsure) for role in roles]
        if len(roles) > 1:
            cells.append(_yes_or_no(image.agree) or "-")
        if result.accuracy is not None:
            cells.append(name(image.label or "-"))
        table.add_row(*cells)
    return table


def _shows_several(image: ImagePrediction) -> bool:
    return image.digits is not None and image.digits > 1


def _number(image: ImagePrediction) -> str:
    return "" if image.digits is None else f"{image.digit} of {image.digits}"


def _yes_or_no(known: bool | None) -> str:
    return "" if known is None else "yes" if known else "no"


def _shorten(name: str, room: int) -> str:
    """The end of a name that is too long: the last parts of a path tell most."""
    if cell_len(name) <= room:
        return name
    while cell_len(name) > room - 1:
        name = name[1:]
    return f"…{name}"


def write_csv(result: PredictionResult, path: Path) -> None:
    """Write the same as comma-separated values, one line for each image.

    Raises:
        KdError: the file cannot be written.
    """
    as_csv.write_rows(path, _csv_rows(result))


def print_csv(result: PredictionResult) -> None:
    """Print what `write_csv` writes. A terminal gets names without their control characters, a pipe as they are."""
    stdout = open_stdout()
    as_text = printable if stdout.isatty() else str
    csv.writer(stdout, lineterminator="\n").writerows([as_text(each) for each in row] for row in _csv_rows(result))
    stdout.flush()


def is_our_csv(path: Path) -> bool:
    """Whether a file is what `write_csv` writes, as far as its header tells."""
    return as_csv.has_header(path, CSV_FIRST, CSV_LAST)


def _csv_rows(result: PredictionResult) -> Iterator[list[str]]:
    by_image = [(image.teacher, image.student) for image in result.images]
    ranks = max((len(each.top) for both in by_image for each in both if each), default=1)
    labelled = result.accuracy is not None
    of_digits = any(image.digits is not None for image in result.images)
    columns = [*CSV_FIRST, *(["label"] if labelled else []), *(CSV_OF_DIGITS if of_digits else [])]
    for role in Role:
        for rank in range(1, ranks + 1):
            name = role.value if rank == 1 else f"{role.value}_{rank}"
            columns += [name, f"{name}_confidence"]
    yield [*columns, "unsure", CSV_LAST]
    for image, both in zip(result.images, by_image, strict=True):
        cells = [image.file, image.error or "", *([image.label or ""] if labelled else [])]
        if of_digits:
            place = (image.digits, image.digit, *(image.box or (None,) * 4))
            cells += ["" if each is None else str(each) for each in place]
        for prediction in both:
            top = prediction.top if prediction else ()
            cells += [value for each in top for value in (each.label, f"{each.probability:.6f}")]
            cells += [""] * (2 * (ranks - len(top)))
        yield [*cells, _yes_or_no(image.unsure), _yes_or_no(image.agree)]


def print_images(result: PredictionResult) -> None:
    """What the networks saw, two pixels to a character: in colours if the terminal has them, else black and white."""
    console = open_console()
    blocks = " ▀▄█" if console.encoding.startswith("utf") else " '.#"
    for image in result.images:
        if image.seen is None:
            continue
        print_line(console, f"{image.file}, digit {_number(image)}" if _shows_several(image) else image.file)
        pixels = _fit(image.seen, console.width)
        for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
            line = Text()
            for above, below in zip(upper, lower, strict=True):
                if console.color_system is None:
                    line.append(blocks[(sum(above) > 382) + 2 * (sum(below) > 382)])
                else:
                    line.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
            console.print(line, soft_wrap=True)


def _fit(seen: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """An image in RGB, (rows, columns, 3), of at most ``width`` columns and an even number of rows."""
    step = -(-seen.shape[2] // width)
    colours = seen[:3, ::step, ::step] if len(seen) > 2 else np.repeat(seen[:1, ::step, ::step], 3, axis=0)
    return np.moveaxis(np.pad(colours, ((0, 0), (0, colours.shape[1] % 2), (0, 0))), 0, -1)
