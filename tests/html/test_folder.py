"""The folder of a page: what is in it, and that nothing of a user's is lost."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra export: pip install -e '.[export]'")

from kd_cli.config import KdError, Role
from kd_cli.data.dataset import DataInfo
from kd_cli.html.files import RUNTIME, WASM
from kd_cli.html.folder import INDEX, NETWORKS, Shown, require_folder, require_images, write_folder
from kd_cli.networks.metadata import Confidence, Metadata, Typical
from kd_cli.networks.onnx_file import OnnxNetwork
from tests.html.pages import COLOURED, export_fresh

TYPICAL = Typical(((0.5,) * 10, (-0.5,) * 10), least=0.25)
DIGITS = DataInfo("mnist", tuple("0123456789"), (1, 28, 28), (0.13,), (0.31,), digest="")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxNetwork]:
    folder = tmp_path_factory.mktemp("networks")
    metadata = Metadata(Role.student, "mlp-8", DIGITS, "kd", 0, 0.5, {})
    known = replace(metadata, confidence=Confidence(1.5, TYPICAL))
    return {"mnist": export_fresh(DIGITS, known, folder), "things": export_fresh(COLOURED, metadata, folder)}


def read_page(folder: Path) -> dict[str, Any]:
    found = re.fullmatch(r"const PAGE = (.*);\n", (folder / NETWORKS).read_text("utf-8"))
    assert found is not None
    described: dict[str, Any] = json.loads(found[1])
    return described


def test_the_runtime_is_the_one_that_its_readme_names() -> None:
    listed = re.findall(r"^\| `([\w.-]+)`.*\| `([0-9a-f]{64})` \|$", (RUNTIME / "README.md").read_text("utf-8"), re.M)
    contents = {path.name: path.read_bytes() for path in RUNTIME.iterdir()}
    contents[WASM.removesuffix(".gz")] = gzip.decompress(contents[WASM])
    assert {name: hashlib.sha256(contents[name]).hexdigest() for name, _ in listed} == dict(listed)
    assert len(listed) == 3


def test_the_index_asks_for_what_is_in_the_folder_and_for_nothing_else(
    networks: dict[str, OnnxNetwork], tmp_path: Path
) -> None:
    write_folder([Shown(networks["mnist"], 0.99)], tmp_path)
    index = (tmp_path / INDEX).read_text("utf-8")
    asked = set(re.findall(r'(?:src|href)="([^"]+)"', index))
    there = {path.name for path in tmp_path.iterdir()}
    assert {name for name in asked if not name.startswith("data:")} == there - {INDEX, "LICENSE-onnxruntime-web"}
    assert 'class="board"' in index


def test_the_folder_is_small_and_as_large_as_it_says(networks: dict[str, OnnxNetwork], tmp_path: Path) -> None:
    size = write_folder([Shown(networks["mnist"], 0.99)], tmp_path)
    assert size == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 15e6


def test_the_page_knows_the_network(networks: dict[str, OnnxNetwork], tmp_path: Path) -> None:
    network = networks["mnist"]
    write_folder([Shown(network, 0.987)], tmp_path)
    page = read_page(tmp_path)
    assert (page["title"], page["isHandwriting"], page["areDigits"]) == ("Draw a digit", True, True)
    assert (page["shape"], page["classes"]) == ([1, 28, 28], list("0123456789"))
    (described,) = page["networks"]
    assert base64.b64decode(described["onnx"]) == network.path.read_bytes()
    assert (described["role"], described["temperature"]) == ("student", 1.5)
    assert described["typical"] == {"directions": [[0.5] * 10, [-0.5] * 10], "least": 0.25}
    assert "98.70% of the test images correct" in described["about"]
    assert f"{network.path.stat().st_size:,} bytes" in described["about"]


def test_what_nobody_measured_is_not_stated(networks: dict[str, OnnxNetwork], tmp_path: Path) -> None:
    write_folder([Shown(networks["things"], None)], tmp_path)
    page = read_page(tmp_path)
    assert (page["title"], page["isHandwriting"]) == ("Open an image", False)
    assert "test images" not in page["networks"][0]["about"]


def test_a_page_takes_the_place_of_a_page(networks: dict[str, OnnxNetwork], tmp_path: Path) -> None:
    for name in ("mnist", "things"):
        require_folder(tmp_path, [], force=False)
        write_folder([Shown(networks[name], 0.5)], tmp_path)
    assert read_page(tmp_path)["title"] == "Open an image"


@pytest.mark.parametrize("name", [INDEX, "main.js", NETWORKS])
def test_a_file_of_the_users_stays_without_force(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(KdError, match=rf"{name}: it is a file that kd did not write; .*--force"):
        require_folder(tmp_path, [], force=False)
    require_folder(tmp_path, [], force=True)
    with pytest.raises(KdError, match="the command reads it"):
        require_folder(tmp_path, [tmp_path / name], force=True)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("mine")
    with pytest.raises(KdError, match="cannot write"):
        require_folder(tmp_path / "page", [], force=False)


@pytest.mark.parametrize("channels", [2, 4])
def test_images_that_no_browser_has_are_refused(channels: int) -> None:
    with pytest.raises(KdError, match=f"images of 1 or 3 channels, not of {channels}"):
        require_images(replace(COLOURED, shape=(channels, 32, 32)))
