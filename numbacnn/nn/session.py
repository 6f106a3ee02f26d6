"""Inference in one launch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..backends import Array, Backend
from ..backends.capture import Captures
from ..backends.forks import ForkSafeLock
from ..backends.precision import in_force
from ..ops.arguments import flag
from .capturing import Snapshot, fingerprint, first_refusal, warn
from .grad_mode import evaluating
from .layer import Layer
from .state import as_input

__all__ = ["InferenceSession"]

# Parts of a batch are worth a try where weights, which each part reads anew, have no more bytes, and a pass takes no
# more seconds: what threads lose when they meet is little beside it.
MAX_WEIGHT_BYTES, MAX_SECONDS = 1 << 24, 0.02
TURNS = 5


class InferenceSession:
    """The outputs of a model as it is now, in evaluation mode, as fast as its backend can: ``session(x)``.

    A model of several inputs is called as ``session(x, u)``, one of several outputs gives a tuple.

    The session has a copy of the model, which nothing changes any more. The backends cpu and cuda launch the whole of
    it in one go, on cuda from the second batch of a shape on, with weights that were laid out once: what Python does
    for each layer, which takes most of the time of a single image, is left out. On cpu each thread may take a part of
    the batch through the whole model, where that is faster. :attr:`mode` tells. Outputs are those of ``model.eval()``,
    to the same bits.

    Layers that are not of this package are captured if their class declares ``capturable = True``, see
    `Layer.capturable`; otherwise the model runs layer by layer, and a RuntimeWarning says once why.

    Each of up to four shapes holds memory for a whole pass; batches of any other run layer by layer, until one of the
    four has not been used for a while. Several threads may use a session, one after the other, and a signal handler
    may while the thread that it interrupts does. ``nn.fold_batch_norm(model)`` goes well with it.

    Args:
        model: is copied; its mode does not matter.
        capture: whether to launch all in one go where that can be done.

    Example:
        >>> import numpy as np
        >>> from numbacnn import nn, use_backend
        >>> with use_backend("reference"):
        ...     session = InferenceSession(nn.Sequential(nn.Dropout(), nn.ReLU()))
        >>> session([[-1, 1]])
        array([[0., 1.]], dtype=float32)
    """

    def __init__(self, model: Layer, capture: bool = True) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"`model` {model!r} must be a Layer")
        self.capture = flag("capture", capture)
        self._model = copy.deepcopy(model).eval()
        self._parts = [part for part in fingerprint(self._model).kept if isinstance(part, Layer)]
        self._refusal = first_refusal(self._parts)
        self._warned = False
        self._captures: Captures[_Captured] = Captures()
        self._mode: str | None = None
        self._lock = ForkSafeLock()

    def __repr__(self) -> str:
        model = repr(self._model).replace("\n", "\n  ")
        return f"InferenceSession(\n  {model}, backend={self._model.backend.name!r}, mode={self.mode!r}\n)"

    @property
    def mode(self) -> str | None:
        """How the last call ran, ``"plain"`` or ``"captured"``; None before the first."""
        return self._mode

    def __call__(self, *inputs: Any) -> Any:
        """The model's output for ``x`` (n, ...), of NumPy or the model's backend: a new array of that backend."""
        backend = self._model.backend
        xs = tuple(as_input(x, backend) for x in inputs)
        with self._lock:
            # A signal handler interrupts this very thread, maybe within a launch, whose arrays are not to be touched.
            interrupts = self._lock.depth > 1
            captured = None if interrupts else self._find_or_capture(xs, backend)
            if captured is None:
                y = self._forward(*xs)
            else:
                for own, x in zip(captured.xs, xs, strict=True):
                    backend.assign(own, x)
                captured.launch()
                y = captured.y
            if not interrupts:
                self._mode = "plain" if captured is None else "captured"
            return tuple(map(backend.copy, y)) if isinstance(y, tuple) else backend.copy(y)

    def _find_or_capture(self, xs: tuple[Array, ...], backend: Backend) -> _Captured | None:
        if not self.capture:
            return None
        if self._refusal is not None:
            self._tell(backend)
            return None
        kinds = tuple((tuple(x.shape), x.dtype) for x in xs)
        return self._captures.find((kinds, in_force()), lambda: self._capture(xs, backend), backend.asynchronous)

    def _tell(self, backend: Backend) -> None:
        if self._refusal is not None and not self._warned:
            self._warned = True
            warn(self._refusal, "session", backend)

    def _forward(self, *xs: Array) -> Any:
        with evaluating(self._model):
            y = self._model.forward(*xs)
        asarray = self._model.backend.asarray
        return tuple(map(asarray, y)) if isinstance(y, tuple) else asarray(y)

    def _capture(self, xs: tuple[Array, ...], backend: Backend) -> _Captured | None:
        xs = tuple(map(backend.copy, xs))
        y: Any = None

        def run() -> None:
            nonlocal y
            y = self._forward(*xs)

        constant = [state.value for _, state in (*self._model.named_parameters(), *self._model.named_buffers())]
        before = Snapshot(self._parts)
        launches = backend.capture(run, constant=constant)
        self._refusal = before.refusal()
        if self._refusal is not None:
            before.restore()
            self._tell(backend)
            return None
        if launches is None:
            return None
        whole = _Captured(xs, y, *launches)
        if len(xs) > 1 or isinstance(y, tuple):
            return whole
        if backend.asynchronous or sum(array.nbytes for array in constant) > MAX_WEIGHT_BYTES:
            return whole
        if any(part.mixes_samples for part in self._parts):
            return whole
        if min(_seconds(whole) for _ in range(2)) > MAX_SECONDS:
            return whole
        found = backend.capture_in_parts(self._forward, xs[0], constant)
        if found is None:
            return whole
        parts = _Captured(xs, found[1], found[0])
        parts.launch()
        # They differ where an image's outputs depend on the other images, as a layer of one's own may have it.
        is_same = np.array_equal(backend.to_numpy(whole.y), backend.to_numpy(parts.y), equal_nan=True)
        return _faster(whole, parts) if is_same else whole


class _Captured(NamedTuple):
    xs: tuple[Array, ...]
    y: Any
    launch: Callable[[], None]


def _faster(*ways: _Captured) -> _Captured:
    """Which of several ways to the same bits takes the least time, tried in turns."""
    times = [[_seconds(way) for way in ways] for _ in range(TURNS)]
    least = [min(of_way) for of_way in zip(*times, strict=True)]
    return ways[least.index(min(least))]


def _seconds(way: _Captured) -> float:
    start = time.perf_counter()
    way.launch()
    return time.perf_counter() - start
