"""Losses and the count of right answers.

Sums run in float64 whatever the arrays are, and stay on the backend as arrays of shape (), so that nothing waits.
"""

from __future__ import annotations

import math
from typing import Any, cast, get_args

import numpy as np

from .. import backends
from ..backends import Array, Backend
from ..backends.contract import PointwiseLoss, Reduction
from .arguments import check_shape, class_labels, class_targets, common_dtype, integer, number, one_of, real_array

__all__ = [
    "count_classes",
    "count_correct",
    "nll_loss",
    "nll_loss_backward",
    "pointwise_loss",
    "pointwise_loss_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]

REDUCTIONS: tuple[str, ...] = get_args(Reduction)
KINDS: tuple[str, ...] = get_args(PointwiseLoss)
ANY_LABEL = (-(2**63), 2**63 - 1)


def softmax_cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    backend: str | Backend | None = None,
) -> tuple[Array, Array, Array]:
    """The cross-entropy of softmax(logits) and a target, for each row or position of images, without overflow.

    ``-sum over classes of weight * target * log softmax(logits)``, where a label is the target 1 at its class and 0
    elsewhere. A class of probability 0 of which the target is 0 as well costs nothing.

    Args:
        logits: (n, classes), or (n, classes, d1, ...) for the positions of images; not normalised.
        target: labels, integers of the shape (n, d1, ...), each in 0..classes-1 or ``ignore_index``; or floating
            numbers of the logits' shape, the probabilities of the classes.
        weight: (classes,), how much each class counts; None for 1.
        ignore_index: The label of positions that cost nothing and have no gradient.
        reduction: ``"sum"``; ``"mean"``, over the weights of the labels that count or, of probabilities, the number of
            positions (NaN where there is nothing, as in PyTorch); ``"none"`` for a loss of each position.
        label_smoothing: The share s, 0..1, of the target spread evenly over all classes (Szegedy et al. 2016): it
            becomes ``(1 - s) target + s / classes``. Of a label, the first term has the weight of the label.
        backend: A backend or its name; the default backend if None.

    Returns:
        loss: float64, shape (), or for ``"none"`` (n, d1, ...) in the dtype of the logits.
        probabilities: Of the logits' shape, for :func:`softmax_cross_entropy_backward`.
        scale: float64, shape (): what the reduction multiplied the sum by; likewise.

    Raises:
        ValueError: For labels that are neither in 0..classes-1 nor ignored, for targets and weights of other shapes,
            and for a reduction other than the three.
        TypeError: For targets of the labels' shape that are not integers.

    Example:
        >>> loss, probabilities, _ = softmax_cross_entropy([[0.0, 0.0], [0.0, 0.0]], [0, 1], backend="reference")
        >>> round(float(loss), 4), probabilities.tolist()
        (0.6931, [[0.5, 0.5], [0.5, 0.5]])
    """
    backend = backends.get(backend)
    reduction = _reduction(reduction)
    logits = _logits("logits", logits, backend)
    arguments = _options("logits", logits, target, weight, ignore_index, label_smoothing, backend, is_forward=True)
    loss, probabilities, scale = backend.softmax_cross_entropy(*(*arguments, reduction))
    if reduction == "none":
        loss = backend.reshape(loss, _positions(logits))
    return loss, backend.reshape(probabilities, logits.shape), scale


def softmax_cross_entropy_backward(
    scale: Any,
    probabilities: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dlogits`` (n, classes, d1, ...) for the losses of all positions times ``scale``.

    ``scale`` is what :func:`softmax_cross_entropy` returned, of shape (), or a cotangent (n, d1, ...) of the losses of
    ``"none"``. Where nothing is weighted or ignored, ``dlogits`` is ``scale * (probabilities - target)``. The other
    arguments are the result and arguments of :func:`softmax_cross_entropy`, the errors likewise.
    """
    backend = backends.get(backend)
    probabilities = _logits("probabilities", probabilities, backend)
    arguments = _options(
        *("probabilities", probabilities, target, weight, ignore_index, label_smoothing, backend), is_forward=False
    )
    scale = _scale_of("probabilities", scale, probabilities, arguments[0].dtype, backend)
    return backend.reshape(backend.softmax_cross_entropy_backward(scale, *arguments), probabilities.shape)


def nll_loss(
    x: Any,
    labels: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    backend: str | Backend | None = None,
) -> tuple[Array, Array]:
    """The negative logarithm of the label's probability: ``-weight * x`` at the label, of each position.

    Args:
        x: (n, classes) or (n, classes, d1, ...), logarithms of probabilities.
        labels: (n, d1, ...).
        weight, ignore_index, reduction, backend: As of :func:`softmax_cross_entropy`, with its errors.

    Returns:
        loss: float64, shape (), or for ``"none"`` (n, d1, ...) in the dtype of x.
        scale: float64, shape (): what the reduction multiplied the sum by, for :func:`nll_loss_backward`.

    >>> loss, _ = nll_loss([[-1.0, -2.0], [-3.0, -4.0]], [1, 0], backend="reference")
    >>> float(loss)
    2.5
    """
    backend = backends.get(backend)
    reduction = _reduction(reduction)
    x = _logits("x", x, backend)
    arguments = _label_options("x", x, labels, weight, ignore_index, backend, is_forward=True)
    loss, scale = backend.nll_loss(*(*arguments, reduction))
    return (backend.reshape(loss, _positions(x)) if reduction == "none" else loss), scale


def nll_loss_backward(
    scale: Any,
    x: Any,
    labels: Any,
    weight: Any = None,
    ignore_index: int = -100,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dx``, ``-scale * weight`` at the labels and 0 elsewhere.

    ``scale`` is that of :func:`softmax_cross_entropy_backward`.
    """
    backend = backends.get(backend)
    x = _logits("x", x, backend)
    arguments = _label_options("x", x, labels, weight, ignore_index, backend, is_forward=False)
    scale = _scale_of("x", scale, x, arguments[0].dtype, backend)
    return backend.reshape(backend.nll_loss_backward(scale, *arguments), x.shape)


def pointwise_loss(
    prediction: Any,
    target: Any,
    kind: str = "squared",
    parameter: float = 0.0,
    reduction: str = "mean",
    weight: Any = None,
    pos_weight: Any = None,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """The loss of each element of ``prediction`` and ``target``, their sum, or their mean.

    With d = prediction - target, the kinds are

    - ``"squared"``: d^2;
    - ``"smooth_l1"``: d^2 / (2 parameter) where abs(d) < parameter, else abs(d) - parameter / 2; of 0 that is abs(d);
    - ``"huber"``: d^2 / 2 where abs(d) <= parameter, else parameter (abs(d) - parameter / 2);
    - ``"logistic"``: the cross-entropy of sigmoid(prediction) and target, without overflow, where a positive target
      weighs ``pos_weight``: -pos_weight target log sigmoid(prediction) - (1 - target) log(1 - sigmoid(prediction)).

    Args:
        prediction, target: Of one shape, nothing is broadcast.
        kind: One of the four.
        parameter: At least 0.
        reduction: ``"mean"`` over the number of elements (NaN of nothing), ``"sum"`` or ``"none"``.
        weight: What each loss is multiplied by; it is broadcast to the prediction's shape. None for 1.
        pos_weight: For ``"logistic"``, likewise.
        backend: A backend or its name; the default backend if None.

    Returns:
        float64 of shape (), or for ``"none"`` the losses in the common dtype of prediction and target.

    Raises:
        ValueError: For a target of another shape, weights that do not fit, and other kinds and reductions.

    >>> float(pointwise_loss([1.0, 2.0], [1.0, 4.0], backend="reference"))
    2.0
    """
    backend = backends.get(backend)
    reduction = _reduction(reduction)
    arguments = _elements(prediction, target, kind, parameter, weight, pos_weight, backend)
    if reduction == "none":
        return backend.pointwise_loss(*arguments)
    return backend.pointwise_loss_sum(*(*arguments, _scale(reduction, arguments[0].shape)))


def pointwise_loss_backward(
    dy: Any,
    prediction: Any,
    target: Any,
    kind: str = "squared",
    parameter: float = 0.0,
    reduction: str = "mean",
    weight: Any = None,
    pos_weight: Any = None,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dprediction`` of :func:`pointwise_loss`, times the cotangent ``dy``.

    ``dy`` is None but for the reduction ``"none"``, whose losses' shape it has then: ValueError otherwise. Where a loss
    has no derivative it is 0.
    """
    backend = backends.get(backend)
    reduction = _reduction(reduction)
    arguments = _elements(prediction, target, kind, parameter, weight, pos_weight, backend)
    shape, dtype = arguments[0].shape, arguments[0].dtype
    if (dy is None) == (reduction == "none"):
        raise ValueError(f"`dy` must be {'given' if dy is None else 'None'} where `reduction` is {reduction!r}")
    if dy is not None:
        dy = real_array("dy", dy, backend)
        check_shape("dy", dy, shape, "of the losses")
        dy = backend.asarray(dy, dtype)
    return backend.pointwise_loss_backward(*(dy, *arguments, _scale(reduction, shape)))


def count_correct(
    logits: Any, labels: Any, k: int = 1, ignore_index: int | None = None, *, backend: str | Backend | None = None
) -> Array:
    """How many labels are among the ``k`` largest of their logits: int64, shape ().

    Logits are (n, classes) or (n, classes, d1, ...) and labels (n, d1, ...), of which ``ignore_index`` is not counted.
    Of equal logits the first is the larger.

    >>> int(count_correct([[1, 2], [5, 0], [3, 3]], [1, 1, 0], backend="reference"))
    2
    """
    backend = backends.get(backend)
    logits, labels, ignored = _answers(logits, labels, ignore_index, backend)
    return backend.count_correct(logits, labels, integer("k", k, 1), ignored)


def count_classes(
    logits: Any, labels: Any, ignore_index: int | None = None, *, backend: str | Backend | None = None
) -> Array:
    """For each class how many positions have it as label, as largest logit, and as both: int64, (3, classes).

    The arguments are those of :func:`count_correct`.

    >>> count_classes([[1, 2], [5, 0], [3, 3]], [1, 1, 0], backend="reference").tolist()
    [[1, 2], [2, 1], [1, 1]]
    """
    backend = backends.get(backend)
    return backend.count_classes(*_answers(logits, labels, ignore_index, backend))


def _answers(logits: Any, labels: Any, ignore_index: Any, backend: Backend) -> tuple[Array, Array, int]:
    logits = _logits("logits", logits, backend)
    ignored = -1 if ignore_index is None else integer("ignore_index", ignore_index, *ANY_LABEL)
    labels = class_labels("logits", logits, labels, backend, None if ignore_index is None else ignored)
    return _planes(logits, common_dtype(logits), backend), _as_planes(labels, logits, backend), ignored


def _reduction(reduction: Any) -> Reduction:
    return cast(Reduction, one_of("reduction", reduction, REDUCTIONS))


def _scale(reduction: str, shape: tuple[int, ...]) -> float:
    count = math.prod(shape)
    if reduction != "mean":
        return 1.0
    return 1.0 / count if count else math.nan


def _logits(name: str, x: Any, backend: Backend) -> Array:
    x = real_array(name, x, backend)
    if len(x.shape) < 2:
        raise ValueError(f"`{name}` {tuple(x.shape)} must have 2 axes or more (n, classes, ...)")
    return x


def _positions(x: Array) -> tuple[int, ...]:
    return (x.shape[0], *x.shape[2:])


def _options(
    owner: str,
    x: Array,
    target: Any,
    weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    backend: Backend,
    *,
    is_forward: bool,
) -> tuple[Any, ...]:
    """``x``, the target, the weight, the label that is ignored, and how labels are smoothed, as backends take them.

    A backward pass gets labels that were looked at before the forward pass, which may be where a launch copies them to.
    """
    label_smoothing = number("label_smoothing", label_smoothing, 0, 1)
    ignore_index = integer("ignore_index", ignore_index, *ANY_LABEL)
    target, dtype = class_targets(owner, x, target, backend, ignore_index, is_forward)
    weight = _class_weight(owner, x, weight, dtype, backend)
    return _planes(x, dtype, backend), _as_planes(target, x, backend), weight, ignore_index, label_smoothing


def _label_options(
    owner: str, x: Array, labels: Any, weight: Any, ignore_index: Any, backend: Backend, *, is_forward: bool
) -> tuple[Any, ...]:
    """``x``, the labels, the weight and the label that is ignored, as backends take them."""
    ignore_index = integer("ignore_index", ignore_index, *ANY_LABEL)
    labels = class_labels(owner, x, labels, backend, ignore_index, is_forward)
    dtype = common_dtype(x)
    weight = _class_weight(owner, x, weight, dtype, backend)
    return _planes(x, dtype, backend), _as_planes(labels, x, backend), weight, ignore_index


def _planes(x: Array, dtype: np.dtype[Any], backend: Backend) -> Array:
    return _as_planes(backend.asarray(x, dtype), x, backend)


def _as_planes(array: Array, x: Array, backend: Backend) -> Array:
    """``array``, of the elements or positions of ``x`` (n, classes, ...), as if that were a matrix or images."""
    if len(x.shape) in (2, 4):
        return array
    first = x.shape[:2] if len(array.shape) == len(x.shape) else x.shape[:1]
    return backend.reshape(array, (*first, math.prod(x.shape[2:]), 1))


def _class_weight(owner: str, x: Array, weight: Any, dtype: np.dtype[Any], backend: Backend) -> Array | None:
    if weight is None:
        return None
    weight = real_array("weight", weight, backend)
    check_shape("weight", weight, x.shape[1:2], f"for `{owner}` {tuple(x.shape)}: a number for each class")
    return backend.asarray(weight, dtype)


def _scale_of(owner: str, scale: Any, x: Array, dtype: np.dtype[Any], backend: Backend) -> Array:
    scale = real_array("scale", scale, backend)
    if not scale.shape:
        return backend.asarray(scale, np.float64)
    check_shape("scale", scale, _positions(x), f"for `{owner}` {tuple(x.shape)}, or ()")
    return _as_planes(backend.asarray(scale, dtype), x, backend)


def _elements(
    prediction: Any, target: Any, kind: Any, parameter: Any, weight: Any, pos_weight: Any, backend: Backend
) -> tuple[Any, ...]:
    """What the backends' pointwise losses take."""
    kind = one_of("kind", kind, KINDS)
    parameter = number("parameter", parameter, 0)
    prediction, target = real_array("prediction", prediction, backend), real_array("target", target, backend)
    check_shape("target", target, prediction.shape, "of `prediction`")
    if pos_weight is not None and kind != "logistic":
        raise ValueError(f"`pos_weight` is of the kind 'logistic', not {kind!r}")
    dtype, shape = common_dtype(prediction, target), tuple(prediction.shape)
    weights = [
        _expanded(name, w, shape, dtype, backend) for name, w in (("weight", weight), ("pos_weight", pos_weight))
    ]
    return backend.asarray(prediction, dtype), backend.asarray(target, dtype), kind, parameter, *weights


def _expanded(name: str, x: Any, shape: tuple[int, ...], dtype: np.dtype[Any], backend: Backend) -> Array | None:
    """``x`` of a shape that it is broadcast to."""
    if x is None:
        return None
    x = real_array(name, x, backend)
    try:
        fits = np.broadcast_shapes(tuple(x.shape), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"`{name}` {tuple(x.shape)} must be broadcast to the shape {shape} of `prediction`")
    x = backend.asarray(x, dtype)
    return x if tuple(x.shape) == shape else backend.expand(x, shape)
