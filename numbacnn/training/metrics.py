"""Loss, accuracy and confusion over many batches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backends
from ..backends import Array, Backend
from ..backends.capture import after_launch
from ..nn.grad_mode import evaluating
from ..ops.arguments import class_labels, common_dtype, real_array

if TYPE_CHECKING:
    from ..nn import Layer, Loss

__all__ = ["MetricSums", "RunningMean", "as_tuple", "confusion_matrix", "evaluate", "on_backend"]


class RunningMean:
    """Running averages of loss and accuracy over the samples seen so far; the latter is NaN where no answers are right.

    >>> average = RunningMean()
    >>> average.add(loss_sum=3.0, correct=1, examples=2)
    >>> average.add(loss_sum=1.0, correct=2, examples=2)
    >>> average.loss, average.accuracy, average.examples
    (1.0, 0.75, 4)
    """

    def __init__(self) -> None:
        self.loss_sum = 0.0
        self.correct: float = 0
        self.examples = 0

    def add(self, loss_sum: float, correct: float, examples: int) -> None:
        """Take in a batch."""
        self.loss_sum += loss_sum
        self.correct += correct
        self.examples += examples

    def __repr__(self) -> str:
        return f"RunningMean(loss={self.loss:.4g}, accuracy={self.accuracy:.4g}, examples={self.examples})"

    @property
    def loss(self) -> float:
        """Loss per sample; NaN before the first."""
        return self.loss_sum / self.examples if self.examples else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of correctly classified samples, 0 to 1; NaN before the first."""
        return self.correct / self.examples if self.examples else float("nan")


class MetricSums:
    """Loss, right answers and samples of many batches, summed where they are computed: only ``read`` waits for them.

    Answers are counted of predictions (n, classes) and integer targets (n,), of which one that the loss ignores has no
    right answer. Of any others no answer is right or wrong, and the count is NaN.

    Args:
        backend: where the sums are.
        loss_sum, correct, examples: what they start from.
    """

    def __init__(self, backend: Backend, loss_sum: float = 0.0, correct: float = 0, examples: int = 0) -> None:
        self.backend = backend
        self._loss_sum = backend.asarray(np.array(loss_sum, np.float64))
        self._is_counted = not math.isnan(correct)
        self._correct = backend.asarray(np.array(correct if self._is_counted else 0, np.int64))
        self._examples = examples

    def add(self, loss: Loss, prediction: Any, target: Any) -> Array:
        """Take in a batch, its loss summed over the samples whichever the reduction; ``loss`` moves to this backend.

        Returns the batch's loss (shape ()), reduced as ``loss`` does. ValueError for one that is not reduced.
        """
        if loss.reduction == "none":
            raise ValueError(f"`loss` must have the `reduction` 'mean' or 'sum', for one number of a batch: {loss!r}")
        if loss.backend is not self.backend:
            loss.to(self.backend)
        n = int(as_tuple(target)[0].shape[0])
        value, is_counted = loss.compute(prediction, target), _are_answers(prediction, target)
        self.backend.accumulate(self._loss_sum, value, float(n) if loss.reduction == "mean" else 1.0)
        if is_counted:
            self.backend.accumulate(self._correct, _count_correct(loss, prediction, target, self.backend))
        after_launch(lambda: self._count(n, is_counted))
        return value

    def read(self) -> tuple[float, float, int]:
        """Loss sum, right answers and samples since the last time; waits until they are known."""
        loss_sum = float(self.backend.to_numpy(self._loss_sum))
        correct, examples = int(self.backend.to_numpy(self._correct)), self._examples
        is_counted, self._is_counted = self._is_counted, True
        self.backend.fill_zero(self._loss_sum)
        self.backend.fill_zero(self._correct)
        self._examples = 0
        return loss_sum, correct if is_counted else math.nan, examples

    def _count(self, n: int, is_counted: bool) -> None:
        self._examples += n
        self._is_counted &= is_counted


def as_tuple(arrays: Any) -> tuple[Array, ...]:
    """One array, or a tuple of several, as a tuple."""
    return arrays if isinstance(arrays, tuple) else (arrays,)


def on_backend(arrays: Any, backend: Backend) -> Any:
    """One array, or a tuple of several, on a backend."""
    return tuple(map(backend.asarray, arrays)) if isinstance(arrays, tuple) else backend.asarray(arrays)


def _are_answers(prediction: Any, target: Any) -> bool:
    """Whether the target has the number of one of the classes that there is a prediction for, for each sample."""
    if isinstance(prediction, tuple) or isinstance(target, tuple):
        return False
    shape = tuple(prediction.shape)
    return len(shape) == 2 and tuple(target.shape) == shape[:1] and np.dtype(target.dtype).kind in "iu"


def _count_correct(loss: Loss, prediction: Array, target: Array, backend: Backend) -> Array:
    """Of labels that are in range or that the loss ignores, which are not right."""
    labels = class_labels("logits", prediction, target, backend, getattr(loss, "ignore_index", None))
    return backend.count_correct(backend.asarray(prediction, common_dtype(prediction)), labels)


def evaluate(model: Layer, loader: Iterable[tuple[Any, Any]], loss: Loss) -> tuple[float, float]:
    """Average loss and accuracy (0 to 1) of ``model`` over the batches of ``loader``, in evaluation mode.

    Targets may be whatever ``loss`` compares predictions with; the inputs of a model of several are a tuple. The
    accuracy is NaN where targets are not the numbers of classes (n,), with predictions (n, classes). A loss that is a
    mean counts for as many samples as its batch has. Afterwards every layer is in the mode it was in.

    Raises:
        ValueError: ``loader`` gives no samples.
    """
    totals = MetricSums(model.backend)
    with evaluating(model):
        for images, labels in loader:
            x, y = on_backend(images, model.backend), on_backend(labels, model.backend)
            totals.add(loss, model.forward(*as_tuple(x)), y)
    average = RunningMean()
    average.add(*totals.read())
    if not average.examples:
        raise ValueError("`loader` gives no samples to evaluate the model on")
    return average.loss, average.accuracy


def confusion_matrix(model: Layer, loader: Iterable[tuple[Any, Any]]) -> np.ndarray[Any, Any]:
    """How often ``model`` takes which class for which, over the batches of ``loader``, in evaluation mode.

    An int64 array (classes, classes): the row is the label, the column the first largest logit, as scikit-learn's
    ``confusion_matrix`` has it, so that the sum is the number of samples and the trace that of the right answers.
    Afterwards every layer is in the mode it was in.

    Raises:
        ValueError: ``loader`` gives no samples, the outputs are not (n, classes), or labels are out of range.

    >>> from numbacnn import nn, use_backend
    >>> with use_backend("reference"):
    ...     model = nn.Identity()
    >>> confusion_matrix(model, [([[2, 1], [0, 3]], [0, 0]), ([[0, 1]], [1])])
    array([[1, 1],
           [0, 1]])
    """
    backend, host = model.backend, backends.get("reference")
    matrix = None
    with evaluating(model):
        for images, labels in loader:
            y = backend.to_numpy(model.forward(*as_tuple(on_backend(images, backend))))
            logits = real_array("logits", y, host, "n, classes")
            truth = class_labels("logits", logits, backend.to_numpy(backend.asarray(labels)), host)
            if matrix is None:
                matrix = np.zeros((logits.shape[1], logits.shape[1]), np.int64)
            if len(truth):
                np.add.at(matrix, (truth, logits.argmax(axis=1)), 1)
    if matrix is None or not matrix.any():
        raise ValueError("`loader` gives no samples to evaluate the model on")
    return matrix
