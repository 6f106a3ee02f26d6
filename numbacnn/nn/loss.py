"""Loss functions: from predictions and targets to one number, and back."""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import backends, ops
from ..backends import Array, Backend
from ..ops.arguments import number, one_of
from .saved import Remembering
from .settings import setting
from .state import OnBackend, as_floating

__all__ = ["CrossEntropyLoss", "Loss", "MSELoss"]


class Loss(OnBackend, Remembering):
    """``forward(prediction, target)`` gives the loss as a float, ``backward()`` the gradient of the prediction.

    ``compute(prediction, target)`` gives it as an array of the backend, float64 of shape (), and waits for nothing; it
    is what a subclass defines, with ``backward``; one without it is a TypeError when made. ``reduction`` is
    ``"mean"`` or ``"sum"``. As a layer, a loss remembers one forward pass, and refuses a second backward pass after
    several.
    """

    reduction: str = setting(partial(one_of, names=("mean", "sum")))

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

    def forward(self, prediction: Any, target: Any) -> float:
        """The loss."""
        return float(self.backend.to_numpy(self.compute(prediction, target)))

    def compute(self, prediction: Any, target: Any) -> Array:
        """The loss, still on the backend."""
        raise NotImplementedError(f"{type(self).__name__} must define `compute`")

    def backward(self) -> Array:
        """The gradient of the last loss with respect to the prediction."""
        raise NotImplementedError(f"{type(self).__name__} must define `backward`")

    def __call__(self, prediction: Any, target: Any) -> float:
        return self.forward(prediction, target)

    def drop_saved(self) -> None:
        """Forget what forward passes saved: backward needs a new one."""
        self._saved = None

    def to(self, backend: str | Backend) -> Loss:
        """Compute on another backend from now on. Returns itself."""
        self.backend = backends.get(backend)
        self.drop_saved()
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reduction={self.reduction!r})"


class CrossEntropyLoss(Loss):
    """-log softmax(logits)[label], over logits (n, classes) and integer labels (n,); gradient: probabilities - one-hot.

    ``"mean"`` divides by n. ``label_smoothing`` s in 0..1 mixes the one-hot target with the uniform distribution:
    (1 - s) one-hot + s / classes.

    >>> from numbacnn import use_backend
    >>> with use_backend("reference"):
    ...     loss = CrossEntropyLoss()
    >>> round(loss.forward([[0, 0]], [1]), 6), loss.backward()
    (0.693147, array([[ 0.5, -0.5]], dtype=float32))
    """

    label_smoothing: float = setting(partial(number, low=0, high=1))

    def __init__(self, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction)
        self.label_smoothing = label_smoothing

    def compute(self, prediction: Any, target: Any) -> Array:
        loss, probabilities = ops.softmax_cross_entropy(
            prediction, target, self.reduction, self.label_smoothing, backend=self.backend
        )
        self.saved = (probabilities, self.backend.copy(self.backend.asarray(target)))
        return loss

    def backward(self) -> Array:
        probabilities, labels = self.saved
        return ops.softmax_cross_entropy_backward(
            probabilities, labels, self.reduction, self.label_smoothing, backend=self.backend
        )

    def __repr__(self) -> str:
        smoothing = f", label_smoothing={self.label_smoothing}" if self.label_smoothing else ""
        return f"CrossEntropyLoss(reduction={self.reduction!r}{smoothing})"


class MSELoss(Loss):
    """(prediction - target)^2, its mean or sum over all elements; gradient: 2 (prediction - target), likewise."""

    def compute(self, prediction: Any, target: Any) -> Array:
        loss = ops.mean_squared_error(prediction, target, self.reduction, backend=self.backend)
        self.saved = (as_floating(prediction, self.backend), as_floating(target, self.backend))
        return loss

    def backward(self) -> Array:
        prediction, target = self.saved
        return ops.mean_squared_error_backward(prediction, target, self.reduction, backend=self.backend)
