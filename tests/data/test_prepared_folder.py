"""Folders as data sets: decoded once, mapped after that, and made again when their files change."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kd_cli.config import ConfigError, DataConfig, KdError
from kd_cli.data import prepared_file, prepared_folder
from kd_cli.data.dataset import Dataset, Split
from kd_cli.data.prepared import files_of, load, name_of
from tests.data.images import make_folder, noise, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of ten images, 24 x 40, in colour."""
    return make_folder(tmp_path / "images")


def config(folder: Path, **options: object) -> DataConfig:
    return DataConfig(str(folder), folder.parent / "data", **options)  # type: ignore[arg-type]


def contents(*splits: Split | None) -> list[tuple[int, bytes]]:
    return sorted(
        (int(label), image.numpy().tobytes())
        for split in splits
        if split is not None
        for image, label in zip(split.images, split.labels, strict=True)
    )


def expected(folder: Path) -> list[tuple[int, bytes]]:
    names = sorted(path.name for path in folder.iterdir())
    return sorted(
        (names.index(path.parent.name), np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes())
        for path in folder.glob("*/*")
    )


def splits(dataset: Dataset) -> tuple[int, int, int]:
    return len(dataset.train), len(dataset.validation or ()), len(dataset.test)


def prepared_files(folder: Path) -> list[Path]:
    return sorted((folder.parent / "data").rglob("*.safetensors"))


def test_every_image_is_in_one_split_as_its_file_is_decoded(folder: Path) -> None:
    dataset = load(config(folder))
    assert contents(dataset.train, dataset.validation, dataset.test) == expected(folder)
    assert dataset.info.shape == (3, 24, 40)
    assert dataset.info.classes == ("class 0", "class 1", "class 2")
    assert (dataset.train.images.dtype, dataset.train.labels.dtype) == (torch.uint8, torch.int64)


def test_mapped_again_it_is_the_same(folder: Path) -> None:
    first, second = load(config(folder)), load(config(folder))
    assert first.info == second.info
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(first, split).images, getattr(second, split).images)
        assert torch.equal(getattr(first, split).labels, getattr(second, split).labels)


def test_later_uses_decode_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(config(folder))
    monkeypatch.setattr(prepared_folder, "decode", None)
    assert load(config(folder)).info == first.info


def test_data_describe_themselves(folder: Path) -> None:
    dataset = load(config(folder, validation_fraction=0))
    pixels = dataset.train.images.double() / 255
    assert dataset.info.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert dataset.info.std == pytest.approx(pixels.transpose(0, 1).flatten(1).std(1).tolist(), abs=1e-4)
    assert len(dataset.info.digest) == 64


def test_splits_are_equal_shares_of_each_class(folder: Path) -> None:
    dataset = load(config(folder))
    assert splits(dataset) == (21, 3, 6)
    assert dataset.validation is not None
    for split in (dataset.train, dataset.validation, dataset.test):
        assert len(set(split.labels.bincount().tolist())) == 1


@pytest.mark.parametrize(
    ("options", "sizes"), [({"test_fraction": 0.5}, (12, 3, 15)), ({"validation_fraction": 0}, (24, 0, 6))]
)
def test_fractions_decide_the_sizes(folder: Path, options: dict[str, float], sizes: tuple[int, int, int]) -> None:
    assert splits(load(config(folder, **options))) == sizes


def test_digest_names_what_is_tested_with_but_not_what_is_validated_with(folder: Path) -> None:
    first = load(config(folder)).info.digest
    assert load(config(folder, validation_fraction=0.3)).info.digest == first
    assert load(config(folder, test_fraction=0.3)).info.digest != first
    assert load(config(folder, image_size=8)).info.digest != first


def test_parts_of_a_divided_folder_stay_what_they_are(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        make_folder(root / part, each=count)
    dataset = load(config(root))
    assert splits(dataset) == (12, 6, 9)
    assert contents(dataset.train) == expected(root / "train")
    assert contents(dataset.validation) == expected(root / "val")
    assert contents(dataset.test) == expected(root / "test")
    with pytest.raises(ConfigError, match="validation part of its own"):
        load(config(root, validation_fraction=0.1))


def test_images_are_backed_by_the_file_and_parts_are_views_of_it(folder: Path) -> None:
    dataset = load(config(folder))
    assert dataset.validation is not None
    place = dataset.test.images.data_ptr()
    for split in (dataset.validation, dataset.train):
        assert 0 < split.images.data_ptr() - place < 30 * 3 * 24 * 40 + 1000
    maps = Path("/proc/self/maps")
    if maps.exists():
        inside = [line for line in maps.read_text().splitlines() if str(prepared_files(folder)[0]) in line]
        start, end = (int(part, 16) for part in inside[0].split()[0].split("-"))
        assert start <= place < end


def test_writing_to_an_image_does_not_change_the_file(folder: Path) -> None:
    first = load(config(folder))
    before = prepared_files(folder)[0].read_bytes()
    first.test.images.zero_()
    assert prepared_files(folder)[0].read_bytes() == before


def test_prepared_file_is_plain_safetensors(folder: Path) -> None:
    dataset = load(config(folder, validation_fraction=0))
    tensors = load_file(prepared_files(folder)[0])
    assert torch.equal(tensors["train.images"], dataset.train.images)
    assert torch.equal(tensors["test.labels"], dataset.test.labels)


@pytest.mark.parametrize(("classes", "channels"), [(2, 3), (37, 1)])
def test_any_number_of_classes_and_grey(tmp_path: Path, classes: int, channels: int) -> None:
    dataset = load(config(make_folder(tmp_path / "images", classes, 4, channels=channels)))
    assert len(dataset.info.classes) == classes
    assert dataset.info.shape == (channels, 24, 40)
    assert set(dataset.train.labels.tolist()) == set(dataset.test.labels.tolist()) == set(range(classes))


def test_more_classes_than_a_byte_can_count(tmp_path: Path) -> None:
    dataset = load(config(make_folder(tmp_path / "images", 300, 3, 4, 4, 1)))
    assert dataset.test.labels.max() == 299


def test_sample_that_misleads_is_put_right(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image of colour among grey ones of two sizes, where the sample has but the rarer size."""
    root = folder.parent / "mixed"
    save(root / "a" / "0.png", noise(0, 8, 8, 1))
    for number in range(1, 10):
        save(root / "ab"[number % 2] / f"{number}.png", noise(number, 10, 6, 1))
    save(root / "b" / "colour.png", noise(11, 10, 6))
    monkeypatch.setattr("kd_cli.data.images.SAMPLE", 1)
    assert load(config(root)).info.shape == (3, 10, 6)


@pytest.mark.parametrize("change", ["other pixels", "new image", "no image"])
def test_prepared_file_is_stale_when_the_folder_changes(folder: Path, change: str) -> None:
    before = load(config(folder))
    file = folder / "class 0" / "0.png"
    if change == "other pixels":
        save(file, noise(99))
        os.utime(file, (1, 1))
    elif change == "new image":
        save(folder / "class 0" / "new.png", noise(99))
    else:
        file.unlink()
    after = load(config(folder))
    assert contents(after.train, after.validation, after.test) == expected(folder)
    assert after.info.digest != before.info.digest
    assert after.info.name == before.info.name
    assert len(prepared_files(folder)) == 1


def test_options_have_prepared_files_of_their_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = load(config(folder, image_size=8))
    assert small.info.shape == (3, 8, 8)
    load(config(folder))
    monkeypatch.setattr(prepared_folder, "decode", None)
    assert load(config(folder, image_size=8)).info == small.info


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "text"])
def test_damaged_prepared_file_is_made_again(folder: Path, damage: str) -> None:
    first = load(config(folder)).info
    (file,) = prepared_files(folder)
    content = bytearray(file.read_bytes())
    content[-30_000] ^= 0xFF
    damaged: dict[str, bytes | bytearray] = {
        "flip": content,
        "truncate": content[:-100],
        "empty": b"",
        "text": b"no file of mine" * 100,
    }
    file.write_bytes(damaged[damage])
    assert load(config(folder)).info == first
    assert contents(load(config(folder)).test) == contents(load(config(folder)).test)


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe in the file system")
def test_pipe_among_the_prepared_files_is_named(folder: Path) -> None:
    info = load(config(folder)).info
    (file,) = prepared_files(folder)
    file.unlink()
    os.mkfifo(file)
    for dataset in (str(folder), info.name):
        with pytest.raises(KdError, match=rf"{file.name}: it is not a regular file"):
            load(DataConfig(dataset, folder.parent / "data"))


def test_labels_of_a_file_too_large_to_check_whole_are_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared_file, "ALWAYS_CHECKED", 1000)
    expected = load(config(folder))
    (file,) = prepared_files(folder)
    content = bytearray(file.read_bytes())
    content[-8] ^= 1  # a label of training
    file.write_bytes(content)
    assert torch.equal(load(config(folder)).train.labels, expected.train.labels)


def test_nothing_is_written_into_the_folder(folder: Path) -> None:
    folder.chmod(0o500)
    before = sorted(folder.rglob("*"))
    load(config(folder))
    assert sorted(folder.rglob("*")) == before
    folder.chmod(0o700)


def test_images_that_cannot_be_read_are_refused_with_a_few_names(folder: Path) -> None:
    for number in range(5):
        (folder / "class 1" / f"{number}.png").write_text("no image")
    with pytest.raises(
        KdError, match=r"5 images cannot be read: class 1/\d.png, .*, \.\.\.; .*--skip-unreadable"
    ) as caught:
        load(config(folder))
    assert str(caught.value).count(".png") == 3
    assert prepared_files(folder) == []


def test_images_that_cannot_be_read_are_left_out_with_a_notice(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        (folder / "class 1" / f"{number}.png").write_text("no image")
    dataset = load(config(folder, skip_unreadable=True))
    assert sum(splits(dataset)) == 25
    assert "left out 5 images" in caplog.text
    for number in range(5):
        (folder / "class 1" / f"{number}.png").touch()
    with pytest.raises(KdError, match="5 images cannot be read"):  # without the option a prepared file does not help
        load(config(folder))


def test_class_of_which_no_image_can_be_read_is_refused(folder: Path) -> None:
    for path in (folder / "class 1").iterdir():
        path.write_text("no image")
    with pytest.raises(KdError, match="no image of 'class 1'"):
        load(config(folder, skip_unreadable=True))


def test_class_with_one_image_is_refused(folder: Path) -> None:
    save(folder / "rare" / "1.png", noise(0))
    with pytest.raises(ConfigError, match=r"--test-fraction 0\.2 leaves none of the 1 images of 'rare'"):
        load(config(folder))


def test_other_files_are_told_of_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "class 1" / "notes.txt").touch()
    load(config(folder))
    assert "1 .txt" in caplog.text
    caplog.clear()
    load(config(folder))
    assert caplog.text == ""


def test_disk_that_is_too_small_is_one_line_and_nothing_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(KdError, match=r"cannot write .*: No space left on device; choose another place or"):
        load(config(folder))
    assert [path for path in (folder.parent / "data").rglob("*") if path.is_file()] == []


def test_data_folder_that_cannot_be_written_is_one_line(folder: Path) -> None:
    (folder.parent / "data").write_text("a file where the folder would be")
    with pytest.raises(KdError, match="cannot write"):
        load(config(folder))


def test_interrupt_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepared_folder, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(config(folder))
    assert [path for path in (folder.parent / "data").rglob("*") if path.is_file()] == []


def test_folder_is_known_by_the_name_in_its_checkpoints_once_it_was_prepared(folder: Path) -> None:
    info = load(config(folder)).info
    by_name = DataConfig(info.name, folder.parent / "data")
    assert load(by_name).info == info
    assert name_of(by_name) == name_of(config(folder)) == info.name
    shutil.rmtree(folder)
    with pytest.raises(ConfigError, match="not there any more: give its path"):
        load(by_name)


def test_name_of_two_folders_is_refused(folder: Path) -> None:
    info = load(config(folder)).info
    again = shutil.copytree(folder, folder.parent / "again" / folder.name)
    load(DataConfig(str(again), folder.parent / "data"))
    with pytest.raises(ConfigError, match=f"{info.name} may be any of .*: give its path"):
        load(DataConfig(info.name, folder.parent / "data"))


def test_slip_of_a_name_is_answered_with_names_and_a_word_of_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean mnist\?.*, or the path of a folder of images"):
        load(DataConfig("mnits", tmp_path))


@pytest.mark.parametrize("options", [{"image_size": 32}, {"test_fraction": 0.3}, {"skip_unreadable": True}])
def test_options_of_folders_are_refused_elsewhere(tmp_path: Path, options: dict[str, object]) -> None:
    flag = next(iter(options)).replace("_", "-")
    with pytest.raises(ConfigError, match=f"--{flag} is for folders"):
        load(DataConfig("digits", tmp_path, **options))  # type: ignore[arg-type]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_folder(tmp_path: Path) -> None:
    """Anonymous memory, while 150 MB of images are mapped and walked over."""
    root = make_folder(tmp_path / "images", 2, 5, 64, 64)
    for number in range(12_000):
        os.link(root / f"class {number % 2}" / "0.png", root / f"class {number % 2}" / f"copy {number}.png")
    program = (
        "import sys; from pathlib import Path; from kd_cli.config import DataConfig; from kd_cli.data import prepared\n"
        "def anonymous():\n"
        "    return int(Path('/proc/self/status').read_text().split('RssAnon:')[1].split()[0]) / 1000\n"
        "before = anonymous()\n"
        "data = prepared.load(DataConfig(sys.argv[1], Path(sys.argv[2])))\n"
        "assert sum(int(part.images.sum()) for part in (data.train, data.validation, data.test)) > 0\n"
        "print(anonymous() - before)"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    done = subprocess.run([sys.executable, "-c", program, root, tmp_path / "data"], capture_output=True, text=True)
    assert float(done.stdout) < 75, done.stderr


class TestAPreparedFileAlone:
    """As on a machine that has not got the images."""

    @pytest.fixture
    def file(self, folder: Path) -> Path:
        load(config(folder))
        (file,) = prepared_files(folder)
        return file

    def test_is_the_same_data_set(self, folder: Path, file: Path) -> None:
        whole, alone = load(config(folder)), load(DataConfig(str(file)))
        assert replace(whole.info, test_fraction=None) == alone.info
        for split in ("train", "validation", "test"):
            assert torch.equal(getattr(whole, split).images, getattr(alone, split).images)
            assert torch.equal(getattr(whole, split).labels, getattr(alone, split).labels)

    def test_can_have_another_validation_part(self, file: Path) -> None:
        assert load(DataConfig(str(file), validation_fraction=0)).validation is None

    def test_is_called_as_the_folder(self, file: Path) -> None:
        assert name_of(DataConfig(str(file))) == load(DataConfig(str(file))).info.name

    def test_is_one_of_the_files_that_are_read(self, file: Path) -> None:
        assert list(files_of(load(DataConfig(str(file))))) == [file]

    def test_cannot_be_divided_anew(self, file: Path) -> None:
        with pytest.raises(ConfigError, match="--test-fraction is for folders of images"):
            load(DataConfig(str(file), test_fraction=0.5))

    @pytest.mark.parametrize("content", [b"", b"junk" * 100])
    def test_that_is_none_is_named(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "other.safetensors"
        path.write_bytes(content)
        with pytest.raises(KdError, match=rf"{path} is damaged, or no data set that kd prepared"):
            load(DataConfig(str(path)))
