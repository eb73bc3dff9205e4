"""Data sets by name: prepared once, loaded again in milliseconds, and never from a damaged copy."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kd_cli.config import ConfigError, DataConfig, KdError
from kd_cli.data import download
from kd_cli.data.dataset import Dataset, Split
from kd_cli.data.prepared import load, name_of
from tests.conftest import make_dataset
from tests.data.conftest import TEST_IMAGES

posix = pytest.mark.skipif(os.name != "posix", reason="needs a pipe in the file system")


@pytest.fixture
def prepared(tmp_path: Path, raw: Path, no_network: None) -> Path:
    """The prepared copy of the small MNIST in the data folder ``tmp_path``."""
    load(DataConfig("mnist", tmp_path))
    return tmp_path / "MNIST" / "prepared.safetensors"


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix == ".tmp"]


def assert_same(first: Split, second: Split) -> None:
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)


def test_data_come_as_they_were_packed(tmp_path: Path, raw: Path) -> None:
    found, expected = load(DataConfig("mnist", tmp_path)), make_dataset(train=60, test=20)
    assert_same(found.train, expected.train)
    assert_same(found.test, expected.test)
    assert (found.train.images.dtype, found.train.labels.dtype) == (torch.uint8, torch.int64)


def test_data_describe_themselves(tmp_path: Path, raw: Path) -> None:
    dataset = load(DataConfig("mnist", tmp_path))
    pixels = dataset.train.images.double() / 255
    assert dataset.info.name == "mnist"
    assert dataset.info.classes == tuple("0123456789")
    assert dataset.info.shape == (1, 28, 28)
    assert dataset.info.mean == pytest.approx([pixels.mean().item()], abs=1e-4)
    assert dataset.info.std == pytest.approx([pixels.std().item()], abs=1e-4)


def test_prepared_copy_gives_what_was_prepared(tmp_path: Path, raw: Path) -> None:
    first = load(DataConfig("mnist", tmp_path))
    shutil.rmtree(raw)
    second = load(DataConfig("mnist", tmp_path))
    assert first.info == second.info
    assert_same(first.train, second.train)
    assert_same(first.test, second.test)


def test_digest_names_the_content_and_nothing_else(tmp_path: Path, raw: Path, digits: Dataset) -> None:
    first = load(DataConfig("mnist", tmp_path))
    shutil.copytree(tmp_path, tmp_path.with_name("elsewhere"))
    assert load(DataConfig("mnist", tmp_path.with_name("elsewhere"))).info.digest == first.info.digest
    assert first.info.digest != digits.info.digest
    assert len(first.info.digest) == 64


def test_only_the_test_images_are_read_where_no_others_are_asked_for(tmp_path: Path, raw: Path) -> None:
    whole, part = load(DataConfig("mnist", tmp_path)), load(DataConfig("mnist", tmp_path), train=False)
    assert len(part.train) == 0
    assert part.info == whole.info
    assert_same(part.test, whole.test)


def test_prepared_copy_needs_neither_torchvision_nor_the_archives(prepared: Path) -> None:
    shutil.rmtree(prepared.parent / "raw")
    program = (
        "import sys; from pathlib import Path; from kd_cli.config import DataConfig; from kd_cli.data import prepared\n"
        "assert len(prepared.load(DataConfig('mnist', Path(sys.argv[1]))).train) == 60\n"
        "assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, prepared.parents[1]], check=True)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forks")
def test_processes_that_prepare_at_the_same_time_do_not_harm_each_other(
    tmp_path: Path, raw: Path, no_network: None
) -> None:
    context = multiprocessing.get_context("fork")  # with the small MNIST in place
    start = context.Barrier(4)

    def prepare() -> None:
        torch.set_num_threads(1)  # the parent's threads are not there
        start.wait(30)
        assert len(load(DataConfig("mnist", tmp_path)).train) == 60

    processes = [context.Process(target=prepare) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(path.name for path in raw.parent.iterdir()) == ["prepared.safetensors", "raw"]


def test_preparing_leaves_no_unpacked_or_temporary_files(prepared: Path) -> None:
    assert sorted(path.name for path in prepared.parent.iterdir()) == ["prepared.safetensors", "raw"]
    assert all(path.suffix == ".gz" for path in (prepared.parent / "raw").iterdir())


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "another data set"])
def test_damaged_prepared_copy_is_made_again(prepared: Path, damage: str) -> None:
    data_dir, expected = prepared.parents[1], make_dataset(train=60, test=20)
    content = bytearray(prepared.read_bytes())
    content[len(content) // 2] ^= 0xFF
    if damage == "another data set":
        load(DataConfig("digits", data_dir))
        shutil.copy(data_dir / "digits" / "prepared.safetensors", prepared)
    else:
        damaged = {"flip": content, "truncate": content[: len(content) // 2], "empty": bytearray()}
        prepared.write_bytes(damaged[damage])
    assert_same(load(DataConfig("mnist", data_dir)).train, expected.train)
    assert_same(load(DataConfig("mnist", data_dir)).train, expected.train)


@posix
def test_pipe_in_place_of_the_prepared_copy_is_named_and_stays(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    os.mkfifo(tmp_path / "digits" / "prepared.safetensors")
    with pytest.raises(KdError, match=r"prepared\.safetensors: it is not a regular file"):
        load(DataConfig("digits", tmp_path))
    assert (tmp_path / "digits" / "prepared.safetensors").is_fifo()


@posix
def test_pipe_in_place_of_an_archive_is_named(tmp_path: Path, raw: Path, no_network: None) -> None:
    (raw / TEST_IMAGES).unlink()
    os.mkfifo(raw / TEST_IMAGES)
    with pytest.raises(KdError, match=rf"{TEST_IMAGES}: it is not a regular file"):
        load(DataConfig("auto", tmp_path))


def test_prepared_copy_of_version_0_1_is_made_again(tmp_path: Path, raw: Path) -> None:
    """It had images of shape (N, 28, 28), and no digest."""
    from safetensors.torch import save_file

    old = {"train.images": torch.zeros(3, 28, 28), "train.labels": torch.zeros(3)}
    save_file(old, tmp_path / "MNIST" / "prepared.safetensors", {"format": "1", "dataset": "mnist"})
    assert load(DataConfig("mnist", tmp_path)).train.images.shape == (60, 1, 28, 28)


def test_archive_that_is_damaged_leaves_no_prepared_copy(tmp_path: Path, raw: Path, no_network: None) -> None:
    (raw / TEST_IMAGES).write_bytes(b"damaged")
    with pytest.raises(KdError, match=TEST_IMAGES):
        load(DataConfig("mnist", tmp_path))
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]


def test_auto_is_mnist_where_it_can_be_had(tmp_path: Path, raw: Path) -> None:
    assert load(DataConfig("auto", tmp_path)).info.name == "mnist"


def test_auto_says_loudly_that_it_uses_the_bundled_digits_and_why(
    tmp_path: Path, no_network: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(DataConfig("auto", tmp_path)).info.name == "digits"
    assert "could not be downloaded" in caplog.text
    assert "not comparable" in caplog.text


def test_auto_does_not_hide_a_damaged_archive_behind_the_bundled_digits(
    tmp_path: Path, raw: Path, no_network: None
) -> None:
    (raw / TEST_IMAGES).write_bytes(b"damaged")
    with pytest.raises(KdError, match=TEST_IMAGES):
        load(DataConfig("auto", tmp_path))


def test_network_that_swallows_packets_leaves_nothing_behind(
    tmp_path: Path, small_mnist: dict[str, bytes], silent_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    with pytest.raises(download.NoNetworkError):
        load(DataConfig("mnist", tmp_path))
    assert list((tmp_path / "MNIST").iterdir()) == []


def test_folder_that_cannot_be_written_still_serves_its_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "digits").write_text("a file where the folder would be")  # root may write into any folder
    assert len(load(DataConfig("digits", tmp_path)).train) == 1297
    assert "cannot write" in caplog.text


@pytest.mark.parametrize("name", ["", "MNIST", "imagenet", "../digits"])
def test_unknown_name_is_refused_with_those_that_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"mnist, fashion-mnist, kmnist, digits.*, or the path of a folder"):
        load(DataConfig(name, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_auto_is_a_known_name() -> None:
    assert name_of(DataConfig("auto")) == "auto"
