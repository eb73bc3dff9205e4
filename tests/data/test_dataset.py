import torch

from kd_cli.data.dataset import Dataset, Split, to_pixels


def test_pixels_are_the_bytes_on_a_scale_from_0_to_1() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    torch.testing.assert_close(to_pixels(images), images.double().div(255).float())
    assert to_pixels(images).max().item() == 1


def test_images_are_left_as_they_are_when_pixels_are_made_of_them() -> None:
    images = torch.full((1, 1, 2, 2), 200, dtype=torch.uint8)
    to_pixels(images)
    assert (images == 200).all()


def test_a_split_is_as_long_as_it_has_images(tiny: Dataset) -> None:
    assert len(tiny.test) == len(tiny.test.images) == 200


def test_data_set_moves_as_a_whole(tiny: Dataset) -> None:
    meta = torch.device("meta")
    moved = tiny.to(meta)
    assert moved.device == meta
    assert {part.device for split in (moved.train, moved.test) for part in (split.images, split.labels)} == {meta}
    assert moved.info == tiny.info
    assert tiny.device == torch.device("cpu")


def test_split_moves_with_its_labels() -> None:
    split = Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.long)).to(torch.device("meta"))
    assert split.images.is_meta
    assert split.labels.is_meta
