"""What the evaluation after an epoch got wrong: the confusion matrix and the worst mistakes, in a file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...backends import Array, Backend
from ...data.arrays.splits import check_dataset, labels_of
from ...files import user_path
from ...io.arrays import read_arrays, write_arrays
from ...io.json_text import parse_json
from ...ops.arguments import integer
from ...ops.parts import each_of
from ..callbacks import Callback, Run
from .event_values import as_bytes

if TYPE_CHECKING:
    from ...data import ArrayDataset, PairDataset, Subset

__all__ = ["Mistakes", "MistakesFile", "read_mistakes"]

_Ints = np.ndarray[Any, np.dtype[np.int64]]
MOST_KEPT = 1 << 22
"""Numbers of predictions that stay where they were computed before they are read."""


@dataclass(frozen=True)
class Mistakes:
    """What one evaluation got wrong. Its arrays of ``k`` worst mistakes begin with the highest loss."""

    epoch: int
    """After which epoch, counted from 1."""
    classes: tuple[str, ...]
    """The names of the classes."""
    confusion: _Ints
    """(classes, classes): how often the class of the row was taken for that of the column."""
    index: _Ints
    """(k,): the numbers of the samples in the data set."""
    label: _Ints
    """(k,)"""
    predicted: _Ints
    """(k,), the first largest logit."""
    label_probability: np.ndarray[Any, Any]
    """(k,) float32, 0 to 1, by softmax."""
    predicted_probability: np.ndarray[Any, Any]
    """(k,) float32, likewise."""
    images: np.ndarray[Any, Any]
    """(k, c, h, w) uint8, as the data set has them, before any transform."""

    def __repr__(self) -> str:
        right, samples = int(self.confusion.trace()), int(self.confusion.sum())
        return f"Mistakes(epoch={self.epoch}, {samples - right} of {samples} wrong in {len(self.classes)} classes)"


_ARRAYS = ("confusion", "index", "label", "predicted", "label_probability", "predicted_probability", "images")


class MistakesFile(Callback):
    """Keep the confusion matrix of the latest evaluation and its worst mistakes in a file, replaced after each epoch.

    A new run takes away the file of the former.

    The worst are those that are classified wrong with the highest cross-entropy, -log of the label's probability. It
    all comes from the evaluation that `fit` does anyway; a device is waited for at its end alone. :func:`read_mistakes`
    reads the file, and so do ``safetensors.numpy.load_file`` or ``numpy.load``: it holds the fields of `Mistakes`,
    and in its metadata, as JSON, "classes".

    Args:
        path: a ``.safetensors`` or ``.npz`` file.
        dataset: what the ``test_loader`` goes through in its order, an `ArrayDataset` or another one of images (c, h,
            w) with labels, which gives the images and the names of the classes.
        most: how many mistakes are kept, 0 or more.

    Raises:
        TypeError, ValueError: another extension, ``dataset`` of another kind, ``most`` out of range; at the beginning
            of a run, one without predictions (n, classes) and labels (n,), and at the end of an epoch, an evaluation of
            other samples or in another order.

    Example:
        >>> import tempfile
        >>> from numbacnn import data, nn, optim, use_backend
        >>> from numbacnn.training import fit
        >>> test_set = data.shapes("test", 40)
        >>> with use_backend("reference"):
        ...     model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        >>> loaders = [data.DataLoader(data.shapes("train", 40), 20), data.DataLoader(test_set, 20)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     callback = MistakesFile(f"{folder}/mistakes.safetensors", test_set, most=4)
        ...     optimizer = optim.SGD(model.parameters())
        ...     _ = fit(model, *loaders, nn.CrossEntropyLoss(), optimizer, 2, callbacks=[callback])
        ...     mistakes = read_mistakes(callback.path)
        >>> mistakes.confusion.shape, mistakes.images.shape, int(mistakes.confusion.sum())
        ((10, 10), (4, 1, 28, 28), 40)
    """

    first_rank_only = True

    def __init__(
        self, path: str | os.PathLike[str], dataset: ArrayDataset | PairDataset | Subset, most: int = 25
    ) -> None:
        if os.path.splitext(path)[1].lower() not in (".safetensors", ".npz"):
            raise ValueError(f"`path` {os.fspath(path)!r} must end in .safetensors or .npz")
        check_dataset(dataset)
        self.path = path
        self.most = integer("most", most)
        self._labels = labels_of(dataset, "MistakesFile")
        self._dataset = dataset
        if dataset.image_shape is None:
            raise ValueError(f"`dataset` {dataset!r} must be of images (c, h, w)")
        self._answers = _Answers()

    def on_fit_begin(self, run: Run) -> None:
        if not run.history.records:
            user_path(self.path).unlink(missing_ok=True)

    def on_epoch_begin(self, run: Run) -> None:
        self._answers = _Answers()

    def on_test_batch_end(self, run: Run, prediction: Any, target: Any) -> None:
        classes = len(self._dataset.classes)
        shapes = [each_of(part, lambda array: tuple(array.shape)) for part in (prediction, target)]
        if (
            isinstance(target, tuple)
            or np.dtype(target.dtype).kind not in "iu"
            or len(target.shape) != 1
            or shapes[0] != (*shapes[1], classes)
        ):
            raise ValueError(
                f"{self!r} takes predictions (n, {classes}), a number for each class of its data set, and labels (n,), "
                f"not {shapes[0]} and {shapes[1]}"
            )
        self._answers.add(prediction, target, run.model.backend)

    def on_epoch_end(self, run: Run) -> None:
        answers, self._answers = self._answers, _Answers()
        label, predicted, label_log, predicted_log = answers.read(run.model.backend)
        if not len(label):  # there was no evaluation
            return
        if not np.array_equal(label, self._labels):
            raise ValueError(
                f"`dataset` {self._dataset!r} must be what the `test_loader` goes through, in its order: their labels "
                f"differ, of {len(self._labels)} samples and of {len(label)}"
            )
        counts = label != getattr(run.loss, "ignore_index", None)
        classes = len(self._dataset.classes)
        confusion = np.zeros((classes, classes), np.int64)
        np.add.at(confusion, (label[counts], predicted[counts]), 1)
        (wrong,) = np.nonzero(counts & (label != predicted))
        worst = wrong[np.argsort(label_log[wrong], kind="stable")][: self.most]
        shape = self._dataset.image_shape
        images = [self._dataset[int(i)][0] for i in worst]
        arrays = {
            "epoch": np.array(run.epoch),
            "confusion": confusion,
            "index": worst,
            "label": label[worst],
            "predicted": predicted[worst],
            "label_probability": np.exp(label_log[worst]).astype(np.float32),
            "predicted_probability": np.exp(predicted_log[worst]).astype(np.float32),
            "images": as_bytes(np.stack(images)) if images else np.zeros((0, *(shape or ())), np.uint8),
        }
        # Several entries would come in any order, and the file of the same run have other bits.
        write_arrays(self.path, arrays, {"classes": json.dumps(list(self._dataset.classes))})


class _Answers:
    """What is known of each sample of an evaluation, read from where it was computed as late as memory allows."""

    def __init__(self) -> None:
        self._batches: list[tuple[Array, Array]] = []
        self._numbers = 0
        self._read: list[list[np.ndarray[Any, Any]]] = []

    def add(self, logits: Array, labels: Array, backend: Backend) -> None:
        self._batches.append((logits, labels))
        self._numbers += math.prod(logits.shape)
        if self._numbers >= MOST_KEPT:
            self._fetch(backend)

    def read(self, backend: Backend) -> list[np.ndarray[Any, Any]]:
        """Label, first largest class, and the logarithms of both their probabilities, of each sample."""
        self._fetch(backend)
        columns = zip(*self._read, strict=True) if self._read else [[np.zeros(0)]] * 4
        return [np.concatenate(list(column)) for column in columns]

    def _fetch(self, backend: Backend) -> None:
        for logits, labels in self._batches:
            scores = np.asarray(backend.to_numpy(logits), np.float64)
            label, rows = np.asarray(backend.to_numpy(labels), np.int64), np.arange(len(scores))
            predicted = scores.argmax(axis=1) if scores.size else np.zeros(0, np.int64)
            scores = scores - scores.max(axis=1, keepdims=True, initial=-np.inf)
            log_total = np.log(np.exp(scores).sum(axis=1))
            # The data set has no label out of range; one that the loss ignores may be.
            inside = label.clip(0, max(scores.shape[1] - 1, 0))
            logs = [scores[rows, of] - log_total for of in (inside, predicted)]
            self._read.append([label, predicted, *logs])
        self._batches, self._numbers = [], 0


def read_mistakes(path: str | os.PathLike[str]) -> Mistakes:
    """What a `MistakesFile` has written.

    Raises:
        ValueError: another extension, a file that is damaged or of another kind.
        FileNotFoundError: there is no such file.
    """
    arrays, metadata = read_arrays(path)
    try:
        return _checked(arrays, metadata)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{os.fspath(path)!r} is no file of MistakesFile: {reason}") from error


def _checked(arrays: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str]) -> Mistakes:
    classes = parse_json(metadata["classes"])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are no list of names")
    epoch = integer("epoch", arrays["epoch"][()], 1)
    found = {name: arrays[name] for name in _ARRAYS}
    n, k = len(classes), found["index"].shape[:1]
    shapes = [(n, n), *[k] * 5, (*k, *found["images"].shape[1:])]
    kinds = ("i", "i", "i", "i", "f", "f", "u")
    for (name, array), shape, kind in zip(found.items(), shapes, kinds, strict=True):
        if array.shape != shape or array.dtype.kind != kind or (name == "images" and array.ndim != 4):
            raise ValueError(f"`{name}` of shape {array.shape}, {array.dtype}, does not go with {n} classes and {k}")
    for name in ("label", "predicted"):
        if found[name].size and not 0 <= found[name].min() <= found[name].max() < n:
            raise ValueError(f"`{name}` has numbers that are none of its {n} classes")
    return Mistakes(epoch, tuple(classes), **found)
