"""Loss and accuracy over many batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import ops

if TYPE_CHECKING:
    from ..nn import Layer, Loss

__all__ = ["Average", "evaluate", "summed_loss"]


class Average:
    """Running averages of loss and accuracy over the samples seen so far.

    >>> average = Average()
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

    @property
    def loss(self) -> float:
        """Loss per sample; NaN before the first."""
        return self.loss_sum / self.examples if self.examples else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of correctly classified samples, 0 to 1; NaN before the first."""
        return self.correct / self.examples if self.examples else float("nan")


def summed_loss(loss: Loss, logits: Any, labels: Any) -> float:
    """``loss.forward(logits, labels)`` summed over the batch, whichever its reduction."""
    value = loss.forward(logits, labels)
    return value * len(labels) if loss.reduction == "mean" else value


def evaluate(model: Layer, loader: Iterable[tuple[Any, Any]], loss: Loss) -> tuple[float, float]:
    """Average loss and accuracy (0 to 1) of ``model`` over the batches of ``loader``, in evaluation mode.

    Afterwards every layer is in the mode it was in.

    Raises:
        ValueError: ``loader`` gives no samples.
    """
    modes = [(layer, layer.training) for layer in model.layers()]
    average = Average()
    model.eval()
    try:
        for images, labels in loader:
            x, y = model.backend.asarray(images), model.backend.asarray(labels)
            logits = model.forward(x)
            correct = model.backend.to_numpy(ops.count_correct(logits, y, backend=model.backend))
            average.add(summed_loss(loss, logits, y), int(correct), len(labels))
    finally:
        for layer, training in modes:
            layer.training = training
    if not average.examples:
        raise ValueError("`loader` gives no samples to evaluate the model on")
    return average.loss, average.accuracy
