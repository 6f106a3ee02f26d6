"""Parts of data sets, and samples that are drawn by weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn.data import ArrayDataset, DataLoader, PairDataset, Subset, random_split, train_test_split


def dataset(labels: Any = (0, 0, 0, 0, 1, 1, 1, 2, 2, 2)) -> ArrayDataset:
    """Images whose pixels are their numbers."""
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return ArrayDataset(images, np.array(labels), ["a", "b", "c"], "numbers")


def numbers(part: Any, **options: Any) -> list[int]:
    """Which samples the batches have."""
    batches = list(DataLoader(part, 4, prefetch=0, **options))
    return [round(float(value) * 255) for images, _ in batches for value in np.asarray(images).ravel()]


def test_a_subset_has_its_samples_in_its_order() -> None:
    whole = dataset()
    part = Subset(whole, [5, -1, 0, 5])
    assert len(part) == 4 and part.labels.tolist() == [1, 2, 0, 1]
    assert (part.classes, part.num_classes, part.image_shape, part.name) == (("a", "b", "c"), 3, (1, 1, 1), "numbers")
    assert int(part[1][0].item()) == 9 and part[-1][1] == 1
    assert numbers(part) == [5, 9, 0, 5] and numbers(part.subset(2)) == [5, 9]
    assert numbers(Subset(part, [2, 1])) == [0, 9] and Subset(part, [2, 1]).labels.tolist() == [0, 2]
    whole.images[5] = 200
    assert numbers(part) == [200, 9, 0, 200]
    with pytest.raises(IndexError, match=r"`index` 4 must be in -4\.\.3"):
        part[4]
    assert numbers(Subset(whole, [])) == []


def test_a_subset_on_a_backend(backend: Any) -> None:
    part = Subset(dataset(), [5, 9, 0, 1, 5])
    assert numbers(part, backend=backend) == [5, 9, 0, 1, 5]
    assert sorted(numbers(part, backend=backend, shuffle=True)) == [0, 1, 5, 5, 9]


def test_a_subset_of_pairs_has_no_labels() -> None:
    pairs = PairDataset((np.arange(4.0, dtype=np.float32), np.arange(4)), np.arange(4.0, dtype=np.float32))
    ((x, u), y), *_ = DataLoader(Subset(pairs, [3, 1]), 4)
    assert x.tolist() == u.tolist() == y.tolist() == [3, 1]
    with pytest.raises(ValueError, match="`weights` 'balanced' needs a data set with labels, not Subset"):
        DataLoader(Subset(pairs, [3, 1]), 4, weights="balanced")


@pytest.mark.parametrize(
    ("indices", "error", "words"),
    [
        ([10], ValueError, r"`indices` holds 10; the 10 samples have the numbers -10\.\.9"),
        ([-11], ValueError, "`indices` holds -11"),
        ([0.5], TypeError, "`indices` of dtype float64 must be integers"),
        ([[1]], ValueError, r"`indices` of shape \(1, 1\) must have one axis"),
    ],
)
def test_indices_that_are_refused(indices: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Subset(dataset(), indices)
    with pytest.raises(TypeError, match="`dataset` of type list must be an ArrayDataset"):
        Subset([1, 2], [0])  # type: ignore[arg-type]


def test_random_parts() -> None:
    parts = random_split(dataset(), [0.55, 0.45], seed=3)
    assert [len(part) for part in parts] == [6, 4]  # 5.5 and 4.5 rounded down, and one more for the first
    assert sorted(numbers(parts[0]) + numbers(parts[1])) == list(range(10))
    assert [numbers(part) for part in random_split(dataset(), [6, 4], seed=3)] == [numbers(part) for part in parts]
    assert numbers(random_split(dataset(), [10], seed=3)[0]) != numbers(random_split(dataset(), [10], seed=4)[0])
    for lengths, words in (
        ([6, 5], "the sum 10"),
        ([0.5, 0.6], "shares whose sum is 1"),
        ([], "shares whose sum is 1"),
    ):
        with pytest.raises(ValueError, match=words):
            random_split(dataset(), lengths)


def test_training_and_test_samples() -> None:
    for size, count in ((0.2, 2), (3, 3), (0.01, 1), (0.99, 9)):
        train, test = train_test_split(dataset(), size, seed=1)
        assert len(test) == count and sorted(numbers(train) + numbers(test)) == list(range(10))
        assert numbers(test) == sorted(numbers(test))
    assert numbers(train_test_split(dataset(), 5, seed=1)[1]) != numbers(train_test_split(dataset(), 5, seed=2)[1])


def test_every_class_is_divided() -> None:
    images = dataset(np.repeat([0, 1, 2], [10, 4, 2]))
    train, val = train_test_split(images, 0.3, stratify=True)
    assert np.bincount(val.labels).tolist() == [3, 1, 1] and np.bincount(train.labels).tolist() == [7, 3, 1]
    assert sorted(numbers(train) + numbers(val)) == list(range(16))
    assert numbers(val) != numbers(train_test_split(images, 0.3, stratify=True, seed=1)[1])
    train, _ = train_test_split(images, 0.99, stratify=True)
    assert np.bincount(train.labels).tolist() == [1, 1, 1]


def test_splits_that_are_refused() -> None:
    with pytest.raises(ValueError, match="the class b has 1 sample; it must have at least 2"):
        train_test_split(dataset([0, 0, 1]), stratify=True)
    with pytest.raises(ValueError, match="`dataset` has 1 sample; it must have at least 2"):
        train_test_split(dataset([0]))
    with pytest.raises(ValueError, match=r"`test_size` 1\.0 must be above 0 and below 1"):
        train_test_split(dataset(), 1.0)
    with pytest.raises(ValueError, match="`test_size` 10 must be"):
        train_test_split(dataset(), 10)
    with pytest.raises(ValueError, match="`stratify` True needs a data set with labels, not PairDataset"):
        train_test_split(PairDataset(np.zeros(3), np.zeros(3)), stratify=True)


def test_classes_come_equally_often() -> None:
    images = dataset(np.repeat([0, 1], [950, 50]))
    loader = DataLoader(images, 100, seed=3, weights="balanced")
    labels = [np.concatenate([labels for _, labels in loader]) for _ in range(2)]
    assert all(len(each) == 1000 and 450 < (each == 1).sum() < 550 for each in labels)
    assert not np.array_equal(*labels)
    loader.set_epoch(1)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in loader]), labels[1])
    assert repr(loader).endswith("batch_size=100, seed=3, weights='balanced')")


def test_samples_are_drawn_by_their_weights(backend: Any) -> None:
    weights = np.array([0, 0, 3, 0, 1, 0, 0, 0, 0, 0])
    assert repr(DataLoader(dataset(), 4, weights=weights)).endswith("batch_size=4, weights=Ellipsis)")
    drawn = numbers(dataset(), backend=backend, weights=weights)
    assert len(drawn) == 10 and set(drawn) <= {2, 4} and drawn.count(2) > drawn.count(4)
    p = np.array([0, 0, 0.75, 0, 0.25, 0, 0, 0, 0, 0])
    assert drawn == np.random.default_rng([0, 0]).choice(10, 10, p=p).tolist()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": [1, 2]}, r"`weights` of shape \(2,\) must be a number for each of the 10 samples"),
        ({"weights": [-1] + [1] * 9}, "`weights` must be finite numbers, 0 or more, and not all 0"),
        ({"weights": [0] * 10}, "`weights` must be finite"),
        ({"weights": [np.nan] * 10}, "`weights` must be finite"),
        ({"weights": "even"}, "`weights` 'even' must be one of 'balanced'"),
        ({"weights": "balanced", "shuffle": True}, "`shuffle` must be False with `weights`"),
    ],
)
def test_weights_that_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataLoader(dataset(), 4, **options)
