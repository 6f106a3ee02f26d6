"""Loss, accuracy and confusion over many batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backends, ops
from ..backends import Array, Backend
from ..backends.capture import after_launch
from ..nn.grad_mode import evaluating
from ..nn.loss import CrossEntropyLoss
from ..nn.state import Buffer
from ..ops.arguments import class_labels, integer, real_array
from ..ops.parts import as_tuple, each_of

if TYPE_CHECKING:
    from ..nn import Layer, Loss

__all__ = [
    "Accuracy",
    "ClassAccuracy",
    "MeanAbsoluteError",
    "MeanIoU",
    "Metric",
    "MetricSums",
    "RunningMean",
    "by_name",
    "confusion_matrix",
    "on_backend",
]


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
    right answer, and of the probabilities of classes (n, classes) that `CrossEntropyLoss` takes, as `MixUp` makes them,
    of which the most probable class is the right answer. Of any others no answer is right or wrong, and the count is
    NaN.

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
        value, is_counted = loss.compute(prediction, target), True
        self.backend.accumulate(self._loss_sum, value, float(n) if loss.reduction == "mean" else 1.0)
        if _are_answers(prediction, target):
            ignored = getattr(loss, "ignore_index", None)
            correct = ops.count_correct(prediction, target, ignore_index=ignored, backend=self.backend)
            self.backend.accumulate(self._correct, correct)
        elif _are_probabilities(loss, prediction, target):
            self.backend.accumulate(self._correct, _count_probable(prediction, target, 1, self.backend))
        else:
            is_counted = False
        after_launch(lambda: self._count(n, is_counted))
        return value

    @property
    def arrays(self) -> list[Array]:
        """The sums that are the backend's: of the loss and of right answers."""
        return [self._loss_sum, self._correct]

    def copied_attributes(self) -> dict[str, Any]:
        """All attributes, for sums apart from these."""
        loss_sum, correct = map(self.backend.copy, self.arrays)
        return {**vars(self), "_loss_sum": loss_sum, "_correct": correct}

    @property
    def counts(self) -> tuple[int, bool]:
        """What the host knows: samples, and whether the answers of all of them were counted."""
        return self._examples, self._is_counted

    @counts.setter
    def counts(self, counts: tuple[int, bool]) -> None:
        self._examples, self._is_counted = counts

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


def on_backend(arrays: Any, backend: Backend) -> Any:
    """One array, or a tuple of several, on a backend."""
    return each_of(arrays, backend.asarray)


def _are_answers(prediction: Any, target: Any) -> bool:
    """Whether the target has the number of one of the classes that there is a prediction for, for each sample."""
    if isinstance(prediction, tuple) or isinstance(target, tuple):
        return False
    shape = tuple(prediction.shape)
    return len(shape) == 2 and tuple(target.shape) == shape[:1] and np.dtype(target.dtype).kind in "iu"


def _are_probabilities(loss: Loss, prediction: Any, target: Any) -> bool:
    """Whether the target says how probable each of the classes is that there is a prediction for."""
    if not isinstance(loss, CrossEntropyLoss) or isinstance(prediction, tuple) or isinstance(target, tuple):
        return False
    return len(prediction.shape) == 2 and tuple(target.shape) == tuple(prediction.shape)


def _count_probable(prediction: Any, target: Any, k: int, backend: Backend) -> Array:
    """How often the most probable class is among the k largest of its logits."""
    # Labels that are computed need not be checked, and in a captured step cannot be.
    labels = backend.largest_classes(backend.asarray(target))
    return backend.count_correct(backend.asarray(prediction), labels, k)


class Metric:
    """A figure of predictions and targets over many batches, summed where they are computed.

    :meth:`update` takes in a batch and waits for nothing, so that a captured step may hold it; :meth:`value` waits.
    `TrainingStep` and :func:`evaluate` take metrics. A subclass gives the zeros that its sums begin with, adds to them
    in :meth:`add`, and says in :meth:`value_of` what comes of them.
    """

    higher_is_better: bool | None = None
    """Which of two values is better, for callbacks that look for the best epoch; None where that is not known."""

    def __init__(self, *sums: Any) -> None:
        self._sums = [Buffer(zeros, "reference") for zeros in sums]

    def add(self, sums: Sequence[Array], prediction: Any, target: Any, backend: Backend) -> None:
        """Add what a batch gives to the sums, in place, by functions of ``backend`` and of ``ops``."""
        raise NotImplementedError(f"{type(self).__name__} must define `add`")

    def value_of(self, *sums: Any) -> float:
        """The figure, of sums that are arrays of NumPy."""
        raise NotImplementedError(f"{type(self).__name__} must define `value_of`")

    def prepare(self, backend: Backend) -> None:
        """Have the sums on ``backend``, before :meth:`update` is captured there."""
        for each in self._sums:
            each.to(backend)

    def buffers(self) -> list[Buffer]:
        """The sums, where they are."""
        return self._sums

    def update(self, prediction: Any, target: Any) -> None:
        """Take in a batch: arrays of the backend that was prepared, or what NumPy takes; several are a tuple."""
        backend = self._sums[0].backend
        prediction, target = on_backend(prediction, backend), on_backend(target, backend)
        self.add([each.value for each in self._sums], prediction, target, backend)

    def value(self) -> float:
        """The figure of all batches since :meth:`reset`; NaN before the first."""
        return self.value_of(*(each.backend.to_numpy(each.value) for each in self._sums))

    def reset(self) -> None:
        """Begin again."""
        for each in self._sums:
            each.backend.fill_zero(each.value)

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_")]
        return f"{type(self).__name__}({', '.join(shown)})"


def _label(name: str, value: Any) -> int:
    return integer(name, value, -(2**63), 2**63 - 1)


class Accuracy(Metric):
    """The share, 0 to 1, of labels that are among the ``k`` largest of their logits.

    Logits are (n, classes) or (n, classes, d1, ...) and labels (n, d1, ...); those that are ``ignore_index`` do not
    count. Of floating targets (n, classes), probabilities as `MixUp` makes them, the largest is the label.

    >>> accuracy = Accuracy(k=2)
    >>> accuracy.update([[3, 1, 2], [3, 1, 2]], [2, 1])
    >>> accuracy.value()
    0.5
    """

    higher_is_better = True

    def __init__(self, k: int = 1, ignore_index: int = -100) -> None:
        super().__init__(*(np.zeros((), np.int64) for _ in range(2)))
        self.k = integer("k", k, 1)
        self.ignore_index = _label("ignore_index", ignore_index)

    def add(self, sums: Sequence[Array], prediction: Array, target: Array, backend: Backend) -> None:
        is_probable = len(target.shape) == 2 and target.shape == prediction.shape and np.dtype(target.dtype).kind == "f"
        # Every label that counts is among all classes.
        for total, k in zip(sums, (self.k, max(1, *prediction.shape[1:2])), strict=True):
            if is_probable:
                correct = _count_probable(prediction, target, k, backend)
            else:
                correct = ops.count_correct(prediction, target, k, self.ignore_index, backend=backend)
            backend.accumulate(total, correct)

    def value_of(self, *sums: Any) -> float:
        correct, labels = map(int, sums)
        return correct / labels if labels else math.nan


class MeanIoU(Metric):
    """Of each class the positions that are labelled and predicted so, over those that are either; the mean, 0 to 1.

    Predictions and labels are those of `Accuracy`. The mean is over the classes that there are positions of.

    >>> metric = MeanIoU(classes=2)
    >>> metric.update([[1, 0], [1, 0], [0, 1]], [0, 1, 1])
    >>> metric.value()
    0.5
    """

    higher_is_better = True

    def __init__(self, classes: int, ignore_index: int = -100) -> None:
        self.classes = integer("classes", classes, 1)
        super().__init__(np.zeros((3, self.classes), np.int64))
        self.ignore_index = _label("ignore_index", ignore_index)

    def add(self, sums: Sequence[Array], prediction: Array, target: Array, backend: Backend) -> None:
        _count_classes(self, sums[0], prediction, target, backend)

    def value_of(self, *sums: Any) -> float:
        labelled, predicted, both = sums[0]
        either = labelled + predicted - both
        return float((both[either > 0] / either[either > 0]).mean()) if either.any() else math.nan


class ClassAccuracy(Metric):
    """The share of right answers among the labels of each class, 0 to 1: the diagonal of a confusion matrix, by rows.

    Its value is the mean over the classes that there are labels of, which scikit-learn calls the balanced accuracy.
    Printed, it is a table of the classes. Predictions and labels are those of `Accuracy`.

    Args:
        classes: the names of the classes, or how many there are.
        ignore_index: the label that does not count.

    >>> metric = ClassAccuracy(["cat", "dog"])
    >>> metric.update([[1, 0], [1, 0], [0, 1], [2, 1], [3, 2]], [0, 1, 1, 1, 1])
    >>> metric.value(), metric.of_each()
    (0.625, {'cat': 1.0, 'dog': 0.25})
    >>> print(metric)
    class  accuracy  right  labels
    cat       1.000      1       1
    dog       0.250      1       4
    mean      0.625      2       5
    """

    higher_is_better = True

    def __init__(self, classes: int | Sequence[str], ignore_index: int = -100) -> None:
        if isinstance(classes, str):
            raise TypeError(f"`classes` {classes!r} must be a sequence of names or their number, not one string")
        names = classes if isinstance(classes, Sequence) else range(integer("classes", classes, 1))
        self.classes = len(names)
        super().__init__(np.zeros((3, self.classes), np.int64))
        self.ignore_index = _label("ignore_index", ignore_index)
        self._names = tuple(map(str, names))

    def add(self, sums: Sequence[Array], prediction: Array, target: Array, backend: Backend) -> None:
        _count_classes(self, sums[0], prediction, target, backend)

    def value_of(self, *sums: Any) -> float:
        labelled, _, right = sums[0]
        return float((right[labelled > 0] / labelled[labelled > 0]).mean()) if labelled.any() else math.nan

    def of_each(self) -> dict[str, float]:
        """The accuracy of each class, by its name; NaN where it has no labels."""
        labelled, _, right = self._counts()
        shares = [r / n if n else math.nan for r, n in zip(right, labelled, strict=True)]
        return dict(zip(self._names, shares, strict=True))

    def __str__(self) -> str:
        labelled, _, right = self._counts()
        rows = [*zip(self._names, self.of_each().values(), right, labelled, strict=True)]
        rows.append(("mean", self.value(), sum(right), sum(labelled)))
        width = max(len("class"), *(len(name) for name, *_ in rows))
        lines = [f"{name:{width}}  {share:8.3f}  {r:5}  {n:6}" for name, share, r, n in rows]
        return "\n".join([f"{'class':{width}}  accuracy  right  labels", *lines])

    def _counts(self) -> list[list[int]]:
        (counts,) = self._sums
        rows: list[list[int]] = counts.backend.to_numpy(counts.value).tolist()
        return rows


def _count_classes(metric: MeanIoU | ClassAccuracy, sums: Array, prediction: Array, target: Array, on: Backend) -> None:
    """Add how often each class is labelled, predicted, and both."""
    if tuple(prediction.shape[1:2]) != (metric.classes,):
        raise ValueError(f"`prediction` {tuple(prediction.shape)} must be of {metric.classes} classes: {metric!r}")
    on.accumulate(sums, ops.count_classes(prediction, target, metric.ignore_index, backend=on))


class MeanAbsoluteError(Metric):
    """The mean of abs(prediction - target) over all elements of all batches, whose shapes are alike.

    >>> metric = MeanAbsoluteError()
    >>> metric.update([[1.0], [2.0]], [[2.0], [4.0]])
    >>> metric.value()
    1.5
    """

    higher_is_better = False

    def __init__(self) -> None:
        super().__init__(np.zeros((), np.float64), np.zeros((), np.float64))
        self._one = Buffer(np.ones((), np.float64), "reference")

    def prepare(self, backend: Backend) -> None:
        super().prepare(backend)
        self._one.to(backend)

    def add(self, sums: Sequence[Array], prediction: Array, target: Array, backend: Backend) -> None:
        total = ops.pointwise_loss(prediction, target, "smooth_l1", 0.0, "sum", backend=backend)
        backend.accumulate(sums[0], total)
        backend.accumulate(sums[1], self._one.value, float(math.prod(prediction.shape)))

    def value_of(self, *sums: Any) -> float:
        total, elements = map(float, sums)
        return total / elements if elements else math.nan


def by_name(metrics: Mapping[str, Metric] | Sequence[Metric]) -> dict[str, Metric]:
    """The metrics of an argument with their names, those of a sequence being what is printed of them."""
    if isinstance(metrics, Metric) or not isinstance(metrics, (Mapping, Sequence)):
        raise TypeError(f"`metrics` {metrics!r} must be a mapping of names to metrics or a sequence of metrics")
    named = list(metrics.items() if isinstance(metrics, Mapping) else ((repr(metric), metric) for metric in metrics))
    for name, metric in named:
        if not isinstance(name, str) or not isinstance(metric, Metric):
            raise TypeError(f"`metrics` must be made of metrics with strings as names, not {name!r}: {metric!r}")
    if len({id(metric) for _, metric in named}) < len(named):
        raise ValueError(f"`metrics` {metrics!r} must hold each metric once")
    if len(dict(named)) < len(named):
        raise ValueError(f"`metrics` {metrics!r} must be a mapping where two are printed alike, to tell them apart")
    return dict(named)


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
