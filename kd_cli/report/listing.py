"""What ``kd list`` found, as Rich tables."""

from typing import TYPE_CHECKING

from kd_cli.commands.listing import DatasetList, LayerList, MethodList, NetworkList
from kd_cli.distillation.methods import describe_options
from kd_cli.report.tables import counted, new_table, open_console, plain, print_line, print_table

if TYPE_CHECKING:  # to import it is to import torch
    from kd_cli.distillation.output_cache import CacheSize


def print_methods(result: MethodList) -> None:
    """A row for each method."""
    console = open_console()
    table = new_table(
        "Methods of distillation: --method NAME",
        "T is --temperature. Methods that read penultimate features or maps also take --student-layer and "
        "--teacher-layer; see kd list layers.",
        *("Method", "Paper", "Equation", "Reads", "Options and defaults"),
        left=5,
    )
    for method in result.methods:
        cells = (method.name, method.paper, method.equation, method.reads, describe_options(method.options))
        table.add_row(*map(plain, cells))
    print_table(console, table)


def print_networks(result: NetworkList) -> None:
    """A row for each kind of network."""
    console = open_console()
    table = new_table(
        "Networks: --arch, --student and --teacher-arch SPEC",
        "kd list layers SPEC shows the layers of one.",
        *("SPEC", "Examples", "What it is"),
        left=3,
    )
    for family in result.networks:
        known = f" ({counted(family.count, 'name')} installed)" if family.count else ""
        table.add_row(*map(plain, (family.spec, ", ".join(family.examples), f"{family.description}{known}")))
    print_table(console, table)


def print_datasets(result: DatasetList) -> None:
    """A row for each data set."""
    console = open_console()
    table = new_table(
        "Data sets: --dataset NAME",
        "Your own images: --dataset FOLDER, with train/CLASS/* and test/CLASS/* in it, or CLASS/*, which is split.",
        *("Data set", "Classes", "", "Shape"),
        left=2,
    )
    for each in result.datasets:
        table.add_row(*map(plain, (each.name, _shorten(each.classes), str(len(each.classes)), as_text(each.shape))))
    print_table(console, table)


def print_layers(result: LayerList) -> None:
    """A row for each layer, and where methods read the network unless told otherwise."""
    console = open_console()
    table = new_table(
        f"Layers of {result.architecture}",
        f"Images of shape {as_text(result.image_shape)}, {result.classes:,} classes. N is the number of images.",
        *("Layer", "Type", "Output", "Read by default"),
        left=4,
    )
    for layer in result.layers:
        shape = "no single tensor" if layer.shape is None else as_text(("N", *layer.shape))
        read = [f"maps: {layer.name}"] if layer.name == result.maps else []
        if result.penultimate in (layer.name, f"input of {layer.name}"):
            read.append(f"penultimate: {result.penultimate}")
        table.add_row(*map(plain, (layer.name, layer.type, shape, ", ".join(read))))
    print_table(console, table)
    for what in ("penultimate", "maps"):
        if getattr(result, what) is None:
            print_line(
                console, f"No {what} by default: methods that read them need --student-layer or --teacher-layer."
            )


def print_cache(result: "CacheSize", cleared: bool) -> None:
    """One line: how much there is, or was."""
    what = f"{counted(result.files, 'file')} of teachers' outputs, {result.size_bytes / 1e6:,.1f} MB"
    print_line(open_console(), f"{'Removed ' if cleared else ''}{what}, in {result.folder}")


def as_text(shape: tuple[object, ...]) -> str:
    """A shape, e.g. 3x32x32."""
    return "x".join(map(str, shape))


def _shorten(names: tuple[str, ...], shown: int = 10) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
