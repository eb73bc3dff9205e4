import gzip
import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from kd_cli import data, download
from kd_cli.batches import MAX_SHIFT, batches
from kd_cli.checkpoint import load_checkpoint
from kd_cli.data import Dataset, Split
from kd_cli.settings import DatasetName, KdError
from tests.conftest import DATA_DIR

TEST_IMAGES = "t10k-images-idx3-ubyte.gz"


@pytest.fixture
def raw(tmp_path: Path, archives: Path) -> Path:
    """A data folder of one's own with MNIST's archives; gives the folder that they lie in."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for archive in archives.glob("*.gz"):
        shutil.copy(archive, folder)
    return folder


@pytest.fixture
def mirror(tmp_path: Path, archives: Path) -> Iterator[tuple[str, Path]]:
    """A server that delivers what lies in a folder, which at first holds MNIST's archives: address and folder."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for archive in archives.glob("*.gz"):
        shutil.copy(archive, folder)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", folder
        server.shutdown()


@pytest.fixture
def prepared(raw: Path, mnist: Dataset) -> Path:
    """A prepared copy of MNIST of one's own, beside the archives."""
    return Path(shutil.copy(DATA_DIR / "MNIST" / "prepared.safetensors", raw.parent))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix == ".tmp"]


def test_mnist_has_its_documented_size(mnist: Dataset) -> None:
    assert (mnist.train.images.shape, mnist.test.images.shape) == ((60_000, 28, 28), (10_000, 28, 28))


def test_mnist_pictures_come_with_their_labels(mnist: Dataset) -> None:
    assert mnist.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # as printed in every introduction to it


def test_normalisation_of_mnist_is_the_well_known_one(mnist: Dataset) -> None:
    assert (mnist.normalisation.mean, mnist.normalisation.std) == (0.1307, 0.3081)


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_normalised_training_pictures_have_zero_mean_and_unit_variance(
    name: str, request: pytest.FixtureRequest
) -> None:
    dataset: Dataset = request.getfixturevalue(name)
    images = dataset.normalisation(dataset.train.images[:5000])
    assert images.mean().item() == pytest.approx(0, abs=0.02)
    assert images.std().item() == pytest.approx(1, abs=0.02)


def test_digits_are_split_in_equal_shares_of_each_class(digits: Dataset) -> None:
    for split, size in ((digits.train, 1297), (digits.test, 500)):
        counts = split.labels.bincount() / size
        assert (counts - torch.from_numpy(load_digits().target).bincount() / 1797).abs().max() < 0.002


def test_digits_keep_their_look_when_they_are_scaled_up(digits: Dataset) -> None:
    """Averaging each picture's middle 20x20 back to 8x8 gives one of the originals, with its own label."""
    originals = torch.from_numpy(load_digits().images).float().flatten(1) / 16
    small = torch.nn.functional.interpolate(
        digits.test.images[:, None, 4:24, 4:24].float() / 255, size=(8, 8), mode="bilinear", antialias=True
    )
    nearest = torch.cdist(small.flatten(1), originals).argmin(1)
    assert (torch.from_numpy(load_digits().target)[nearest] == digits.test.labels).all()


def test_training_and_test_digits_do_not_overlap(digits: Dataset) -> None:
    distances = torch.cdist(digits.test.images.flatten(1).float(), digits.train.images.flatten(1).float())
    assert (distances == 0).sum() == 0


def test_an_epoch_shows_every_picture_once_with_its_label(mnist: Dataset, mnist_slice: Split) -> None:
    epoch = list(batches(mnist_slice, 64, mnist.normalisation, torch.Generator().manual_seed(0)))
    index = torch.cat([batch.index for batch in epoch])
    assert torch.equal(index.sort().values, torch.arange(len(mnist_slice)))
    assert torch.equal(torch.cat([batch.labels for batch in epoch]), mnist_slice.labels[index])
    torch.testing.assert_close(
        torch.cat([batch.images for batch in epoch]), mnist.normalisation(mnist_slice.images[index])
    )


def test_augmentation_moves_each_picture_by_up_to_two_pixels(mnist: Dataset) -> None:
    # One bright pixel in the middle shows where a picture went.
    images = torch.zeros(500, 28, 28, dtype=torch.uint8)
    images[:, 14, 14] = 255
    split = Split(images, torch.zeros(500, dtype=torch.long))
    (batch,) = batches(split, 500, mnist.normalisation, torch.Generator().manual_seed(0), augment=True)
    _, row, column = torch.nonzero(batch.images.squeeze(1) > 0, as_tuple=True)
    seen = set(zip((row - 14).tolist(), (column - 14).tolist(), strict=True))
    steps = range(-MAX_SHIFT, MAX_SHIFT + 1)
    assert seen == {(down, right) for down in steps for right in steps}


def test_warping_changes_every_picture_and_leaves_it_readable(mnist: Dataset, shipped: Path) -> None:
    split = Split(mnist.test.images[:1000], mnist.test.labels[:1000])
    (batch,) = batches(split, 1000, mnist.normalisation, torch.Generator().manual_seed(0), warp=True)
    plain = mnist.normalisation(split.images[batch.index])
    assert (batch.images != plain).flatten(1).any(dim=1).all()
    teacher = load_checkpoint(shipped / "mnist" / "teacher.safetensors", torch.device("cpu")).network
    with torch.no_grad():
        assert (teacher(batch.images).argmax(dim=1) == batch.labels).float().mean() > 0.97


def test_warping_turns_and_scales_within_its_bounds(mnist: Dataset) -> None:
    bar = torch.zeros(400, 28, 28, dtype=torch.uint8)
    bar[:, 4:24, 13:15] = 255
    (batch,) = batches(
        Split(bar, torch.zeros(400)), 400, mnist.normalisation, torch.Generator().manual_seed(0), warp=True
    )
    seen = batch.images.squeeze(1) > 0
    rows = seen.any(dim=2).sum(dim=1)
    columns = seen.any(dim=1).sum(dim=1)
    assert 15 <= rows.min() < 19 < 21 < rows.max() <= 25  # 20 as it was; scale, stretch and blur
    assert columns.min() <= 4  # upright still occurs
    assert 5 < columns.max() <= 13  # and so does a turn of 12 degrees with a slant


def test_prepared_copy_needs_neither_torchvision_nor_the_archives(prepared: Path) -> None:
    shutil.rmtree(prepared.parent / "raw")
    program = (
        "import sys; from pathlib import Path; from kd_cli import data; from kd_cli.settings import DatasetName;"
        "d = data.load(DatasetName.mnist, Path(sys.argv[1])); assert len(d.train) == 60_000;"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, prepared.parents[1]], check=False).returncode == 0


def test_processes_that_prepare_at_the_same_time_do_not_harm_each_other(raw: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from kd_cli import data; from kd_cli.settings import DatasetName;"
        "assert len(data.load(DatasetName.mnist, Path(sys.argv[1])).train) == 60_000"
    )
    command = [sys.executable, "-c", program, str(raw.parents[1])]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert sorted(path.name for path in raw.parent.iterdir()) == ["prepared.safetensors", "raw"]


def test_preparing_leaves_no_unpacked_or_temporary_files(raw: Path) -> None:
    data.load(DatasetName.mnist, raw.parents[1])
    assert sorted(path.name for path in raw.parent.iterdir()) == ["prepared.safetensors", "raw"]
    assert all(path.suffix == ".gz" for path in raw.iterdir())


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_damaged_prepared_copy_is_made_again(prepared: Path, mnist: Dataset, damage: str) -> None:
    content = bytearray(prepared.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged = {"flip": content, "truncate": content[: len(content) // 2], "empty": bytearray()}
    prepared.write_bytes(damaged[damage])
    again = data.load(DatasetName.mnist, prepared.parents[1])
    assert torch.equal(again.train.images, mnist.train.images)


@pytest.mark.parametrize("damage", ["truncated", "corrupt", "swapped"])
def test_damaged_archive_is_named_where_no_sound_copy_can_be_had(raw: Path, no_network: None, damage: str) -> None:
    archive = raw / TEST_IMAGES
    content = archive.read_bytes()
    labels = (raw / "t10k-labels-idx1-ubyte.gz").read_bytes()
    corrupt = content[:-100] + bytes(100)
    archive.write_bytes({"truncated": content[:1000], "corrupt": corrupt, "swapped": labels}[damage])
    with pytest.raises(KdError, match=TEST_IMAGES):
        data.load(DatasetName.mnist, raw.parents[1])
    assert not (raw.parent / "prepared.safetensors").exists()


def test_damaged_archive_is_replaced_by_a_sound_download(raw: Path, mirror: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = mirror
    (raw / TEST_IMAGES).write_bytes(b"damaged")
    staging = tmp_path / "staging"
    staging.mkdir()
    download.prepare("MNIST", raw, staging, mirrors=[address])
    assert (raw / TEST_IMAGES).read_bytes() == (folder / TEST_IMAGES).read_bytes()


def test_download_brings_the_archives(tmp_path: Path, mirror: tuple[str, Path]) -> None:
    address, folder = mirror
    (tmp_path / "staging").mkdir()
    download.prepare("MNIST", tmp_path / "raw", tmp_path / "staging", mirrors=[address])
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {path.name for path in folder.iterdir()}


def test_download_that_is_cut_off_leaves_nothing_that_could_be_taken_for_complete(
    tmp_path: Path, mirror: tuple[str, Path]
) -> None:
    address, folder = mirror
    (folder / TEST_IMAGES).write_bytes((folder / TEST_IMAGES).read_bytes()[:1000])
    (tmp_path / "staging").mkdir()
    with pytest.raises(download.NoNetworkError):
        download.prepare("MNIST", tmp_path / "raw", tmp_path / "staging", mirrors=[address])
    assert not (tmp_path / "raw").exists()


def test_network_that_swallows_packets_is_given_up(
    tmp_path: Path, silent_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 1.0)
    with pytest.raises(download.NoNetworkError, match="no answer"):
        data.load(DatasetName.mnist, tmp_path)
    assert leftovers(tmp_path) == []


def test_auto_says_loudly_that_it_uses_the_bundled_digits_and_why(
    tmp_path: Path, no_network: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert data.load(DatasetName.auto, tmp_path).name is DatasetName.digits
    assert "could not be downloaded" in caplog.text
    assert "not comparable" in caplog.text


def test_auto_does_not_hide_a_damaged_archive_behind_the_bundled_digits(raw: Path, no_network: None) -> None:
    (raw / TEST_IMAGES).write_bytes(gzip.compress(b"not MNIST"))
    with pytest.raises(KdError, match=TEST_IMAGES):
        data.load(DatasetName.auto, raw.parents[1])


def test_folder_that_cannot_be_written_still_serves_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "digits").write_text("a file where the folder would be")  # root may write into any folder
    assert len(data.load(DatasetName.digits, tmp_path).train) == 1297
    assert "cannot write" in caplog.text
