"""Folders of images: what is found in them, what is refused, and that they are listed without a look into a file."""

import os
from pathlib import Path

import pytest

from kd_cli.config import KdError
from kd_cli.data.folders import list_folder


def fill(root: Path, *files: str) -> Path:
    """Empty files: listing does not read them."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def names(root: Path, part: str = "all") -> list[str]:
    return [os.path.relpath(path, root) for path in list_folder(root).parts[part].paths]


def test_folder_of_classes_is_one_part_in_alphabetical_order(tmp_path: Path) -> None:
    root = fill(tmp_path, "dog/2.png", "dog/1.JPG", "cat/x.jpeg")
    folder = list_folder(root)
    assert folder.classes == ("cat", "dog")
    assert folder.parts["all"].labels == [0, 1, 1]
    assert names(root) == ["cat/x.jpeg", "dog/1.JPG", "dog/2.png"]
    assert folder.undivided


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_train_and_test_are_parts_of_their_own(tmp_path: Path, test: str) -> None:
    root = fill(tmp_path, "train/a/1.png", "train/b/1.png", f"{test}/a/1.png", f"{test}/b/2.png")
    assert names(root, "train") == ["train/a/1.png", "train/b/1.png"]
    assert names(root, "test") == [f"{test}/a/1.png", f"{test}/b/2.png"]


def test_val_beside_test_is_the_validation_part(tmp_path: Path) -> None:
    root = fill(tmp_path, *(f"{part}/{name}/1.png" for part in ("train", "val", "test") for name in "ab"))
    assert names(root, "validation") == ["val/a/1.png", "val/b/1.png"]
    assert names(root, "test") == ["test/a/1.png", "test/b/1.png"]


def test_class_may_be_called_train(tmp_path: Path) -> None:
    assert list_folder(fill(tmp_path, "train/1.png", "test/1.png", "plane/1.png")).classes == ("plane", "test", "train")


def test_hidden_folders_are_no_classes_and_hidden_files_no_images(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/1.png", "b/1.png", ".ipynb_checkpoints/1.png", "__MACOSX/a/1.png", "readme.txt")
    fill(root, "a/.DS_Store", "a/._1.png", "a/Thumbs.db", "a/.ipynb_checkpoints/1.png")
    folder = list_folder(root)
    assert folder.classes == ("a", "b")
    assert names(root) == ["a/1.png", "b/1.png"]
    assert folder.others == {}


def test_other_files_are_counted_by_their_endings(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/1.png", "b/1.png", "a/notes.txt", "b/more.txt", "b/LICENSE", "b/vector.eps")
    assert list_folder(root).others == {".txt": 2, "no ending": 1, ".eps": 1}


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/1.png", "a/more/2.png", "b/deep/er/1.png")
    assert names(root) == ["a/1.png", "a/more/2.png", "b/deep/er/1.png"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root, elsewhere = fill(tmp_path / "root", "a/1.png"), fill(tmp_path / "elsewhere", "2.png")
    (root / "b").symlink_to(elsewhere)
    (root / "self").symlink_to(root)
    (root / "a" / "up").symlink_to(root)
    (elsewhere / "again").symlink_to(elsewhere)
    assert list_folder(root).classes == ("a", "b")
    assert names(root) == ["a/1.png", "b/2.png"]


def test_link_to_nowhere_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/1.png", "b/1.png")
    (root / "a" / "2.png").symlink_to(root / "nothing.png")
    assert names(root) == ["a/1.png", "a/2.png", "b/1.png"]


@pytest.mark.parametrize("change", ["add", "remove", "rename", "grow", "touch", "move to another class"])
def test_digest_changes_with_the_files(tmp_path: Path, change: str) -> None:
    root = fill(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    before = list_folder(root).digest
    assert list_folder(root).digest == before
    file = root / "a" / "2.png"
    if change == "add":
        fill(root, "a/3.png")
    elif change == "remove":
        file.unlink()
    elif change == "rename":
        file.rename(root / "a" / "3.png")
    elif change == "grow":
        time = file.stat().st_mtime_ns
        file.write_bytes(b"1")
        os.utime(file, ns=(time, time))
    elif change == "touch":
        os.utime(file, (1, 1))
    else:
        file.rename(root / "b" / "3.png")
    assert list_folder(root).digest != before


def test_name_tells_classes_apart_and_not_places(tmp_path: Path) -> None:
    first, copy = (fill(tmp_path / place / "my images!", "a/1.png", "b/1.png") for place in ("1", "2"))
    other = fill(tmp_path / "3" / "my images!", "a/1.png", "c/1.png")
    name = list_folder(first).name
    assert name.startswith("my_images_-")
    assert Path(name).name == name
    assert list_folder(copy).name == name != list_folder(other).name


@pytest.mark.parametrize("name", ["mnist", "..images", "a\nb", "Bäume", "x" * 200, "\udcff"])
def test_name_is_one_of_a_folder_and_no_data_set_s(tmp_path: Path, name: str) -> None:
    found = list_folder(fill(tmp_path / name, "a/1.png", "b/1.png")).name
    assert Path(found).name == found
    assert found.isprintable()
    assert not found.startswith(".")
    assert found != "mnist"
    assert len(found) < 80


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["1.png", "2.png"], r"no classes: it needs a folder of images for each class, CLASS/\*, or train/CLASS"),
        ([], "no classes"),
        (["a/1.png"], "one class, 'a'"),
        (["a/1.png", "b/1.txt"], r"/b holds no images: add some, or remove the folder"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.txt"], "test/b holds no images"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png"], "train/ and test/ have different .* only one .* 'b'"),
        (
            ["train/a/1.png", "train/b/1.png"],
            "neither test/ nor val/: add one, or use .*/train, of which --test",
        ),
    ],
)
def test_folder_that_nothing_could_be_learnt_from_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(KdError, match=message) as caught:
        list_folder(fill(tmp_path, *files))
    assert "\n" not in str(caught.value)


def test_many_different_classes_are_named_and_counted(tmp_path: Path) -> None:
    root = fill(tmp_path, "train/a/1.png", "test/a/1.png", *(f"test/{number}/1.png" for number in range(10)))
    with pytest.raises(KdError, match="'0', '1', '2' and 7 more"):
        list_folder(root)
