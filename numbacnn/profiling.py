"""Where the time goes: of a model's pass, or of a training step, layer by layer."""

from __future__ import annotations

import copy
import functools
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from . import optim
from .backends import Array, Backend
from .backends.capture import label, recording
from .nn.containers import Sequential
from .nn.grad_mode import evaluating
from .nn.layer import Layer
from .nn.loss import CrossEntropyLoss, Loss, MSELoss
from .nn.state import Shape, Shapes, as_shapes
from .nn.table import Table
from .ops.arguments import flag, integer, number, shape_of
from .training.step import set_gradients

__all__ = ["Profile", "ProfileRow", "profile"]

# Methods of layers, losses and optimizers that ask something of the backend.
_FORWARD = ("forward", "forward_with", "forward_first", "forward_view", "compute")
_BACKWARD = ("backward", "backward_view", "apply")


@dataclass(frozen=True)
class ProfileRow:
    """One layer of a profile.

    ``seconds`` are those of the forward pass and, of a training step, of the backward pass, medians over the rounds; 0
    where another layer does its work, as a convolution does that of the ReLU after it. ``flops`` are two for each
    multiply-accumulate of convolution and linear layers, and ``bytes`` the least that must be read and written: input,
    output and parameters, and their gradients. ``layout`` is that of the output: ``"nchw"`` or ``"nhwc"``, empty
    where it is no image.
    """

    name: str
    layer: str
    output_shape: Shape
    algorithms: dict[str, str]
    layout: str
    seconds: tuple[float, float]
    flops: int
    bytes: int

    @property
    def total(self) -> float:
        """Seconds of both passes."""
        return sum(self.seconds)


@dataclass(frozen=True)
class Profile:
    """What `profile` found: ``rows`` in the order of the layers, and ``seconds`` of everything. Printed, it is a table.

    ``mode`` is ``"captured"``, one launch whose parts were timed, or ``"plain"``, function by function. ``roof`` is the
    machine's, (GFLOP/s, GB/s), if it was given.
    """

    rows: list[ProfileRow]
    seconds: float
    mode: str
    input_shape: Shape
    training: bool
    roof: tuple[float, float] | None = None
    cache_bytes: int = 0

    def share_of_roof(self, row: ProfileRow) -> float | None:
        """The time that the machine needs at least for a row's operations or bytes, over the time that it took.

        Bytes that the caches may hold do not count, and a row of such bytes alone has no share.
        """
        if self.roof is None or not row.total:
            return None
        peak, bandwidth = self.roof
        of_memory = row.bytes / bandwidth if row.bytes > self.cache_bytes else 0.0
        return max(row.flops / peak, of_memory) / 1e9 / row.total or None

    def __str__(self) -> str:
        return self._table().text(self._total())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._table().html(self._total())

    def _table(self) -> Table:
        headers = ["layer", "output shape", "algorithm", "layout", "ms"]
        headers += ["forward", "backward"] * self.training
        headers += ["share", "GFLOP/s", "GB/s"] + ["of roof"] * (self.roof is not None)
        return Table(headers, [self._cells(row) for row in self.rows], left=range(4))

    def _total(self) -> str:
        what = "a training step" if self.training else "a pass"
        return f"{self.seconds * 1e3:.3f} ms for {what} of {self.input_shape}, {self.mode}"

    def _cells(self, row: ProfileRow) -> list[str]:
        algorithms = list(row.algorithms.values()) if self.training else list(row.algorithms.values())[:1]
        shape = str(row.output_shape) if row.output_shape else ""
        cells = [
            f"({row.name}) {row.layer}",
            shape,
            "/".join(algorithms if len(set(algorithms)) > 1 else algorithms[:1]),
            row.layout,
            f"{row.total * 1e3:.3f}" if row.total else "",
        ]
        if self.training:
            cells += [f"{seconds * 1e3:.3f}" if seconds else "" for seconds in row.seconds]
        cells.append(f"{row.total / self.seconds:.1%}" if row.total and self.seconds else "")
        cells += [f"{count / row.total / 1e9:.1f}" if row.total and count else "" for count in (row.flops, row.bytes)]
        share = self.share_of_roof(row)
        return cells + ["" if share is None else f"{share:.0%}"] * (self.roof is not None)


def profile(
    model: Layer,
    input_shape: Shape,
    *,
    training: bool = False,
    rounds: int = 20,
    peak_gflops: float | None = None,
    bandwidth_gbytes: float | None = None,
    cache_bytes: int = 0,
) -> Profile:
    """How long each layer of ``model`` takes for an input of ``input_shape``, (n, c, h, w) or what the model takes.

    Of an `InferenceSession`'s pass or, ``training``, of a training step: forward, loss, backward and SGD with momentum.
    Where the backend captures on the host (cpu), the parts of the one launch are timed in their place; elsewhere it
    runs function by function and waits for each, so that on a GPU what the host does in between counts. The model is
    copied and stays as it is; the input is random numbers.

    Args:
        model: Any layer; the backend is its own.
        input_shape: With the batch.
        training: Whether to take a step, whose loss is the cross-entropy of an output (n, classes), else squares.
        rounds: Of which the medians count, 1 or more.
        peak_gflops, bandwidth_gbytes: What the machine can do at most; given both, rows tell their share of it.
            ``python -m bench.profile`` measures them.
        cache_bytes: What the caches hold: fewer bytes than these have no share of the bandwidth.

    Example:
        >>> from numbacnn import nn, use_backend
        >>> with use_backend("reference"):
        ...     model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))
        >>> found = profile(model, (4, 1, 8, 8), rounds=1)
        >>> [(row.name, row.layer) for row in found.rows]
        [('0', 'Conv2d'), ('1', 'ReLU'), ('2', 'Flatten'), ('3', 'Linear')]
        >>> found.mode
        'plain'
    """
    if not isinstance(model, Layer):
        raise TypeError(f"`model` {model!r} must be a Layer")
    shape = shape_of("input_shape", input_shape, ", ".join("n" * len(input_shape)))
    training, rounds = flag("training", training), integer("rounds", rounds, 1)
    given = (peak_gflops, bandwidth_gbytes)
    if (peak_gflops is None) != (bandwidth_gbytes is None):
        raise ValueError(f"`peak_gflops` {peak_gflops!r} and `bandwidth_gbytes` {bandwidth_gbytes!r} go together")
    roof = None if peak_gflops is None else tuple(
        number(name, value, 0) for name, value in zip(("peak_gflops", "bandwidth_gbytes"), given, strict=True)
    )  # fmt: skip
    model = copy.deepcopy(model)
    model.train() if training else model.eval()
    work = _Step(model, shape) if training else _Pass(model, shape)
    times, seconds, mode = _measure(work, rounds)
    rows = [_row(name, part, part_shape, times, work) for name, part, part_shape in work.parts]
    kept = [row for row in rows if row is not None]
    held = integer("cache_bytes", cache_bytes, 0)
    return Profile(kept, seconds, mode, shape, training, roof, held)  # type: ignore[arg-type]


class _Pass:
    """A pass in evaluation mode, and what is known of its parts."""

    training = False

    def __init__(self, model: Layer, shape: Shape) -> None:
        self.model, self.backend = model, model.backend
        self.x = self.backend.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))
        self.parts: list[tuple[str, Any, Shapes]] = list(_layers("", model, shape))
        self.layouts: dict[int, str] = {}
        self.needs_no_gradient: set[int] = set()
        """Layers whose backward pass gives no gradient of the input."""

    @property
    def constant(self) -> list[Array]:
        return [state.value for _, state in (*self.model.named_parameters(), *self.model.named_buffers())]

    def __call__(self) -> None:
        with evaluating(self.model):
            self.model.forward(self.x)


class _Step(_Pass):
    """A training step."""

    training = True
    constant: list[Array] = []  # noqa: RUF012

    def __init__(self, model: Layer, shape: Shape) -> None:
        super().__init__(model, shape)
        output = model.output_shape(shape)
        self.loss: Loss = CrossEntropyLoss() if len(output) == 2 else MSELoss()
        self.loss.to(self.backend)
        target = np.zeros(output[:1], np.int64) if len(output) == 2 else np.zeros(output, np.float32)
        self.target = self.backend.asarray(target)
        self.optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9) if model.parameters() else None
        self.parts += [("loss", self.loss, ()), *([("optimizer", self.optimizer, ())] if self.optimizer else [])]

    def __call__(self) -> None:
        self.loss.compute(self.model.forward(self.x), self.target)
        set_gradients(self.model, self.loss, self.model.parameters())
        if self.optimizer is not None:
            self.optimizer.apply()


def _layers(name: str, layer: Layer, shape: Shapes) -> Iterator[tuple[str, Layer, Shapes]]:
    """Name, layer and input shape of the model and all that is in it."""
    yield name, layer, shape
    for child, inner, inner_shape in layer.child_inputs(*as_shapes(shape)):
        yield from _layers(".".join(filter(None, (name, child))), inner, inner_shape)


_Key = tuple[int, str] | None
"""Whose work it is: the part's identity, and which pass."""


def _measure(work: _Pass, rounds: int) -> tuple[dict[_Key, float], float, str]:
    """Median seconds for each part and pass, those of everything, and how it ran."""
    backend = work.backend
    if isinstance(work, _Step) and work.optimizer is not None:
        work.optimizer.prepare()
    # Compiles what there is to compile, and tells layouts.
    with _watched(work, lambda key: None):
        work()
    launch = None

    def recorded() -> None:
        with recording():
            work()

    if not backend.asynchronous:
        with _watched(work, label):
            launches = backend.capture(recorded, constant=work.constant)
        launch = launches[0] if launches else None
    if launch is not None and hasattr(launch, "timed"):
        found = [launch.timed() for _ in range(rounds + 1)][1:]
        mode = "captured"
    else:
        found = [_plain_times(work, backend) for _ in range(rounds)]
        mode = "plain"
    keys = dict.fromkeys(key for times in found for key in times)
    medians = {key: statistics.median(times.get(key, 0.0) for times in found) for key in keys}
    return medians, statistics.median(sum(times.values()) for times in found), mode


def _plain_times(work: _Pass, backend: Backend) -> dict[_Key, float]:
    times: dict[_Key, float] = {}
    current: _Key = None
    backend.synchronize()
    since = time.perf_counter()

    def switch(key: _Key) -> None:
        nonlocal current, since
        backend.synchronize()
        now = time.perf_counter()
        times[current] = times.get(current, 0.0) + now - since
        current, since = key, now

    # A sequence has no work of its own but for the interpreter's, unless it is captured.
    with _watched(work, switch, but=Sequential):
        work()
    switch(None)
    return times


@contextmanager
def _watched(work: _Pass, tell: Callable[[_Key], object], but: type | tuple[()] = ()) -> Iterator[None]:
    """``tell`` whose work begins whenever that changes, in this thread: never that of parts of type ``but``."""
    parts = {id(part) for _, part, _ in work.parts if not isinstance(part, but)}
    thread = threading.get_ident()
    stack: list[_Key] = [None]

    def watched(method: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @functools.wraps(method)
        def run(self: Any, *arguments: Any, **named: Any) -> Any:
            if id(self) not in parts or threading.get_ident() != thread:
                return method(self, *arguments, **named)
            stack.append((id(self), phase))
            tell(stack[-1])
            try:
                result = method(self, *arguments, **named)
            finally:
                stack.pop()
                tell(stack[-1])
            if phase == "forward":
                work.layouts[id(self)] = _layout_of(result)
            elif named.get("input_gradient", True) is False:
                work.needs_no_gradient.add(id(self))
            return result

        return run

    with ExitStack() as patches:
        for kind in {type(part) for _, part, _ in work.parts}:
            for phase, methods in (("forward", _FORWARD), ("backward", _BACKWARD)):
                for name in methods:
                    if callable(getattr(kind, name, None)):
                        patches.enter_context(mock.patch.object(kind, name, watched(getattr(kind, name), phase)))
        tell(None)
        yield


def _layout_of(x: Any) -> str:
    if len(getattr(x, "shape", ())) != 4:
        return ""
    is_last = isinstance(x, np.ndarray) and not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous
    return "nhwc" if is_last else "nchw"


def _row(name: str, part: Any, shape: Shapes, times: dict[_Key, float], work: _Pass) -> ProfileRow | None:
    seconds = times.get((id(part), "forward"), 0.0), times.get((id(part), "backward"), 0.0)
    if not isinstance(part, Layer):
        return ProfileRow(name, type(part).__name__, (), {}, "", seconds, 0, 0)
    shapes = as_shapes(shape)
    is_container = bool(part.child_inputs(*shapes))
    if is_container and not sum(seconds):
        return None
    output = part.output_shape(*shapes)
    if is_container:
        return ProfileRow(name, type(part).__name__, output, {}, work.layouts.get(id(part), ""), seconds, 0, 0)
    backward = work.training * (1 if id(part) in work.needs_no_gradient else 2)
    parameters = sum(parameter.size for parameter in part.parameters())
    elements = sum(map(math.prod, shapes)) + math.prod(output) + parameters
    itemsize = work.x.dtype.itemsize
    return ProfileRow(
        name,
        type(part).__name__,
        output,
        part.algorithms(*shapes),
        work.layouts.get(id(part), ""),
        seconds,
        part.flops(*shapes) * (1 + backward),
        # Backwards the same arrays are read, and gradients of the input and of the parameters written.
        itemsize * (elements + (elements + parameters + (backward > 1) * math.prod(shape)) * bool(backward)),
    )
