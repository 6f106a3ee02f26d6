"""Losses and the count of right answers.

Sums run in float64 whatever the arrays are, and stay on the backend as arrays of shape (), so that nothing waits.
"""

from __future__ import annotations

import math
from typing import Any

from .. import backends
from ..backends import Array, Backend
from .arguments import check_shape, class_labels, common_dtype, convert, number, one_of, real_array

__all__ = [
    "count_correct",
    "mean_squared_error",
    "mean_squared_error_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]

REDUCTIONS = ("mean", "sum")


def softmax_cross_entropy(
    logits: Any,
    labels: Any,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    backend: str | Backend | None = None,
) -> tuple[Array, Array]:
    """The cross-entropy ``-sum over classes of target * log softmax(logits)`` over the batch, without overflow.

    Args:
        logits: (n, classes), not normalised.
        labels: (n,), class numbers: integers in 0..classes-1, not one-hot rows.
        reduction: ``"mean"`` over the batch (NaN for an empty one, as in PyTorch) or ``"sum"``.
        label_smoothing: The share s, 0..1, of the target spread evenly over all classes (Szegedy et al. 2016): the
            target is ``1 - s + s / classes`` at the label and ``s / classes`` elsewhere.
        backend: A backend or its name; the default backend if None.

    Returns:
        loss: float64, shape ().
        probabilities: (n, classes), for :func:`softmax_cross_entropy_backward`.

    Raises:
        ValueError: For labels outside 0..classes-1 or of another shape than (n,), and for a reduction other than the
            two.
        TypeError: For labels that are not integers.

    Example:
        >>> loss, probabilities = softmax_cross_entropy([[0.0, 0.0], [0.0, 0.0]], [0, 1], backend="reference")
        >>> round(float(loss), 4), probabilities.tolist()
        (0.6931, [[0.5, 0.5], [0.5, 0.5]])
    """
    backend = backends.get(backend)
    one_of("reduction", reduction, REDUCTIONS)
    label_smoothing = number("label_smoothing", label_smoothing, 0, 1)
    logits = real_array("logits", logits, backend, "n, classes")
    labels = class_labels("logits", logits, labels, backend)
    return backend.softmax_cross_entropy(
        backend.asarray(logits, common_dtype(logits)), labels, label_smoothing, _scale(reduction, logits.shape[0])
    )


def softmax_cross_entropy_backward(
    probabilities: Any,
    labels: Any,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dlogits`` (n, classes): ``probabilities - target``, over n for ``"mean"``.

    The arguments are the result and arguments of :func:`softmax_cross_entropy`, the errors likewise.
    """
    backend = backends.get(backend)
    one_of("reduction", reduction, REDUCTIONS)
    label_smoothing = number("label_smoothing", label_smoothing, 0, 1)
    probabilities = real_array("probabilities", probabilities, backend, "n, classes")
    labels = class_labels("probabilities", probabilities, labels, backend)
    return backend.softmax_cross_entropy_backward(
        backend.asarray(probabilities, common_dtype(probabilities)),
        labels,
        label_smoothing,
        _scale(reduction, probabilities.shape[0]),
    )


def mean_squared_error(
    prediction: Any, target: Any, reduction: str = "mean", *, backend: str | Backend | None = None
) -> Array:
    """The sum of ``(prediction - target)^2``, over the number of elements for ``"mean"``: float64, shape ().

    Both have one shape, nothing is broadcast: ValueError otherwise. The mean over nothing is NaN.

    >>> float(mean_squared_error([1.0, 2.0], [1.0, 4.0], backend="reference"))
    2.0
    """
    backend = backends.get(backend)
    one_of("reduction", reduction, REDUCTIONS)
    prediction, target = _prediction_and_target(prediction, target, backend)
    return backend.squared_error(prediction, target, _scale(reduction, math.prod(prediction.shape)))


def mean_squared_error_backward(
    prediction: Any, target: Any, reduction: str = "mean", *, backend: str | Backend | None = None
) -> Array:
    """``dprediction = 2 (prediction - target)``, over the number of elements for ``"mean"``."""
    backend = backends.get(backend)
    one_of("reduction", reduction, REDUCTIONS)
    prediction, target = _prediction_and_target(prediction, target, backend)
    return backend.squared_error_backward(prediction, target, _scale(reduction, math.prod(prediction.shape)))


def count_correct(logits: Any, labels: Any, *, backend: str | Backend | None = None) -> Array:
    """How many rows of ``logits`` (n, classes) have their first maximum at their label (n,): int64, shape ().

    >>> int(count_correct([[1, 2], [5, 0], [3, 3]], [1, 1, 0], backend="reference"))
    2
    """
    backend = backends.get(backend)
    logits = real_array("logits", logits, backend, "n, classes")
    labels = class_labels("logits", logits, labels, backend)
    return backend.count_correct(backend.asarray(logits, common_dtype(logits)), labels)


def _scale(reduction: str, count: int) -> float:
    if reduction == "sum":
        return 1.0
    return 1.0 / count if count else math.nan


def _prediction_and_target(prediction: Any, target: Any, backend: Backend) -> tuple[Array, ...]:
    prediction, target = real_array("prediction", prediction, backend), real_array("target", target, backend)
    check_shape("target", target, prediction.shape, "of `prediction`")
    return convert(backend, common_dtype(prediction, target), prediction, target)
