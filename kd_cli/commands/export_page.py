"""``kd export --html``: a page that runs exported networks in a browser."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from kd_cli.commands.export import export
from kd_cli.commands.network_files import require_same_images
from kd_cli.commands.results import PageResult
from kd_cli.config import ConfigError, DataConfig, ExportConfig, ExportFormat, HtmlConfig, KdError, Role, RunConfig
from kd_cli.html.folder import NETWORKS, require_folder, require_images, write_folder
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

    Each network is exported and checked as `export` does it; the page appears when all of them are.

    Args:
        path: the checkpoint; None is the data set's own.
        page: where to write, and whether the teacher is shown, too.
        config: how networks are exported; ``output`` is not for pages.
        data: the data set that the network was trained on.
        run: where networks are.
        force: replace files of these names that are no such page.

    Raises:
        ConfigError: options do not go together.
        KdError: as `export`; or the networks are of different data, or files would be lost.
    """
    folder = page.html
    assert folder is not None  # who calls this has one
    _require_page(page, config)
    require_folder(folder, [path] if path else [], force)
    with TemporaryDirectory() as drafts:
        shown = {config.role: export(path, _to(Path(drafts), config, config.role), data, run)}
        if page.with_teacher:
            own = data if data.dataset != "auto" else replace(data, dataset=shown[config.role].dataset)
            shown[Role.teacher] = export(None, _to(Path(drafts), config, Role.teacher), own, run)
        results = [shown[role] for role in Role if role in shown]
        networks = [OnnxNetwork(Path(result.file)) for result in results]
        _require_one_kind(networks)
        size = write_folder(networks, folder)
    placed = tuple(replace(result, file=str(folder / NETWORKS)) for result in results)
    first = placed[-1]
    return PageResult(first.dataset, first.device, first.device_name, str(folder), size, placed)


def _require_page(page: HtmlConfig, config: ExportConfig) -> None:
    if config.output:
        raise ConfigError("--output: with --html, the page's folder is all that is written; leave one of them out")
    if config.format is not ExportFormat.onnx:
        raise ConfigError(f"--format {config.format.value}: pages run ONNX; leave it out, or leave out --html")
    if page.with_teacher and config.role is Role.teacher:
        raise ConfigError("--with-teacher: leave out --role teacher, so that there is a student beside it")


def _to(drafts: Path, config: ExportConfig, role: Role) -> ExportConfig:
    return replace(config, role=role, output=drafts / f"{role.value}.onnx")


def _require_one_kind(networks: list[OnnxNetwork]) -> None:
    """Refuse networks that cannot share a page.

    Raises:
        KdError: says why.
    """
    first = networks[0].metadata.data
    require_images(first)
    require_same_images(networks)
    if any(network.metadata.data.classes != first.classes for network in networks):
        raise KdError("teacher and student count their classes differently: say with --dataset how the data does")
