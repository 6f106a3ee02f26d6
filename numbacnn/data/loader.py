"""Batches of a data set, prepared in the background or on a device."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from .. import backends
from ..backends import Backend
from ..ops.arguments import integer, one_of
from ..ops.parts import as_tuple, each_of
from ..sharding import MAX_SHARDS, ShardedBatch, own_shards, shard_of
from .arrays.array_dataset import ArrayDataset
from .arrays.pair_dataset import PairDataset
from .arrays.splits import Subset, check_dataset, labels_of
from .transforms.mixing import BatchTransform, check_batch_transform, with_classes
from .transforms.pair_transform import PairTransform
from .transforms.transform import Transform, check_transform

__all__ = ["DataLoader"]

_Batch = tuple[Any, Any]
"""Inputs and targets, each an array or a tuple of several."""
_Part = tuple[Any, _Batch]
"""The number of a shard, or None for a whole batch, and what it has."""
_Cut = tuple[Any, slice]
"""The same number, and the samples, as places in a batch or in an epoch."""
_Columns = tuple[Any, Any]
"""A `Column`, or a tuple of several, of the inputs and of the targets."""


class _Transformed(NamedTuple):
    """The transforms of one epoch; without any, batches stay as they are."""

    transform: Transform | None
    batch_transform: BatchTransform | None
    seed: int
    epoch: int

    def __call__(self, batch: _Batch, index: int, shard: int | None, backend: Backend) -> _Batch:
        """The batch of number ``index``, or this shard of it."""
        if self.transform is None and self.batch_transform is None:
            return batch
        images, labels = batch
        # The last number keeps the first batch of an epoch from drawing what the order of the epoch is drawn from.
        random = np.random.default_rng([self.seed, self.epoch, index, 1, *([] if shard is None else [shard])])
        if isinstance(self.transform, PairTransform):
            images, labels = self.transform.both(images, labels, random)
        elif self.transform is not None:
            images = self.transform(images, random, backend)
        return (
            (images, labels) if self.batch_transform is None else self.batch_transform(images, labels, random, backend)
        )


class DataLoader:
    """Go through a data set in batches.

    Each iteration yields pairs of inputs and targets, C-contiguous arrays that are the caller's to keep. Of an
    `ArrayDataset` these are images, float32 (b, c, h, w), scaled from 0..255 to 0..1 if the data set holds uint8, and
    labels, int64 (b,). Of a `PairDataset` they are what it says, and a tuple where its inputs or targets are one.

    Each iterator is a pass of its own, an epoch, with the next order and the next random numbers: the first one made is
    epoch 0, the second epoch 1, whether or not the one before was left early. :meth:`set_epoch` says which one comes
    next, as to go on with a run that was ended. Any number of iterators may be in use at once.

    Args:
        dataset: the samples, an `ArrayDataset`, a `PairDataset` or a `Subset` of one.
        batch_size: samples in a batch, at least 1; the last batch has what is left.
        shuffle: whether each epoch has an order of its own, ``np.random.default_rng([seed, epoch]).permutation(n)``.
        seed: of the orders and of what the transform draws, at least 0.
        drop_last: whether to leave out a last batch that is not full; also in ``len(loader)``.
        prefetch: how many batches a background thread prepares ahead; with 0 the caller's thread prepares them. The
            thread ends with the iterator: when it is exhausted, closed or no longer referred to.
        backend: None for batches of NumPy arrays. With a backend or its name they are arrays of that backend, to the
            same bits, and prepared there, without a thread: a device with memory of its own keeps the data set, in its
            dtype, from the first iteration on. What would take more than half of the device's free memory is prepared
            in the background and sent batch by batch.
        transform: what is done to the images of each batch once they are scaled, see ``data.transforms``; the targets
            stay as they are, unless it is a `PairTransform`. Of a `PairDataset`, inputs must be one array (n, c, h, w)
            of uint8, float32 or float64. It is done on the backend's device, with its rounding, if that has memory of
            its own; otherwise, and of targets too, in NumPy where the batch is prepared, which for any backend is then
            the background thread. The random numbers of a batch are those of
            ``np.random.default_rng([seed, epoch, batch, 1])``.
        batch_transform: what is then done to images and targets together, ``MixUp`` and ``CutMix``, which take the
            number of classes from the data set, or a function that is called as (images, targets, random, backend)
            and returns both, new. It goes on drawing from the same random numbers. Inputs must be as for ``transform``,
            and targets one array.
        weights: how often each sample is drawn, in proportion, a number for each of n, 0 or more: an epoch is then n
            draws with replacement, ``np.random.default_rng([seed, epoch]).choice(n, n, p=weights / weights.sum())``,
            as PyTorch's WeightedRandomSampler has it. "balanced" weighs each sample by one over the size of its class,
            so that all classes come equally often. Not with ``shuffle``.

    Attributes:
        epoch: the epoch that the next iterator will go through.
        image_shape: channels, height and width of an image in the batches, that is after the transform; None where
            inputs are not one array (n, c, h, w).

    Raises:
        TypeError, ValueError: arguments of another type or out of range, a transform that cannot take the images.

    Example:
        >>> dataset = ArrayDataset(np.full((5, 1, 2, 2), 255, np.uint8), np.arange(5))
        >>> loader = DataLoader(dataset, batch_size=2)
        >>> len(loader), [labels.tolist() for images, labels in loader]
        (3, [[0, 1], [2, 3], [4]])
        >>> loader
        DataLoader(ArrayDataset('', 5 x (1, 2, 2) uint8, 5 classes), batch_size=2)
    """

    def __init__(
        self,
        dataset: ArrayDataset | PairDataset | Subset,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        prefetch: int = 2,
        backend: str | Backend | None = None,
        transform: Transform | None = None,
        batch_transform: BatchTransform | None = None,
        weights: Any = None,
    ) -> None:
        check_dataset(dataset)
        self.dataset = dataset
        self.batch_size = integer("batch_size", batch_size, 1)
        self.shuffle = bool(shuffle)
        self.seed = integer("seed", seed)
        self.drop_last = bool(drop_last)
        self.prefetch = integer("prefetch", prefetch)
        self.backend = None if backend is None else backends.get(backend)
        self.transform = transform
        self.image_shape = dataset.image_shape
        if transform is not None:
            check_transform("transform", transform)
            self.image_shape = transform.output_shape(_image_shape("transform", dataset))
        self.batch_transform = batch_transform
        if batch_transform is not None:
            check_batch_transform("batch_transform", batch_transform)
            _image_shape("batch_transform", dataset)
            self.batch_transform = with_classes(batch_transform, len(dataset.classes) or None)
        self.weights = weights
        self._shares = None if weights is None else _shares(weights, dataset)
        if weights is not None and self.shuffle:
            raise ValueError("`shuffle` must be False with `weights`, which draw an order of their own")
        self.epoch = 0
        self._on_device: _Columns | None = None
        self._fits: bool | None = None

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iterator goes through, at least 0; the iterators after it go on from there."""
        self.epoch = integer("epoch", epoch)

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __repr__(self) -> str:
        backend = None if self.backend is None else self.backend.name
        options = {
            "shuffle": (self.shuffle, False),
            "seed": (self.seed, 0),
            "drop_last": (self.drop_last, False),
            "prefetch": (self.prefetch, 2),
            "backend": (backend, None),
            "transform": (self.transform, None),
            "batch_transform": (self.batch_transform, None),
            "weights": (self.weights if self.weights is None or isinstance(self.weights, str) else ..., None),
        }
        changed = (f", {name}={value!r}" for name, (value, default) in options.items() if value != default)
        return f"DataLoader({self.dataset!r}, batch_size={self.batch_size}{''.join(changed)})"

    def __iter__(self) -> Iterator[_Batch]:
        return self.batches(range(len(self)))

    def batches(self, numbers: Sequence[int]) -> Iterator[_Batch]:
        """The batches of these numbers, of the next epoch; the others are not read."""
        passed = self._pass(numbers, lambda samples: [(None, slice(0, samples))])
        return _Wrapped(passed, lambda index, parts: parts[0][1])

    def sharded(self, shards: int, rank: int = 0, size: int = 1) -> Iterator[ShardedBatch]:
        """What process ``rank`` of ``size`` computes of each batch of the next epoch; no other samples are read.

        A batch is cut into ``shards`` as by `TrainingStep`, which takes what this gives. The order of samples is that
        of the whole batches, but transforms are done to each shard by itself, with the random numbers of
        ``np.random.default_rng([seed, epoch, batch, 1, shard])``: they are the same for any number of processes, and
        others than those of the whole batches.

        Raises:
            TypeError, ValueError: ``rank`` is not in 0..``size`` - 1, there are fewer shards than processes.
        """
        size = integer("size", size, 1)
        shards, rank = integer("shards", shards, size, MAX_SHARDS), integer("rank", rank, 0, size - 1)
        own = own_shards(shards, rank, size)

        def cuts(samples: int) -> list[_Cut]:
            every = [(number, shard_of(samples, shards, number)) for number in own]
            return [(number, cut) for number, cut in every if cut.stop > cut.start]

        def wrapped(index: int, parts: list[_Part]) -> ShardedBatch:
            return ShardedBatch(self._samples(index), shards, [(number or 0, *batch) for number, batch in parts])

        return _Wrapped(self._pass(range(len(self)), cuts), wrapped)

    def _samples(self, index: int) -> int:
        """Of the batch of number ``index``."""
        return min(self.batch_size, len(self.dataset) - index * self.batch_size)

    def _pass(self, numbers: Sequence[int], cuts: Callable[[int], list[_Cut]]) -> Iterator[tuple[int, list[_Part]]]:
        """The next epoch: of the batches of these numbers, the parts that ``cuts`` says, by the number of samples."""
        dataset, size, backend = self.dataset, self.batch_size, self.backend
        epoch, self.epoch = self.epoch, self.epoch + 1
        order = None
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(dataset))
        elif self._shares is not None:
            order = np.random.default_rng([self.seed, epoch]).choice(len(dataset), len(dataset), p=self._shares)
        transformed = _Transformed(self.transform, self.batch_transform, self.seed, epoch)
        is_transformed = self.transform is not None or self.batch_transform is not None

        def places(index: int) -> list[_Cut]:
            """The parts of a batch, in the order of the epoch."""
            first = index * size
            return [(n, slice(first + cut.start, first + cut.stop)) for n, cut in cuts(self._samples(index))]

        on_host = backend is None or backend.free_memory() is None or isinstance(self.transform, PairTransform)
        # Kernels of the host would take the cores from the training step, NumPy in the background takes one.
        if backend is not None and not (on_host and is_transformed):
            resident = self._resident(backend)
            if resident is not None:
                everything = np.arange(len(dataset)) if order is None else order
                return _gathered(backend, resident, everything, transformed, numbers, places)

        columns, host = dataset.columns(), backends.get("reference")

        def prepare(index: int) -> tuple[int, list[_Part]]:
            batches = [(n, _batch(columns, part if order is None else order[part], host)) for n, part in places(index)]
            return index, [(n, transformed(batch, index, n, host) if on_host else batch) for n, batch in batches]

        batches: Iterator[tuple[int, list[_Part]]]
        if self.prefetch and len(numbers):
            batches = _Background(prepare, numbers, self.prefetch)
        else:
            batches = (prepare(index) for index in numbers)
        if backend is None:
            return batches
        return _sent(batches, backend, None if on_host else transformed)

    def _resident(self, backend: Backend) -> _Columns | None:
        """The whole data set as arrays of the backend; None where it would take too much memory, or lies in files."""
        columns = self.dataset.columns()
        every = [column for part in columns for column in as_tuple(part)]
        if any(column.is_in_files for column in every):
            return None
        free = backend.free_memory()
        if free is None:
            return _of_both(columns, lambda column: column.on(backend))
        if self._fits is None:
            self._fits = 2 * sum(column.nbytes for column in every) <= free
            if self._fits:
                self._on_device = _of_both(columns, lambda column: column.on(backend))
        return self._on_device


def _shares(weights: Any, dataset: ArrayDataset | PairDataset | Subset) -> np.ndarray[Any, Any]:
    """How likely each sample is in a draw, by the argument ``weights``."""
    if isinstance(weights, str):
        one_of("weights", weights, ("balanced",))
        labels = labels_of(dataset, "`weights` 'balanced'")
        given = 1 / np.bincount(labels)[labels] if len(labels) else np.zeros(0)
    else:
        given = np.asarray(weights, np.float64)
    if given.shape != (len(dataset),):
        raise ValueError(f"`weights` of shape {given.shape} must be a number for each of the {len(dataset)} samples")
    total = given.sum()
    if not (np.isfinite(total) and (given >= 0).all() and (total > 0 or not len(given))):
        raise ValueError("`weights` must be finite numbers, 0 or more, and not all 0")
    return given / total if len(given) else given


def _image_shape(name: str, dataset: ArrayDataset | PairDataset | Subset) -> tuple[int, int, int]:
    """Of what the transform of this argument is given."""
    columns, targets = dataset.columns()
    if name == "batch_transform" and isinstance(targets, tuple):
        raise ValueError(f"`{name}` must be None for a data set whose targets are not one array: {dataset!r}")
    if dataset.image_shape is None or not (columns.is_image or columns.array.dtype.kind == "f"):
        raise ValueError(
            f"`{name}` must be None for a data set whose inputs are not one array (n, c, h, w) of uint8, float32 or "
            f"float64: {dataset!r}"
        )
    return dataset.image_shape


def _of_both(batch: tuple[Any, Any], function: Callable[[Any], Any]) -> tuple[Any, Any]:
    """What a function makes of each array or column of the inputs and of the targets."""
    inputs, targets = batch
    return each_of(inputs, function), each_of(targets, function)


def _batch(columns: _Columns, which: Any, backend: Backend) -> _Batch:
    """The samples that ``which``, of NumPy a slice too, says; the columns are on the backend."""
    return _of_both(columns, lambda column: column.batch(which, backend))


def _gathered(
    backend: Backend,
    columns: _Columns,
    order: np.ndarray[Any, Any],
    transformed: _Transformed,
    numbers: Sequence[int],
    places: Callable[[int], list[_Cut]],
) -> Iterator[tuple[int, list[_Part]]]:
    everything = backend.asarray(order, np.int64)
    for index in numbers:
        batches = [(n, _batch(columns, everything[part], backend)) for n, part in places(index)]
        yield index, [(n, transformed(batch, index, n, backend)) for n, batch in batches]


def _sent(
    batches: Iterator[tuple[int, list[_Part]]], backend: Backend, transformed: _Transformed | None
) -> Iterator[tuple[int, list[_Part]]]:
    for index, prepared in batches:
        parts = [(n, _of_both(batch, backend.asarray)) for n, batch in prepared]
        if transformed is not None:
            parts = [(n, transformed(batch, index, n, backend)) for n, batch in parts]
        yield index, parts


class _Wrapped(Iterator[Any]):
    """What ``wrap`` makes of each batch; it keeps none."""

    def __init__(self, batches: Iterator[tuple[int, list[_Part]]], wrap: Callable[[int, list[_Part]], Any]) -> None:
        self._batches = batches
        self._wrap = wrap

    def __next__(self) -> Any:
        return self._wrap(*next(self._batches))

    def close(self) -> None:
        """End what prepares batches; there are none afterwards."""
        batches, self._batches = self._batches, iter(())
        if isinstance(batches, (_Background, Generator)):
            batches.close()


class _Background(Iterator[tuple[int, list[_Part]]]):
    """Batches from a thread that stays at most ``ahead`` of them in front."""

    def __init__(self, prepare: Callable[[int], Any], numbers: Sequence[int], ahead: int) -> None:
        self._ready: SimpleQueue[Any | BaseException | None] = SimpleQueue()
        self._free = threading.Semaphore(ahead)
        self._stop = threading.Event()
        # The thread must not refer to this object, or it would keep alive what it waits for.
        arguments = (prepare, numbers, self._ready, self._free, self._stop)
        self._thread = threading.Thread(target=_produce, args=arguments, name="numbacnn-loader", daemon=True)
        self._thread.start()
        self._finish = weakref.finalize(self, _end, self._free, self._stop)

    def __next__(self) -> Any:
        if not self._finish.alive:
            raise StopIteration
        item = self._ready.get()
        if isinstance(item, tuple):
            self._free.release()
            return item
        self.close()
        if item is None:
            raise StopIteration
        raise item

    def close(self) -> None:
        """End the thread; there are no batches afterwards."""
        self._finish()
        self._thread.join()


def _produce(
    prepare: Callable[[int], Any],
    numbers: Sequence[int],
    ready: SimpleQueue[Any | BaseException | None],
    free: threading.Semaphore,
    stop: threading.Event,
) -> None:
    try:
        for index in numbers:
            free.acquire()
            if stop.is_set():
                break
            ready.put(prepare(index))
        ready.put(None)
    except BaseException as error:  # whatever it is belongs to the consumer, who would wait for ever
        ready.put(error)


def _end(free: threading.Semaphore, stop: threading.Event) -> None:
    stop.set()
    free.release()
