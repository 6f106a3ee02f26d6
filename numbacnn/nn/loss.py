"""Loss functions: from predictions and targets to one number, and back."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, get_args

import numpy as np

from .. import backends, ops
from ..backends import Array, Backend
from ..backends.contract import Reduction
from ..ops.arguments import integer, number, one_of
from ..ops.parts import each_of
from .saved import Remembering
from .settings import setting
from .state import Buffer, Constant, OnBackend, State, as_floating

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class Loss(OnBackend, Remembering):
    """``forward(prediction, target)`` gives the loss as a float, ``backward()`` the gradient of the prediction.

    ``compute(prediction, target)`` gives it as an array of the backend, float64 of shape (), and waits for nothing; it
    is what a subclass defines, with ``backward``; one without it is a TypeError when made. ``reduction`` is
    ``"mean"``, ``"sum"`` or ``"none"``. With that, ``forward`` and ``compute`` give the losses themselves, an array of
    the backend, and ``backward(dy)`` takes their cotangent. As a layer, a loss remembers one forward pass, and refuses
    a second backward pass after several.
    """

    reduction: str = setting(partial(one_of, names=get_args(Reduction)))

    _remedy = "or use a loss of its own for each"

    def __init__(self, reduction: str = "mean") -> None:
        if type(self).compute is Loss.compute:
            raise TypeError(
                f"{type(self).__name__} must define `compute(prediction, target)`, which returns the loss as an array "
                "of its backend, of shape (); `forward` makes a float of it"
            )
        self.reduction = reduction
        self.backend = backends.get()
        self._saved: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_saved": None}

    def __getattr__(self, name: str) -> Any:
        kind = type(self).__name__
        hint = "" if "backend" in vars(self) else f": {kind}.__init__ must call `super().__init__()`"
        raise AttributeError(f"{kind!r} object has no attribute {name!r}{hint}")

    def forward(self, prediction: Any, target: Any) -> Any:
        """The loss: a float, or an array of the backend where ``reduction`` is ``"none"``."""
        loss = self.compute(prediction, target)
        return loss if self.reduction == "none" else float(self.backend.to_numpy(loss))

    def compute(self, prediction: Any, target: Any) -> Array:
        """The loss, still on the backend."""
        raise NotImplementedError(f"{type(self).__name__} must define `compute`")

    def backward(self, dy: Any = None) -> Array:
        """The gradient of the last loss with respect to the prediction; ``dy`` is for the reduction ``"none"``."""
        raise NotImplementedError(f"{type(self).__name__} must define `backward`")

    def backward_of_sum(self, samples: int) -> tuple[Any, Any]:
        """``backward`` of the sum that the last mean is made of, and what that was divided by: numbers of batches add.

        Of a loss of one's own, which says nothing of it, they are the gradient times ``samples``, those of the batch,
        and ``samples``. Of a loss that is a sum, the divisor is None. It is a float, or a float64 of shape () on the
        backend.
        """
        dy = self.backward()
        if self.reduction == "sum":
            return dy, None
        return each_of(dy, lambda part: None if part is None else self._times(part, samples)), float(samples)

    def _times(self, dy: Any, factor: float) -> Array:
        dy = as_floating(dy, self.backend, name="dy")
        total = self.backend.zeros(tuple(dy.shape), dy.dtype)
        self.backend.accumulate(total, dy, float(factor))
        return total

    def _computes_as(self, kind: type[Loss]) -> bool:
        """Whether no subclass has taken the place of what ``kind`` computes."""
        return type(self).compute is kind.compute and type(self).backward is kind.backward

    def __call__(self, prediction: Any, target: Any) -> Any:
        return self.forward(prediction, target)

    def drop_saved(self) -> None:
        """Forget what forward passes saved: backward needs a new one."""
        self._saved = None

    def to(self, backend: str | Backend) -> Loss:
        """Compute on another backend from now on. Returns itself."""
        self.backend = backends.get(backend)
        _follow(self)
        self.drop_saved()
        return self

    def extra_repr(self) -> str:
        """What else is told of it between parentheses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        return f"{type(self).__name__}(reduction={self.reduction!r}{extra and f', {extra}'})"


def _refuse_text(name: str, value: Any, rule: str) -> None:
    """TypeError for what is most likely a reduction, given where another argument comes first."""
    if isinstance(value, str):
        raise TypeError(f"`{name}` {value!r} must be {rule}; a reduction is given by the keyword `reduction=`")


def _buffer(name: str, value: Any, rule: str = "an array of numbers, or None") -> Buffer | None:
    """Numbers that are not trained, float32 or as they come, in an array of their own."""
    _refuse_text(name, value, rule)
    if value is None or isinstance(value, Buffer):
        return value
    host = backends.get("reference")
    dtype = None if hasattr(value, "dtype") else np.float32
    return Buffer(as_floating(value, host, dtype, name), host)


def _of_each_class(name: str, value: Any) -> Buffer | None:
    rule = "(classes,), a number for each class, or None"
    buffer = _buffer(name, value, rule)
    if buffer is not None and (len(buffer.shape) != 1 or not buffer.size):
        raise ValueError(f"`{name}` {buffer.shape} must be {rule}")
    return buffer


def _label_to_ignore(name: str, value: Any) -> int:
    _refuse_text(name, value, "an int")
    return integer(name, value, -(2**63), 2**63 - 1)


def _follow(owner: Loss) -> None:
    """What was assigned is where the loss is."""
    for value in vars(owner).values():
        if isinstance(value, State):
            value.to(owner.backend)


def _value(buffer: Buffer | None) -> Array | None:
    return None if buffer is None else buffer.value


class _OfClasses(Loss):
    """What cross-entropy and the negative logarithm have in common."""

    weight: Any = setting(_of_each_class, together=_follow)
    ignore_index: int = setting(_label_to_ignore)

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = weight
        self.ignore_index = ignore_index
        self._one = Constant(np.ones((), np.float64), self.backend)
        _follow(self)

    def extra_repr(self) -> str:
        weight = [] if self.weight is None else [f"weight of {self.weight.size} classes"]
        return ", ".join([*weight, *([f"ignore_index={self.ignore_index}"] if self.ignore_index != -100 else [])])

    def _scale(self, scale: Array, dy: Any) -> Any:
        """What the backward pass multiplies by: of the reduction, or the cotangent."""
        if (dy is None) == (scale is None):
            raise ValueError(
                f"`dy` must be {'given' if dy is None else 'None'} after a loss of the reduction "
                f"{'none' if scale is None else self.reduction!r}: {self!r}"
            )
        return scale if dy is None else dy

    def _backward_of_sum(self, kind: type[Loss], samples: int) -> tuple[Any, Any]:
        """`backward_of_sum` of a loss that keeps first what its sum was multiplied by, and has ``_gradient``."""
        if self.reduction != "mean" or not self._computes_as(kind):
            return Loss.backward_of_sum(self, samples)
        scale, *kept = self.saved
        self.answered()
        divisor = self.backend.copy(self._one.value)
        self.backend.divide(divisor, scale)
        return self._gradient(self._one.value, *kept), divisor

    def _gradient(self, scale: Any, *kept: Any) -> Array:
        """That of the losses of all positions times ``scale``."""
        raise NotImplementedError


class CrossEntropyLoss(_OfClasses):
    """-log softmax(logits)[label], over logits (n, classes) and integer labels (n,); gradient: probabilities - one-hot.

    Logits may also be (n, classes, d1, ...), such as those of each pixel, with labels (n, d1, ...). Instead of labels,
    the target may be probabilities of the classes, floating numbers of the logits' shape:
    -sum over classes of target log softmax(logits).

    Args:
        weight: (classes,), how much each class counts; kept as a `Buffer`. None for 1.
        ignore_index: the label of positions that cost nothing and whose gradient is 0.
        reduction: ``"mean"`` divides by the weights of the labels that count, or by the number of positions where the
            target is probabilities; ``"sum"``; ``"none"`` for a loss of each position, see `Loss`.
        label_smoothing: s in 0..1 mixes the target with the uniform distribution: (1 - s) target + s / classes.

    Raises:
        ValueError: when called with labels that are neither in 0..classes-1 nor ``ignore_index``, and for targets and
            weights of other shapes.
        TypeError: for targets of the labels' shape that are not integers.

    >>> from numbacnn import use_backend
    >>> with use_backend("reference"):
    ...     loss = CrossEntropyLoss()
    >>> round(loss.forward([[0, 0]], [1]), 6), loss.backward()
    (0.693147, array([[ 0.5, -0.5]], dtype=float32))
    """

    label_smoothing: float = setting(partial(number, low=0, high=1))

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = label_smoothing

    def compute(self, prediction: Any, target: Any) -> Array:
        options = (_value(self.weight), self.ignore_index)
        loss, probabilities, scale = ops.softmax_cross_entropy(
            prediction, target, *options, self.reduction, self.label_smoothing, backend=self.backend
        )
        scale = None if self.reduction == "none" else scale
        self.saved = (scale, probabilities, self.backend.copy(self.backend.asarray(target)))
        return loss

    def backward(self, dy: Any = None) -> Array:
        scale, *kept = self.saved
        return self._gradient(self._scale(scale, dy), *kept)

    def backward_of_sum(self, samples: int) -> tuple[Any, Any]:
        return self._backward_of_sum(CrossEntropyLoss, samples)

    def _gradient(self, scale: Any, *kept: Any) -> Array:
        probabilities, target = kept
        options = (_value(self.weight), self.ignore_index, self.label_smoothing)
        return ops.softmax_cross_entropy_backward(scale, probabilities, target, *options, backend=self.backend)

    def extra_repr(self) -> str:
        smoothing = [f"label_smoothing={self.label_smoothing}"] if self.label_smoothing else []
        return ", ".join([*filter(None, [super().extra_repr()]), *smoothing])


class NLLLoss(_OfClasses):
    """-x[label], over logarithms of probabilities x (n, classes) or (n, classes, d1, ...) and labels as there.

    The arguments and errors are those of `CrossEntropyLoss`, which is this loss of log softmax.

    >>> from numbacnn import use_backend
    >>> with use_backend("reference"):
    ...     loss = NLLLoss()
    >>> loss.forward([[-1, -2]], [1]), loss.backward()
    (2.0, array([[ 0., -1.]], dtype=float32))
    """

    def compute(self, prediction: Any, target: Any) -> Array:
        options = (_value(self.weight), self.ignore_index)
        loss, scale = ops.nll_loss(prediction, target, *options, self.reduction, backend=self.backend)
        x = as_floating(prediction, self.backend)
        self.saved = (
            None if self.reduction == "none" else scale, x, self.backend.copy(self.backend.asarray(target))
        )  # fmt: skip
        return loss

    def backward(self, dy: Any = None) -> Array:
        scale, *kept = self.saved
        return self._gradient(self._scale(scale, dy), *kept)

    def backward_of_sum(self, samples: int) -> tuple[Any, Any]:
        return self._backward_of_sum(NLLLoss, samples)

    def _gradient(self, scale: Any, *kept: Any) -> Array:
        x, labels = kept
        options = (_value(self.weight), self.ignore_index)
        return ops.nll_loss_backward(scale, x, labels, *options, backend=self.backend)


class _Pointwise(Loss):
    """A loss of each element of ``prediction`` and ``target``, of one shape, and their mean or sum over all."""

    def _settings(self) -> tuple[Any, ...]:
        """The kind, its parameter, and what follows the reduction."""
        raise NotImplementedError

    def compute(self, prediction: Any, target: Any) -> Array:
        kind, parameter, *weights = self._settings()
        weights = [_value(weight) for weight in weights]
        loss = ops.pointwise_loss(prediction, target, kind, parameter, self.reduction, *weights, backend=self.backend)
        self.saved = (as_floating(prediction, self.backend), as_floating(target, self.backend))
        return loss

    def backward(self, dy: Any = None) -> Array:
        return self._gradient(dy, self.reduction)

    def backward_of_sum(self, samples: int) -> tuple[Any, Any]:
        if self.reduction != "mean" or not self._computes_as(_Pointwise):
            return super().backward_of_sum(samples)
        gradient = self._gradient(None, "sum")
        self.answered()
        return gradient, float(math.prod(gradient.shape))

    def _gradient(self, dy: Any, reduction: str) -> Array:
        prediction, target = self.saved
        kind, parameter, *weights = self._settings()
        weights = [_value(weight) for weight in weights]
        return ops.pointwise_loss_backward(
            dy, prediction, target, kind, parameter, reduction, *weights, backend=self.backend
        )


class MSELoss(_Pointwise):
    """(prediction - target)^2, its mean or sum over all elements; gradient: 2 (prediction - target), likewise."""

    def _settings(self) -> tuple[Any, ...]:
        return "squared", 0.0


class L1Loss(_Pointwise):
    """``|prediction - target|``, its mean or sum over all elements; gradient: the sign of the difference, 0 of none."""

    def _settings(self) -> tuple[Any, ...]:
        return "smooth_l1", 0.0


class SmoothL1Loss(_Pointwise):
    """With d = prediction - target, ``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``; its mean or sum.

    ``beta`` is at least 0; 0 makes it `L1Loss`.
    """

    beta: float = setting(partial(number, low=0))

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def _settings(self) -> tuple[Any, ...]:
        return "smooth_l1", self.beta

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


def _positive(name: str, value: Any) -> float:
    result = number(name, value, 0)
    if result == 0:
        raise ValueError(f"`{name}` {value!r} must be above 0")
    return result


class HuberLoss(_Pointwise):
    """With d = prediction - target, ``d^2 / 2`` where ``|d| <= delta``, else ``delta (|d| - delta / 2)``: mean or sum.

    ``delta`` is above 0.
    """

    delta: float = setting(_positive)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def _settings(self) -> tuple[Any, ...]:
        return "huber", self.delta

    def extra_repr(self) -> str:
        return f"delta={self.delta}"


class BCEWithLogitsLoss(_Pointwise):
    """The cross-entropy of sigmoid(prediction) and target, element by element; its mean or sum over all elements.

    weight (-pos_weight target log sigmoid(x) - (1 - target) log(1 - sigmoid(x))), without overflow. Targets, of the
    prediction's shape, are probabilities: 0 and 1 for labels of which several may be right.

    Args:
        weight: what each loss is multiplied by, broadcast to the prediction's shape; kept as a `Buffer`. None for 1.
        reduction: see `Loss`; ``"mean"`` divides by the number of elements, whatever they weigh.
        pos_weight: how much more a positive target weighs, likewise; (classes,) for predictions (n, classes).

    >>> from numbacnn import use_backend
    >>> with use_backend("reference"):
    ...     loss = BCEWithLogitsLoss()
    >>> round(loss.forward([0], [1]), 6), loss.backward()
    (0.693147, array([-0.5], dtype=float32))
    """

    weight: Any = setting(_buffer, together=_follow)
    pos_weight: Any = setting(_buffer, together=_follow)

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self.weight = weight
        self.pos_weight = pos_weight
        _follow(self)

    def _settings(self) -> tuple[Any, ...]:
        return "logistic", 0.0, self.weight, self.pos_weight

    def extra_repr(self) -> str:
        shown = {"weight": self.weight, "pos_weight": self.pos_weight}
        return ", ".join(f"{name} of shape {value.shape}" for name, value in shown.items() if value is not None)
