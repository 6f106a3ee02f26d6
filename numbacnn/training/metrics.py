"""Loss, accuracy and confusion over many batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backends, ops
from ..backends import Array, Backend
from ..backends.capture import after_launch
from ..nn.grad_mode import evaluating
from ..ops.arguments import class_labels, real_array

if TYPE_CHECKING:
    from ..nn import Layer, Loss

__all__ = ["MetricSums", "RunningMean", "confusion_matrix", "evaluate"]


class RunningMean:
    """Running averages of loss and accuracy over the samples seen so far.

    >>> average = RunningMean()
    >>> average.add(loss_sum=3.0, correct=1, examples=2)
    >>> average.add(loss_sum=1.0, correct=2, examples=2)
    >>> average.loss, average.accuracy, average.examples
    (1.0, 0.75, 4)
    """

    def __init__(self) -> None:
        self.loss_sum = 0.0
        self.correct = 0
        self.examples = 0

    def add(self, loss_sum: float, correct: int, examples: int) -> None:
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

    Args:
        backend: where the sums are.
        loss_sum, correct, examples: what they start from.
    """

    def __init__(self, backend: Backend, loss_sum: float = 0.0, correct: int = 0, examples: int = 0) -> None:
        self.backend = backend
        self._loss_sum = backend.asarray(np.array(loss_sum, np.float64))
        self._correct = backend.asarray(np.array(correct, np.int64))
        self._examples = examples

    def add(self, loss: Loss, logits: Array, labels: Array) -> Array:
        """Take in a batch, its loss summed over the samples whichever the reduction; ``loss`` moves to this backend.

        Returns the batch's loss (shape ()), reduced as ``loss`` does. ValueError for one that is not reduced.
        """
        if loss.reduction == "none":
            raise ValueError(f"`loss` must have the `reduction` 'mean' or 'sum', for one number of a batch: {loss!r}")
        if loss.backend is not self.backend:
            loss.to(self.backend)
        n = int(labels.shape[0])
        value, correct = loss.compute(logits, labels), ops.count_correct(logits, labels, backend=self.backend)
        self.backend.accumulate(self._loss_sum, value, float(n) if loss.reduction == "mean" else 1.0)
        self.backend.accumulate(self._correct, correct)
        after_launch(lambda: self._count(n))
        return value

    def read(self) -> tuple[float, int, int]:
        """Loss sum, right answers and samples since the last time; waits until they are known."""
        loss_sum = float(self.backend.to_numpy(self._loss_sum))
        correct, examples = int(self.backend.to_numpy(self._correct)), self._examples
        self.backend.fill_zero(self._loss_sum)
        self.backend.fill_zero(self._correct)
        self._examples = 0
        return loss_sum, correct, examples

    def _count(self, n: int) -> None:
        self._examples += n


def evaluate(model: Layer, loader: Iterable[tuple[Any, Any]], loss: Loss) -> tuple[float, float]:
    """Average loss and accuracy (0 to 1) of ``model`` over the batches of ``loader``, in evaluation mode.

    Afterwards every layer is in the mode it was in.

    Raises:
        ValueError: ``loader`` gives no samples.
    """
    totals = MetricSums(model.backend)
    with evaluating(model):
        for images, labels in loader:
            x, y = model.backend.asarray(images), model.backend.asarray(labels)
            totals.add(loss, model.forward(x), y)
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
            y = backend.to_numpy(model.forward(backend.asarray(images)))
            logits = real_array("logits", y, host, "n, classes")
            truth = class_labels("logits", logits, backend.to_numpy(backend.asarray(labels)), host)
            if matrix is None:
                matrix = np.zeros((logits.shape[1], logits.shape[1]), np.int64)
            if len(truth):
                np.add.at(matrix, (truth, logits.argmax(axis=1)), 1)
    if matrix is None or not matrix.any():
        raise ValueError("`loader` gives no samples to evaluate the model on")
    return matrix
