"""What ``kd list`` found, as Rich tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from kd_cli.commands.listing import DatasetList, LayerList, ListedLayer, MethodList, NetworkFamily, NetworkList
from kd_cli.config import some_of
from kd_cli.distillation.methods import Range, describe_options
from kd_cli.report.tables import counted, new_table, open_console, plain, print_line, print_table

if TYPE_CHECKING:  # to import it is to import torch
    from kd_cli.distillation.output_cache import CacheSize


def print_methods(result: MethodList) -> None:
    """A row for each method."""
    _print_rows(
        "Methods of distillation: --method NAME",
        "T is --temperature. Methods that read penultimate features or maps also take --student-layer and "
        f"--teacher-layer; see kd list layers. Of each method, kd tune also searches --lr: {result.learning_rates}.",
        ("Method", "Paper", "Equation", "Reads", "Options and defaults", "kd tune searches"),
        (
            (
                *(each.name, each.paper, each.equation, each.reads),
                *(describe_options(each.options), describe_options(_as_texts(each.ranges))),
            )
            for each in result.methods
        ),
    )


def print_networks(result: NetworkList) -> None:
    """A row for each kind of network."""
    _print_rows(
        "Networks: --arch, --student and --teacher-arch SPEC",
        "kd list layers SPEC shows the layers of one.",
        ("SPEC", "Examples", "What it is"),
        ((each.spec, ", ".join(each.examples), _describe_family(each)) for each in result.networks),
    )


def print_datasets(result: DatasetList) -> None:
    """A row for each data set."""
    _print_rows(
        "Data sets: --dataset NAME",
        "Your own images: --dataset FOLDER, with train/CLASS/* and test/CLASS/* in it, or CLASS/*, which is split.",
        ("Data set", "Classes", "", "Shape"),
        (
            (each.name, some_of(each.classes, 10), str(len(each.classes)), as_text(each.shape))
            for each in result.datasets
        ),
        left=2,
    )


def print_layers(result: LayerList) -> None:
    """A row for each layer, and where methods read the network unless told otherwise."""
    _print_rows(
        f"Layers of {result.architecture}",
        f"Images of shape {as_text(result.image_shape)}, {result.classes:,} classes. N is the number of images.",
        ("Layer", "Type", "Output", "Read by default"),
        ((each.name, each.type, _describe_output(each), _describe_use(each, result)) for each in result.layers),
    )
    console = open_console()
    for what in ("penultimate", "maps"):
        if getattr(result, what) is None:
            print_line(
                console, f"No {what} by default: methods that read them need --student-layer or --teacher-layer."
            )


def print_cache(result: "CacheSize", cleared: bool) -> None:
    """One line: how much there is, or was."""
    what = f"{counted(result.files, 'file')} of teachers' outputs, {result.size_bytes / 1e6:,.1f} MB"
    print_line(open_console(), f"{'Removed ' if cleared else ''}{what}, in {result.folder}")


def _as_texts(ranges: Mapping[str, Range]) -> dict[str, str]:
    return {name: str(each) for name, each in ranges.items()}


def as_text(shape: tuple[object, ...]) -> str:
    """A shape, e.g. 3x32x32."""
    return "x".join(map(str, shape))


def _describe_family(family: NetworkFamily) -> str:
    return family.description + (f" ({counted(family.count, 'name')} installed)" if family.count else "")


def _describe_output(layer: ListedLayer) -> str:
    return "no single tensor" if layer.shape is None else as_text(("N", *layer.shape))


def _describe_use(layer: ListedLayer, network: LayerList) -> str:
    read = [f"maps: {layer.name}"] if layer.name == network.maps else []
    if network.penultimate in (layer.name, f"input of {layer.name}"):
        read.append(f"penultimate: {network.penultimate}")
    return ", ".join(read)


def _print_rows(
    title: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: int | None = None
) -> None:
    """A table of texts, all columns aligned to the left but for those after the first ``left``."""
    table = new_table(title, caption, *columns, left=len(columns) if left is None else left)
    for row in rows:
        table.add_row(*map(plain, row))
    print_table(open_console(), table)
