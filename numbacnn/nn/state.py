"""The arrays that layers own: parameters, buffers and counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Union, cast

import numpy as np

from .. import backends
from ..backends import Array, Backend
from ..backends.capture import after_launch
from ..ops.arguments import common_dtype, flag, real_array
from .bfloat16 import widened
from .grad_mode import tell_accumulated

__all__ = [
    "WITHOUT_MEANING",
    "Buffer",
    "Constant",
    "Counter",
    "OnBackend",
    "Parameter",
    "Shape",
    "Shapes",
    "State",
    "StepCounter",
    "any_trains",
    "as_floating",
    "as_input",
    "as_shapes",
    "floating_dtype",
    "matching_arrays",
    "scaled_pixels",
]

PIXELS = np.dtype(np.uint8)

Shape = tuple[int, ...]
Shapes = Union[Shape, tuple[Shape, ...]]  # noqa: UP007 - evaluated by Python 3.10
"""That of the input, or those of several."""

_FREEZING = "weights are frozen by `freeze()` of their layer, or one by one by `requires_grad` of a Parameter"
WITHOUT_MEANING = {"requires_grad": _FREEZING, "trainable": _FREEZING}
"""Attributes that other frameworks have on parameters and layers, and what is done here instead."""


class OnBackend:
    """Something with a ``backend``, which is a module: copies and pickles hold its name instead."""

    backend: Backend

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "backend": self.backend.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, backend=backends.get(state["backend"]))


class State(OnBackend):
    """An array that a layer owns. ``value`` lives on ``backend``; assigning to it overwrites the array in place.

    ``value`` may be anything NumPy takes and is copied; Python's floating-point numbers, which say nothing of a dtype,
    become float32. Assigning another shape is a ValueError, assigning to an attribute that there is not an
    AttributeError.
    """

    _attributes: ClassVar[tuple[str, ...]] = ("backend", "value")

    def __init__(self, value: Any, backend: str | Backend | None = None) -> None:
        self.backend = backends.get(backend)
        array = self.backend.asarray(value)
        if not hasattr(value, "dtype") and array.dtype == np.float64:
            array = self.backend.asarray(value, np.float32)
        self._value = self.backend.copy(array)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in self._attributes:
            hint = WITHOUT_MEANING.get(name, f"its attributes are {', '.join(self._attributes)}")
            raise AttributeError(f"`{name}` cannot be set on a {type(self).__name__}; {hint}: {self!r}")
        super().__setattr__(name, value)

    @property
    def value(self) -> Array:
        return self._value

    @value.setter
    def value(self, new: Any) -> None:
        if new is not self._value:
            self.backend.assign(self._value, self._converted("value", new))

    @property
    def shape(self) -> Shape:
        return tuple(self._value.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._value.dtype)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def to(self, backend: str | Backend) -> None:
        """Move to another backend."""
        target = backends.get(backend)
        if target is not self.backend:
            self._value = target.copy(target.asarray(self.backend.to_numpy(self._value)))
            self.backend = target

    def place(self, array: Array) -> None:
        """Live in ``array`` of the same backend, shape and dtype from now on; it takes over the values."""
        self.backend.assign(array, self._value)
        self._value = array

    def _converted(self, name: str, array: Any) -> Array:
        array = as_floating(array, self.backend, self.dtype, name)
        if tuple(array.shape) != self.shape:
            raise ValueError(f"`{name}` has shape {tuple(array.shape)}, must have {self.shape}")
        return array

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype}, backend={self.backend.name!r})"


class Parameter(State):
    """What training changes: ``value`` and ``grad``, two arrays of one shape. Backward passes add to ``grad``.

    A float64 array stays float64, every other real array becomes float32, as do Python's numbers and lists of them.
    With ``requires_grad=False``, which may be set at any time, it is frozen: nothing is added to ``grad``, which stays
    as it was, and optimizers leave it alone. `Layer.freeze` does that for a layer.

    >>> from numbacnn import use_backend
    >>> with use_backend("reference"):
    ...     parameter = Parameter([1, -1])
    >>> parameter.accumulate([0.5, 0.5])
    >>> parameter.grad
    array([0.5, 0.5], dtype=float32)
    """

    _attributes = (*State._attributes, "grad", "requires_grad")

    def __init__(self, value: Any, backend: str | Backend | None = None, requires_grad: bool = True) -> None:
        self.requires_grad = requires_grad
        backend = backends.get(backend)
        dtype = None if hasattr(value, "dtype") else np.float32
        super().__init__(as_floating(value, backend, dtype, "value"), backend)
        self._grad = self.backend.zeros(self.shape, self.dtype)
        self._is_cleared = False

    @property
    def requires_grad(self) -> bool:
        """Whether it is trained."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, new: bool) -> None:
        self._requires_grad = flag("requires_grad", new)

    @property
    def grad(self) -> Array:
        self.settle_grad()
        return self._grad

    @grad.setter
    def grad(self, new: Any) -> None:
        if new is not self._grad:
            self.backend.assign(self._grad, self._converted("grad", new))
            self._is_cleared = False

    def accumulate(self, array: Any) -> None:
        """``grad += array``; nothing where it is frozen."""
        if not self._requires_grad:
            return
        array = self._converted("array", array)
        if self._is_cleared:
            if array is not self._grad:
                self.backend.assign(self._grad, array)
            self._is_cleared = False
        else:
            self.backend.accumulate(self._grad, array)
        tell_accumulated(self)

    def destination(self) -> Array | None:
        """Where a gradient that is then given to :meth:`accumulate` may be written: None where it has to be added."""
        return self._grad if self._is_cleared and self._requires_grad else None

    def zero_grad(self) -> None:
        """Start ``grad`` again from zeros; an array read from it before keeps its numbers."""
        self._grad = self.backend.zeros(self.shape, self.dtype)
        self._is_cleared = False

    def clear_grad(self) -> None:
        """Make ``grad`` zeros that need not be written where something is accumulated before it is read.

        The array stays; one that was read from ``grad`` before may hold its numbers until then.
        """
        self._is_cleared = True

    def settle_grad(self) -> None:
        """See that the array of ``grad`` holds its numbers, after :meth:`clear_grad`."""
        if self._is_cleared:
            self.backend.fill_zero(self._grad)
            self._is_cleared = False

    def place_grad(self, array: Array) -> None:
        """``place`` for the gradient."""
        self.backend.assign(array, self.grad)
        self._grad = array

    def to(self, backend: str | Backend) -> None:
        """Move value and gradient to another backend."""
        target = backends.get(backend)
        if target is not self.backend:
            self._grad = target.copy(target.asarray(self.backend.to_numpy(self.grad)))
        super().to(target)

    def __repr__(self) -> str:
        return super().__repr__() if self._requires_grad else f"{super().__repr__()[:-1]}, requires_grad=False)"


def any_trains(*parameters: Parameter | None) -> bool:
    """Whether there is a parameter among these that is not frozen."""
    return any(parameter is not None and parameter.requires_grad for parameter in parameters)


class Buffer(State):
    """State that is saved with the model but not trained, such as running averages."""


class Constant(State):
    """Numbers that a layer computes with and that are not saved, for they are always the same."""


class Counter(Buffer):
    """A whole number in the state. It stays with the host, so that counting never waits for a device."""

    def __init__(self) -> None:
        super().__init__(np.zeros((), np.int64), "reference")

    def increment(self) -> None:
        """Count one more."""
        after_launch(self._count)

    def _count(self) -> None:
        self._value[...] += 1

    def to(self, backend: str | Backend) -> None:
        """Stay where it is."""


class StepCounter:
    """A whole number that the host knows and, on request, a backend too, as an array that a captured step counts on."""

    def __init__(self, value: int = 0) -> None:
        self._value = value
        self._array: Array = None
        self._backend: Backend | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_value": self._value, "_array": None, "_backend": None}

    @property
    def value(self) -> int:
        return self._value

    @value.setter
    def value(self, new: int) -> None:
        self._value = new
        if self._backend is not None:
            self._backend.assign(self._array, self._as_array(self._backend))

    def array(self, backend: Backend) -> Array:
        """The number on ``backend``, int64 of shape (): one array that follows, until another backend is asked for."""
        if backend is not self._backend:
            self._array, self._backend = self._as_array(backend), backend
        return self._array

    def __repr__(self) -> str:
        return f"StepCounter({self._value})"

    def increment(self) -> None:
        """Count one more."""
        if self._backend is not None:
            self._backend.increment(self._array)
        after_launch(self._count)

    def _count(self) -> None:
        self._value += 1

    def _as_array(self, backend: Backend) -> Array:
        return backend.asarray(np.array(self._value, np.int64))


def as_shapes(shapes: Shapes) -> tuple[Shape, ...]:
    """The shape of each input."""
    several = isinstance(shapes, tuple) and bool(shapes) and isinstance(shapes[0], tuple)
    return cast(tuple[Shape, ...], shapes) if several else (cast(Shape, shapes),)


def as_floating(x: Any, backend: Backend, dtype: Any = None, name: str = "x") -> Array:
    """``x`` on the backend, of ``dtype`` or, by default, in the floating dtype that the ops would give it."""
    x = real_array(name, x, backend)
    return backend.asarray(x, common_dtype(x) if dtype is None else dtype)


def as_input(x: Any, backend: Backend, dtype: Any = None) -> Array:
    """``as_floating`` of what a layer or a model gets: uint8 are pixel values, divided by 255 as in the loader."""
    x = real_array("x", x, backend)
    if x.dtype == PIXELS:
        x = scaled_pixels(x, backend)
    return backend.asarray(x, common_dtype(x) if dtype is None else dtype)


def scaled_pixels(x: Any, backend: Backend) -> Any:
    """``x``, or if its dtype is uint8, float32 of the backend: ``x / 255``, to the bits that a loader gives."""
    if getattr(x, "dtype", None) != PIXELS:
        return x
    images = backend.asarray(x)
    if not images.shape:
        images = images.reshape((1,))
    return backend.gather_images(images, backend.asarray(np.arange(images.shape[0]))).reshape(x.shape)


def floating_dtype(dtype: Any) -> np.dtype[Any]:
    """The ``dtype`` argument of a layer: float32 or float64, else ValueError."""
    result = np.dtype(dtype)
    if result not in (np.float32, np.float64):
        raise ValueError(f"`dtype` {result} must be float32 or float64")
    return result


def matching_arrays(targets: Mapping[str, State], state: Mapping[str, Any]) -> tuple[dict[str, Array], list[str]]:
    """The arrays of ``state`` that fit their target, converted for it, and what is wrong with the others."""
    arrays, problems = {}, []
    for name, target in targets.items():
        if name not in state:
            continue
        try:
            array = np.asarray(widened(state[name], target.dtype))
            if array.shape != target.shape:
                problems.append(f"{name} has shape {array.shape}, must have {target.shape}")
            elif not np.can_cast(array.dtype, target.dtype, "same_kind"):
                problems.append(f"{name} has dtype {array.dtype}, which does not convert to {target.dtype}")
            else:
                arrays[name] = as_floating(array, target.backend, target.dtype, name)
        except (TypeError, ValueError) as error:
            problems.append(f"{name}: {error}")
    return arrays, problems
