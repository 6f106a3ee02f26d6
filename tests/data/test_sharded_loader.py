"""What a process has of each batch: its shards, and no other sample is read."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from numbacnn.data import ArrayDataset, CutMix, DataLoader, PairDataset, RandomCrop
from tests.quick import reference_by_default as reference_by_default

N = 27


def loader(**options: Any) -> DataLoader:
    images = np.random.default_rng(0).integers(0, 256, (N, 1, 6, 6), np.uint8)
    dataset = ArrayDataset(images, np.arange(N) % 3, ["a", "b", "c"])
    return DataLoader(dataset, **{"batch_size": 10, "shuffle": True, "seed": 3, "prefetch": 0, **options})


def samples_of(batch: Any) -> list[Any]:
    return [np.concatenate([part[i] for part in batch.parts]) for i in (1, 2)]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("on", [None, "reference"])
def test_the_processes_have_each_batch_together(prefetch: int, on: str | None) -> None:
    whole = [*loader()]
    parts = [[*loader(prefetch=prefetch, backend=on).sharded(8, rank, 3)] for rank in range(3)]
    assert [len(own) for own in parts] == [len(whole)] * 3
    for expected, *batches in zip(whole, *parts, strict=True):
        assert [(batch.samples, batch.shards) for batch in batches] == [(len(expected[1]), 8)] * 3
        for i in (0, 1):
            together = np.concatenate([samples_of(batch)[i] for batch in batches if batch.parts])
            np.testing.assert_array_equal(together, expected[i])
    assert [number for batch in (own[0] for own in parts) for number, *_ in batch.parts] == [*range(8)]


@pytest.mark.parametrize("on", [None, "reference"])
def test_transforms_are_those_of_the_shard_whoever_has_it(on: str | None) -> None:
    options = {"transform": RandomCrop(6, padding=2), "batch_transform": CutMix(), "backend": on}
    alone = loader(**options)
    for epoch in range(2):
        expected = [part for batch in alone.sharded(5) for part in batch.parts]
        for size in (2, 5):
            loaders = [loader(**options) for _ in range(size)]
            for each in loaders:
                each.set_epoch(epoch)
            every = zip(*(each.sharded(5, rank, size) for rank, each in enumerate(loaders)), strict=True)
            actual = [part for batches in every for batch in batches for part in batch.parts]
            for (number, *arrays), (other, *others) in zip(actual, expected, strict=True):
                assert number == other
                for array, one in zip(arrays, others, strict=True):
                    np.testing.assert_array_equal(array, one)
        firsts = [part[1] for part in expected if part[0] == 0]
        assert any((x != y).any() for x, y in pairwise(firsts) if x.shape == y.shape)
    assert alone.epoch == 2


def test_no_other_sample_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    module = sys.modules["numbacnn.data.loader"]
    real = module._batch

    def noted(columns: Any, which: Any, backend: Any) -> Any:
        read.extend(np.arange(N)[which])
        return real(columns, which, backend)

    monkeypatch.setattr(module, "_batch", noted)
    for rank in range(4):
        before = len(read)
        for batch in loader().sharded(8, rank, 4):
            assert sum(len(y) for _, _, y in batch.parts) <= 4
        assert len(read) - before < N / 2
    assert sorted(read) == [*range(N)]
    read.clear()
    every = [*loader(shuffle=False)]
    read.clear()
    (batch,) = loader(shuffle=False).batches([1])
    assert read == [*range(10, 20)]
    np.testing.assert_array_equal(batch[0], every[1][0])


def test_several_inputs_and_targets_are_cut_alike() -> None:
    x, y = (np.arange(7.0), np.arange(14.0).reshape(7, 2)), np.arange(7)
    (batch,) = DataLoader(PairDataset(x, y), 7).sharded(3, 1, 2)
    assert [number for number, *_ in batch.parts] == [1, 2]
    for number, (first, second), target in batch.parts:
        assert first.tolist() == target.tolist() == [[2, 3], [4, 5, 6]][number - 1] and second.shape[1] == 2


@pytest.mark.parametrize(
    ("arguments", "match"),
    [((2, 0, 3), "`shards` 2"), ((8, 3, 3), "`rank` 3"), ((8, 0, 0), "`size` 0"), ((10**6,), "`shards` 1000000")],
)
def test_what_cannot_be_shared_is_refused(arguments: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        loader().sharded(*arguments)
