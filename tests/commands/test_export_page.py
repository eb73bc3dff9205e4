"""`kd export --html`: a page appears when all its networks compute what their originals do."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra export: pip install -e '.[export]'")

from kd_cli.commands.export_page import export_page
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import (
    ConfigError,
    DataConfig,
    ExportConfig,
    ExportFormat,
    HtmlConfig,
    KdError,
    OutputConfig,
    Role,
    RunConfig,
    TrainingConfig,
)
from kd_cli.html.folder import INDEX
from kd_cli.networks.spec import parse_spec
from tests.conftest import DATA_DIR, CommandLine, read_json

pytestmark = pytest.mark.slow


@pytest.fixture
def checkpoint(tmp_path: Path, data: DataConfig, run: RunConfig) -> Path:
    path = tmp_path / "mine.safetensors"
    train_teacher(parse_spec("mlp-8"), data, TrainingConfig(epochs=1), run, OutputConfig(path))
    return path


@pytest.mark.usefixtures("trained_teacher")
def test_each_network_is_checked_and_the_teacher_comes_first(
    checkpoint: Path, data: DataConfig, run: RunConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "page"
    result = export_page(checkpoint, HtmlConfig(folder, with_teacher=True), data=data, run=run)
    assert result.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
    teacher, own = result.networks
    assert teacher.original.checkpoint == str(run.models_dir / "digits" / "teacher.safetensors")
    assert own.original.checkpoint == str(checkpoint)
    for network in result.networks:
        assert network.images == 500
        assert network.accuracy == network.original_accuracy
        assert network.max_logit_difference < 1e-4
        assert Path(network.file).parent == folder


@pytest.mark.usefixtures("trained_teacher")
def test_the_teacher_is_that_of_the_checkpoints_own_data(
    checkpoint: Path, data: DataConfig, run: RunConfig, tmp_path: Path
) -> None:
    auto = replace(data, dataset="auto")
    result = export_page(checkpoint, HtmlConfig(tmp_path / "page", with_teacher=True), data=auto, run=run)
    assert [each.dataset for each in result.networks] == ["digits", "digits"]


def test_a_teacher_of_data_that_cannot_be_had_is_refused(
    checkpoint: Path, data: DataConfig, run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd_cli.commands.export.open_dataset", Mock(side_effect=KdError("gone")))
    auto = replace(data, dataset="auto")
    with pytest.raises(KdError, match=r"--with-teacher: say with --dataset where the data of .*mine"):
        export_page(checkpoint, HtmlConfig(tmp_path / "page", with_teacher=True), data=auto, run=run)


def test_no_page_appears_where_a_network_differs(
    checkpoint: Path, data: DataConfig, run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "page"
    monkeypatch.setattr("torch.allclose", Mock(return_value=False))
    with pytest.raises(KdError, match=r"page.networks.js is not written: its logits would differ"):
        export_page(checkpoint, HtmlConfig(folder), data=data, run=run)
    assert not (folder / INDEX).exists()


@pytest.mark.parametrize(
    ("page", "config", "message"),
    [
        ({}, {"format": ExportFormat.pt2}, "--format pt2: pages run ONNX"),
        ({}, {"output": Path("a.onnx")}, "--output: with --html"),
        ({"with_teacher": True}, {"role": Role.teacher}, "--with-teacher: leave out --role teacher"),
    ],
)
def test_options_that_do_not_go_together(
    page: dict[str, bool], config: dict[str, object], message: str, data: DataConfig, run: RunConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        export_page(None, HtmlConfig(tmp_path / "page", **page), ExportConfig(**config), data, run)  # type: ignore[arg-type]


def test_a_teacher_needs_a_page() -> None:
    with pytest.raises(ConfigError, match="--with-teacher: add --html FOLDER"):
        HtmlConfig(with_teacher=True)


def test_a_users_file_is_refused_before_anything_is_exported(
    checkpoint: Path, data: DataConfig, run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / INDEX).write_text("mine")
    monkeypatch.setattr("kd_cli.commands.export_page.write_checked", Mock(side_effect=AssertionError))
    with pytest.raises(KdError, match=f"{INDEX}: it is a file that kd did not write"):
        export_page(checkpoint, HtmlConfig(tmp_path), data=data, run=run)
    assert (tmp_path / INDEX).read_text() == "mine"


def test_the_command_says_how_to_look_at_the_page(kd: CommandLine, shipped: Path) -> None:
    common = ["--data-dir", DATA_DIR, "--models-dir", shipped, "--dataset", "digits", "--html", "page"]
    code, out, err = kd("export", *common, "--with-teacher")
    assert code == 0, err
    assert "Teacher cnn-32 on digits, exported" in out
    assert "Student mlp-128 on digits, exported" in out
    size = sum(path.stat().st_size for path in Path("page").iterdir())
    assert f"Page: page/index.html, {size:,} bytes" in " ".join(out.split())
    result = read_json(kd("export", *common, "--json"))
    assert (result["dataset"], result["folder"]) == ("digits", "page")
    assert [each["original"]["role"] for each in result["networks"]] == ["student"]
