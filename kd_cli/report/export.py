"""Exported networks beside their originals, as Rich tables."""

import shlex

from rich.console import Console

from kd_cli.commands.results import ExportResult, PageResult
from kd_cli.config import ExportFormat
from kd_cli.report.tables import counted, new_table, open_console, print_checkpoints, print_line, print_table


def print_export(result: ExportResult) -> None:
    """What was written, how far it differs from the original, and what can be done with it."""
    console = open_console()
    _print_check(console, result)
    print_checkpoints(console, result.dataset, [result.original])
    print_line(console, f"Exported: {result.file}")
    if result.format == ExportFormat.onnx:
        print_line(console, f"Use it: kd predict --model {shlex.quote(result.file)} IMAGE")


def print_page(result: PageResult) -> None:
    """The networks of a page, and how to look at it."""
    console = open_console()
    for network in result.networks:
        _print_check(console, network)
    print_checkpoints(console, result.dataset, [network.original for network in result.networks])
    print_line(console, f"Page: {result.folder}/index.html, {result.size_bytes:,} bytes with all that it needs.")
    print_line(console, "Open it in a browser, or put the folder on any web server.")


def _print_check(console: Console, result: ExportResult) -> None:
    images = counted(result.images, "random image" if result.random_pixels else "test image")
    title = f"{result.original.role.capitalize()} {result.original.architecture} on {result.dataset}, exported"
    table = new_table(f"{title}: {images}", result.device_name, "", "Original", "Exported")
    rows = [
        ("Format", "checkpoint", result.format),
        ("Numbers", result.original.precision, result.precision),
        ("Bytes on disk", f"{result.original_size_bytes:,}", f"{result.size_bytes:,}"),
    ]
    if result.accuracy is not None:
        rows += [
            ("Accuracy", f"{result.original_accuracy:.2%}", f"{result.accuracy:.2%}"),
            ("Errors", f"{result.original_error_count:,}", f"{result.error_count:,}"),
        ]
    for row in rows:
        table.add_row(*row)
    print_table(console, table)
    print_line(console, f"Largest difference of a logit: {result.max_logit_difference:.2g}.")
    same = round(result.agreement * result.images)
    print_line(console, f"Same class predicted for {same:,} of {result.images:,} images.")
