"""Inference in one launch."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from ..backends import Array, Backend
from ..backends.precision import is_strict
from ..backends.replay import Captures
from .layer import Layer, is_built_in
from .modes import evaluating
from .state import as_input

__all__ = ["InferenceSession"]


class InferenceSession:
    """The outputs of a model as it is now, in evaluation mode, as fast as its backend can: ``session(x)``.

    The session has a copy of the model, which nothing changes any more. A backend that can launches the whole of it in
    one go, with weights that were laid out once: what Python does for each layer, which takes most of the time of a
    single image, is left out. A GPU does so from the second batch of a shape on, the CPU, where layers of one's own
    may compute by NumPy, if there are only this package's. Outputs are those of ``model.eval()``, to the same bits.

    Each of up to four shapes holds memory for a whole pass; batches of any other run layer by layer. Several threads
    may use a session, one after the other. ``nn.fold_batch_norm(model)`` goes well with it.

    Args:
        model: is copied; its mode does not matter.

    Example:
        >>> import numpy as np
        >>> from numbacnn import nn, use_backend
        >>> with use_backend("reference"):
        ...     session = InferenceSession(nn.Sequential(nn.Dropout(), nn.ReLU()))
        >>> session([[-1, 1]])
        array([[0., 1.]], dtype=float32)
    """

    def __init__(self, model: Layer) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"`model` {model!r} must be a Layer")
        self._model = copy.deepcopy(model).eval()
        self._captures: Captures[_Captured] = Captures()
        self._mode: str | None = None
        self._lock = threading.Lock()

    @property
    def mode(self) -> str | None:
        """How the last call ran, ``"plain"`` or ``"captured"``; None before the first."""
        return self._mode

    def __call__(self, x: Any) -> Array:
        """The model's output for ``x`` (n, ...), of NumPy or the model's backend: a new array of that backend."""
        backend = self._model.backend
        x = as_input(x, backend)
        with self._lock:
            captured = self._captures.find(
                (tuple(x.shape), x.dtype, is_strict()), lambda: self._capture(x, backend), backend.asynchronous
            )
            self._mode = "plain" if captured is None else "captured"
            if captured is not None:
                backend.assign(captured.x, x)
                captured.launch()
                return backend.copy(captured.y)
            return backend.copy(self._forward(x))

    def _forward(self, x: Array) -> Array:
        with evaluating(self._model):
            return self._model.backend.asarray(self._model.forward(x))

    def _capture(self, x: Array, backend: Backend) -> _Captured | None:
        if not backend.asynchronous and not all(map(is_built_in, self._model.layers())):
            return None
        x = backend.copy(x)
        y: Array = None

        def run() -> None:
            nonlocal y
            y = self._forward(x)

        constant = [state.value for _, state in (*self._model.named_parameters(), *self._model.named_buffers())]
        launches = backend.capture(run, constant=constant)
        return None if launches is None else _Captured(x, y, *launches)


class _Captured(NamedTuple):
    x: Array
    y: Array
    launch: Callable[[], None]
