"""Parts of data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ops.arguments import integer, number
from ...ops.parts import each_of
from .array_dataset import ArrayDataset
from .pair_dataset import PairDataset

__all__ = ["Subset", "check_dataset", "labels_of", "random_split", "train_test_split"]


class Subset:
    """The samples of ``dataset`` with the numbers ``indices``, in this order, as PyTorch's Subset.

    Nothing is copied, and a loader takes it as it takes the data set.

    Args:
        dataset: an `ArrayDataset`, a `PairDataset` or a `Subset`.
        indices: numbers of samples, from 0; negative ones count from the end. One that is there twice is two samples.

    Attributes:
        labels, classes, num_classes: those of the data set, if it has them: labels of the samples that are chosen.

    Raises:
        TypeError: another kind of data set, indices that are no integers.
        ValueError: indices out of range, or not along one axis.

    Example:
        >>> dataset = ArrayDataset(np.zeros((3, 1, 8, 8), np.uint8), np.array([0, 1, 0]), ["cat", "dog"], "pets")
        >>> part = Subset(dataset, [2, 1])
        >>> part, part.labels.tolist()
        (Subset(ArrayDataset('pets', 3 x (1, 8, 8) uint8, 2 classes), 2 samples), [0, 1])
    """

    def __init__(self, dataset: ArrayDataset | PairDataset | Subset, indices: Any) -> None:
        check_dataset(dataset)
        chosen, n = np.asarray(indices), len(dataset)
        if chosen.ndim != 1:
            raise ValueError(f"`indices` of shape {chosen.shape} must have one axis")
        if chosen.size and chosen.dtype.kind not in "iu":
            raise TypeError(f"`indices` of dtype {chosen.dtype} must be integers")
        for index in (chosen.min(), chosen.max()) if chosen.size else ():
            if not -n <= index < n:
                raise ValueError(f"`indices` holds {index}; the {n} samples have the numbers {-n}..{n - 1}")
        self.dataset = dataset
        self.indices = chosen.astype(np.int64) % max(n, 1)

    @property
    def labels(self) -> np.ndarray[Any, Any]:
        return self.dataset.labels[self.indices]  # type: ignore[union-attr]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        return self.dataset.image_shape

    @property
    def name(self) -> str:
        return self.dataset.name

    def columns(self) -> tuple[Any, Any]:
        """What the loader makes batches of."""
        inputs, targets = self.dataset.columns()
        return each_of(inputs, self._part), each_of(targets, self._part)

    def subset(self, limit: int) -> Subset:
        """The first ``limit`` samples, at least 1, or all where there are fewer."""
        return Subset(self.dataset, self.indices[: integer("limit", limit, 1)])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """What the data set gives for the sample; negative indices count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"`index` {index} must be in {-len(self)}..{len(self) - 1}")
        return self.dataset[int(self.indices[index])]

    def __repr__(self) -> str:
        return f"Subset({self.dataset!r}, {len(self)} samples)"

    def _part(self, column: Any) -> Any:
        return column.part(self.indices)


def random_split(dataset: ArrayDataset | PairDataset | Subset, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Parts of ``dataset`` of the given lengths, drawn at random, as PyTorch's random_split makes them.

    Args:
        dataset: the samples.
        lengths: whole numbers whose sum is that of the samples, or shares whose sum is 1, which are rounded down; what
            is left then goes to the parts from the first on, one to each.
        seed: of the draw, at least 0.

    Raises:
        TypeError, ValueError: arguments of another type or out of range.

    Example:
        >>> dataset = ArrayDataset(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10))
        >>> [len(part) for part in random_split(dataset, [0.5, 0.3, 0.2], seed=1)]
        [5, 3, 2]
    """
    check_dataset(dataset)
    n, given = len(dataset), list(lengths)
    if given and all(isinstance(length, (int, np.integer)) and not isinstance(length, bool) for length in given):
        sizes = [integer("lengths", length) for length in given]
    else:
        shares = [number("lengths", share, 0, 1) for share in given]
        if not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise ValueError(f"`lengths` {given} must be whole numbers, or shares whose sum is 1")
        sizes = [math.floor(n * share + 1e-9) for share in shares]
        for place in range(n - sum(sizes)):
            sizes[place % len(sizes)] += 1
    if sum(sizes) != n:
        raise ValueError(f"`lengths` {given} must have the sum {n}, that of the samples")
    order = np.random.default_rng(integer("seed", seed)).permutation(n)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def train_test_split(
    dataset: ArrayDataset | PairDataset | Subset, test_size: float = 0.2, stratify: bool = False, seed: int = 0
) -> tuple[Subset, Subset]:
    """Samples to train on, and others to test with, drawn at random; in both, they keep the data set's order.

    Args:
        dataset: the samples, at least two.
        test_size: the share of the second part, above 0 and below 1, or its length, 1 or more. It is rounded, and each
            part has at least one sample.
        stratify: whether that is so of each class by itself, so that both parts have all classes in the same shares;
            the data set must have labels, and each class that there is must have at least two samples.
        seed: of the draw, at least 0.

    Returns:
        Two parts, (train, test), that share the data set's memory.

    Raises:
        TypeError, ValueError: arguments of another type or out of range.

    Example:
        >>> dataset = ArrayDataset(np.zeros((10, 1, 8, 8), np.uint8), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
        >>> train, test = train_test_split(dataset, 0.5, stratify=True)
        >>> train.labels.tolist(), test.labels.tolist()
        ([0, 0, 0, 1, 1], [0, 0, 0, 1, 1])
    """
    check_dataset(dataset)
    n = len(dataset)
    if isinstance(test_size, (int, np.integer)):
        share = integer("test_size", test_size, 1, max(n - 1, 1)) / max(n, 1)
    else:
        share = number("test_size", test_size, 0, 1)
        if share in (0, 1):
            raise ValueError(f"`test_size` {test_size} must be above 0 and below 1, or a whole number of samples")
    random = np.random.default_rng(integer("seed", seed))
    labels = np.zeros(n, np.int64)
    if stratify:
        labels = labels_of(dataset, "`stratify` True")
    elif n < 2:
        raise ValueError(f"`dataset` has {n} sample{'s' * (n != 1)}; it must have at least 2, one for each part")
    is_test = np.zeros(n, bool)
    for label in np.unique(labels):
        (places,) = np.nonzero(labels == label)
        if len(places) < 2:
            raise ValueError(
                f"the class {dataset.classes[label]} has 1 sample; it must have at least 2, one for each part"
            )
        count = min(max(1, round(share * len(places))), len(places) - 1)
        is_test[random.permutation(places)[:count]] = True
    return Subset(dataset, np.nonzero(~is_test)[0]), Subset(dataset, np.nonzero(is_test)[0])


def labels_of(dataset: Any, needed_by: str) -> np.ndarray[Any, Any]:
    """The class of each sample; ValueError, that says what needs them, where there are none."""
    labels = getattr(dataset, "labels", None)
    if labels is None:
        raise ValueError(f"{needed_by} needs a data set with labels, not {dataset!r}")
    return np.asarray(labels)


def check_dataset(dataset: Any) -> None:
    """TypeError unless it is one of the kinds of data sets."""
    if not isinstance(dataset, (ArrayDataset, PairDataset, Subset)):
        raise TypeError(
            f"`dataset` of type {type(dataset).__name__} must be an ArrayDataset, a PairDataset or a Subset of one"
        )
