"""How the rows of a batch are divided among processes."""

from itertools import chain

import pytest
import torch

from kd_cli.data import batches
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import Dataset
from kd_cli.data.shares import ALONE, Share


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [7, 8, 64, 1000])
def test_every_row_is_in_one_share_and_shares_are_as_even_as_can_be(size: int, count: int) -> None:
    rows = [range(count)[Share(rank, size).of(count)] for rank in range(size)]
    assert [*chain(*rows)] == [*range(count)]
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_rows_than_processes_are_not_divided(count: int) -> None:
    shares = [Share(rank, 3) for rank in range(3)]
    assert [share.of(count) for share in shares] == [slice(0, count)] * 3
    assert not any(share.divides(count) for share in shares)


def test_a_process_alone_has_every_row() -> None:
    assert ALONE.of(5) == slice(0, 5)
    assert not ALONE.divides(5)


@pytest.mark.parametrize(("presets", "views"), [((), 0), (("warp",), 0), (("shift", "flip-crop"), 0), (("warp",), 3)])
@pytest.mark.parametrize("batch_size", [64, 66])  # in the end, 24 images, or 6 for 7 processes
@pytest.mark.parametrize("prefetched", [False, True])
def test_shares_of_batches_are_those_of_one_process_whatever_their_number(
    tiny: Dataset,
    presets: tuple[str, ...],
    views: int,
    batch_size: int,
    prefetched: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if prefetched:
        monkeypatch.setattr(batches, "PREFETCH_BYTES", 0)
    whole = BatchSource(tiny.train, batch_size, 0, presets, views)
    for size in (2, 7):
        shares = [Share(rank, size) for rank in range(size)]
        sources = [BatchSource(tiny.train, batch_size, 0, presets, views, share) for share in shares]
        whole = BatchSource(tiny.train, batch_size, 0, presets, views)
        for _ in range(2):
            for expected, *parts in zip(whole.epoch(), *(source.epoch() for source in sources), strict=True):
                assert all(torch.equal(part.labels, expected.labels) for part in parts)
                assert all(torch.equal(part.index, expected.index) for part in parts)
                if len(expected.labels) >= size:
                    assert torch.equal(torch.cat([part.images for part in parts]), expected.images)
                else:
                    assert all(torch.equal(part.images, expected.images) for part in parts)
