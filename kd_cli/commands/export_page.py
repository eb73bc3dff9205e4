"""``kd export --html``: a page that runs exported networks in a browser."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from kd_cli.commands.export import open_network, write_checked
from kd_cli.commands.inputs import inputs_of
from kd_cli.commands.network_files import require_same_images
from kd_cli.commands.results import PageResult
from kd_cli.config import ConfigError, DataConfig, ExportConfig, ExportFormat, HtmlConfig, KdError, Role, RunConfig
from kd_cli.data.dataset import Dataset
from kd_cli.html.folder import NETWORKS, Shown, require_folder, require_images, write_folder
from kd_cli.networks.checkpoint import Checkpoint
from kd_cli.networks.onnx_file import OnnxNetwork


def export_page(
    path: Path | None,
    page: HtmlConfig,
    config: ExportConfig = ExportConfig(),
    data: DataConfig = DataConfig(),
    run: RunConfig = RunConfig(),
    force: bool = False,
) -> PageResult:
    """Write a folder with a page that runs a network, and its data set's teacher if asked, by itself.

    Each network is exported and checked as `export.export` does it; the page appears when all of them are.

    Args:
        path: the checkpoint; None is the data set's own.
        page: where to write, and whether the teacher is shown, too.
        config: how networks are exported; ``output`` is not for pages.
        data: the data set that the network was trained on.
        run: where networks are.
        force: replace files of these names that are no such page.

    Raises:
        ConfigError: options do not go together.
        KdError: as `export.export`; or the networks are of different data, or files would be lost.
    """
    folder = page.html
    assert folder is not None  # who calls this has one
    _require_page(page, config)
    opened = [open_network(path, config, data, run)]
    if page.with_teacher:
        named = _name_data(path, opened[0][1], data)
        opened.insert(0, open_network(None, replace(config, role=Role.teacher), named, run))
    _require_one_kind([checkpoint for checkpoint, _ in opened])
    require_folder(folder, inputs_of([checkpoint.path for checkpoint, _ in opened], opened[0][1]), force)
    with TemporaryDirectory() as drafts:
        paths = [Path(drafts) / f"{number}.onnx" for number in range(len(opened))]
        results = tuple(
            write_checked(checkpoint, dataset, config, draft, folder / NETWORKS)
            for (checkpoint, dataset), draft in zip(opened, paths, strict=True)
        )
        shown = [Shown(OnnxNetwork(draft), result.accuracy) for draft, result in zip(paths, results, strict=True)]
        size = write_folder(shown, folder)
    first = results[0]
    return PageResult(first.dataset, first.device, first.device_name, str(folder), size, results)


def _require_page(page: HtmlConfig, config: ExportConfig) -> None:
    if config.output:
        raise ConfigError("--output: with --html, the page's folder is all that is written; leave one of them out")
    if config.format is not ExportFormat.onnx:
        raise ConfigError(f"--format {config.format.value}: pages run ONNX; leave it out, or leave out --html")
    if page.with_teacher and config.role is Role.teacher:
        raise ConfigError("--with-teacher: leave out --role teacher, so that there is a student beside it")


def _name_data(path: Path | None, dataset: Dataset | None, data: DataConfig) -> DataConfig:
    """The data set whose teacher is shown beside a checkpoint: the one that this was checked on.

    Raises:
        KdError: it could not be had.
    """
    if path is None or data.dataset != "auto":
        return data
    if dataset is None:
        raise KdError(f"--with-teacher: say with --dataset where the data of {path} is, or leave the option out")
    return replace(data, dataset=dataset.info.name)


def _require_one_kind(networks: Sequence[Checkpoint]) -> None:
    """Refuse networks that cannot share a page.

    Raises:
        KdError: says why.
    """
    first = networks[0].metadata.data
    require_images(first)
    require_same_images(networks)
    if any(network.metadata.data.classes != first.classes for network in networks):
        raise KdError("teacher and student count their classes differently: say with --dataset how the data does")
