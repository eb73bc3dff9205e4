import threading

import pytest
import torch
from torch import Tensor

from kd_cli.data import batches
from kd_cli.data.augmentation import augment
from kd_cli.data.batches import BLOCK, BatchSource
from kd_cli.data.dataset import Dataset, Split, to_pixels
from kd_cli.data.seeds import spawn_seeds
from tests.other_device import DEVICE, OtherDevice

Presets = tuple[str, ...]

AUGMENTED: list[Presets] = [("shift",), ("warp",), ("shift", "flip-crop")]
VARIANTS = pytest.mark.parametrize("presets", [(), *AUGMENTED], ids=",".join)


def order(source: BatchSource) -> Tensor:
    return torch.cat([batch.index for batch in source.epoch()])


@pytest.mark.parametrize("batch_size", [1, 7, 64, 599, 600, 601, BLOCK + 1, 10**6])
def test_an_epoch_shows_every_image_once_with_its_label(tiny: Dataset, batch_size: int) -> None:
    source = BatchSource(tiny.train, batch_size, seed=0)
    epoch = list(source.epoch())
    index = torch.cat([batch.index for batch in epoch])
    assert torch.equal(index.sort().values, torch.arange(len(tiny.train)))
    assert torch.equal(torch.cat([batch.labels for batch in epoch]), tiny.train.labels[index])
    assert torch.equal(torch.cat([batch.images for batch in epoch]), to_pixels(tiny.train.images[index]))
    assert len(epoch) == source.steps_per_epoch


@pytest.mark.parametrize(("batch_size", "sizes"), [(64, [64] * 9 + [24]), (600, [600]), (10**6, [600])])
def test_all_batches_but_the_last_have_the_size_asked_for(tiny: Dataset, batch_size: int, sizes: list[int]) -> None:
    batches = BatchSource(tiny.train, batch_size, seed=0).epoch()
    assert [len(batch.labels) for batch in batches] == sizes


def test_order_is_another_one_in_each_epoch_and_for_each_seed(tiny: Dataset) -> None:
    source = BatchSource(tiny.train, 64, seed=0)
    orders = [order(source), order(source), order(BatchSource(tiny.train, 64, seed=1)), torch.arange(600)]
    assert len(torch.stack(orders).unique(dim=0)) == 4


@pytest.mark.parametrize("presets", AUGMENTED, ids=",".join)
def test_images_are_augmented_as_asked_by_a_stream_of_its_own(tiny: Dataset, presets: Presets) -> None:
    split = Split(tiny.train.images[:BLOCK], tiny.train.labels[:BLOCK])
    (batch,) = BatchSource(split, BLOCK, seed=3, presets=presets).epoch()
    stream = torch.Generator().manual_seed(spawn_seeds(3).augmentation)
    assert torch.equal(batch.images, to_pixels(augment(split.images[batch.index], presets, stream)))


@VARIANTS
@pytest.mark.parametrize("views", [0, 2])
def test_images_of_another_device_stay_there_and_are_shown_in_the_same_order_and_views(
    tiny: Dataset, presets: Presets, views: int
) -> None:
    source = BatchSource(tiny.train, 64, seed=0, presets=presets, views=views)
    with OtherDevice():
        elsewhere = BatchSource(tiny.train.to(DEVICE), 64, seed=0, presets=presets, views=views)
        batches = list(elsewhere.epoch())
    for batch, other in zip(source.epoch(), batches, strict=True):
        assert other.images.device == DEVICE
        assert torch.equal(batch.images, other.images.cpu())
        assert torch.equal(batch.labels, other.labels.cpu())
        assert torch.equal(batch.index, other.index.cpu())


@VARIANTS
def test_augmentation_leaves_the_order_as_it_is(tiny: Dataset, presets: Presets) -> None:
    plain, augmented = BatchSource(tiny.train, 64, seed=0), BatchSource(tiny.train, 64, seed=0, presets=presets)
    for _ in range(2):
        assert torch.equal(order(plain), order(augmented))


def test_size_of_the_batches_leaves_order_and_augmentation_as_they_are(tiny: Dataset) -> None:
    """Blocks are augmented as a whole, so this holds for sizes that divide the block."""
    small, large = (BatchSource(tiny.train, size, seed=0, presets=("shift",)) for size in (64, 128))
    assert torch.equal(*(torch.cat([batch.images for batch in each.epoch()]) for each in (small, large)))


@VARIANTS
def test_random_numbers_drawn_elsewhere_change_nothing(tiny: Dataset, presets: Presets) -> None:
    first = [batch.images for batch in BatchSource(tiny.train, 64, seed=0, presets=presets).epoch()]
    torch.rand(7)
    second = [batch.images for batch in BatchSource(tiny.train, 64, seed=0, presets=presets).epoch()]
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize("presets", AUGMENTED, ids=",".join)
def test_augmented_images_are_new_in_every_epoch(presets: Presets) -> None:
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    images[..., 10:18, 10:18] = 255
    source = BatchSource(Split(images.expand(64, -1, -1, -1), torch.zeros(64)), 64, seed=0, presets=presets)
    first, second = (batch.images for _ in range(2) for batch in source.epoch())
    assert not torch.equal(first, second)


@pytest.mark.parametrize("presets", AUGMENTED, ids=",".join)
def test_fixed_views_are_shown_in_turn_whatever_the_order(tiny: Dataset, presets: Presets) -> None:
    """Sources with other seeds and batches show the same views, which differ from each other."""
    shown: list[Tensor] = []
    for source in (BatchSource(tiny.train, size, size, presets, views=2) for size in (64, 600)):
        for number in (0, 1, 0):
            images = torch.empty(600, 1, 28, 28)
            for batch in source.epoch():
                assert batch.view == number
                images[batch.index] = batch.images
            shown.append(images)
    first, second, *others = shown
    assert not torch.equal(first, second)
    assert all(torch.equal(*pair) for pair in zip(others, [first, first, second, first], strict=True))


@pytest.mark.parametrize(("presets", "views"), [((), 0), (("shift",), 0), (("warp",), 0), (("warp",), 3)])
def test_source_goes_on_from_its_state_as_if_it_had_never_stopped(tiny: Dataset, presets: Presets, views: int) -> None:
    unbroken = BatchSource(tiny.train, 64, 0, presets, views)
    list(unbroken.epoch())
    resumed = BatchSource(tiny.train, 64, 5, presets, views)
    resumed.load_state_dict(unbroken.state_dict())
    for ours, theirs in zip(resumed.epoch(), unbroken.epoch(), strict=True):
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.images, theirs.images)


@pytest.mark.parametrize(
    ("shape", "batch_size", "block"),
    [((1, 28, 28), 64, 512), ((3, 32, 32), 64, 512), ((3, 224, 224), 8, 24), ((3, 224, 224), 64, 64)],
)
def test_a_block_of_large_images_takes_little_memory(
    shape: tuple[int, int, int], batch_size: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def count(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return images

    monkeypatch.setattr(batches, "to_pixels", count)
    images = torch.zeros(1, *shape, dtype=torch.uint8).expand(600, *shape)
    next(BatchSource(Split(images, torch.zeros(600)), batch_size, seed=0).epoch())
    assert sizes == [block]


@pytest.mark.parametrize(("presets", "views"), [((), 0), (("warp",), 0), (("shift",), 2)])
def test_prefetched_blocks_are_those_of_a_split_in_memory(
    tiny: Dataset, presets: Presets, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, prefetched = (BatchSource(tiny.train, 16, 0, presets, views) for _ in range(2))
    for _ in range(2):
        expected = list(plain.epoch())
        with monkeypatch.context() as patch:
            patch.setattr(batches, "PREFETCH_BYTES", 0)
            for ours, theirs in zip(prefetched.epoch(), expected, strict=True):
                assert torch.equal(ours.images, theirs.images)
                assert torch.equal(ours.labels, theirs.labels)
                assert torch.equal(ours.index, theirs.index)


def test_prefetching_ends_with_the_epoch_even_if_that_is_left_early(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PREFETCH_BYTES", 0)
    before = threading.active_count()
    source = BatchSource(tiny.train, 64, seed=0)
    list(source.epoch())
    assert threading.active_count() == before
    left = source.epoch()
    next(left)
    assert threading.active_count() == before + 1
    left.close()
    assert threading.active_count() == before


def test_errors_of_looking_up_arrive_where_the_batch_is_asked_for(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PREFETCH_BYTES", 0)
    damaged = Split(tiny.train.images[:500], tiny.train.labels)
    with pytest.raises(IndexError):
        list(BatchSource(damaged, 64, seed=0).epoch())
