"""Work that is captured and launched in one go: the training step, and functions of one's own."""

from __future__ import annotations

import dis
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..backends import Backend
from ..backends.capture import Captures, Effects, recording
from ..backends.precision import in_force
from ..nn.capturing import ATOMS, Fingerprint, NotCaptured, Snapshot, fingerprint, first_refusal, warn
from ..nn.layer import Layer
from ..nn.loss import Loss
from ..ops.arguments import flag
from ..ops.parts import as_tuple, each_of
from ..optim import Optimizer
from .metrics import Metric, on_backend
from .weight_average import WeightAverage

__all__ = ["CapturedFunction", "StagedWork", "drop_saved"]


class StagedWork:
    """Work in stages, of which what is captured is kept for up to four kinds of arrays.

    The first stage takes the arrays of a call and returns the result, the others take nothing. They are given at each
    call: kept, they would refer to their owner, and what was captured would live until the cycle is found.

    Args:
        what: it is, as a warning says it.
        may_go_on: whether the other stages are done, by the result of the first; asked where work is done at once.
    """

    def __init__(self, what: str, may_go_on: Callable[[Backend, Any], bool] = lambda backend, result: True) -> None:
        self.mode: str | None = None
        """How the last call ran, ``"plain"`` or ``"captured"``; None before the first."""
        self._what = what
        self._may_go_on = may_go_on
        self._settings = Fingerprint()
        self._circumstances: Any = None
        self._layers: list[Any] = []
        """And losses."""
        self._refusal: NotCaptured | None = None
        self._found_out: list[NotCaptured] = []
        self._warned = False
        self._captures: Captures[_Captured] = Captures()

    def __call__(
        self,
        stages: Sequence[Callable[..., Any]],
        arrays: Sequence[Any],
        parts: Sequence[Any],
        backend: Backend,
        capture: bool,
        others: Callable[[], Any],
        unchanged: bool = False,
    ) -> Any:
        """The result for arrays of the backend, or tuples of them.

        ``parts`` are layers, all on the backend, losses, optimizers, metrics and averages; ``others`` tells what else
        the work depends on besides their settings. A launch after another one, since which all of this is
        ``unchanged``, does not look at it again.
        """
        is_known = unchanged and self.mode == "captured"
        for part in () if is_known else parts:
            _prepare(part, backend)
        call = _Call(tuple(stages), arrays, parts, backend, others)
        captured = self._find_or_capture(call, is_known) if capture else None
        if captured is not None:
            result = captured.run(arrays, backend, self._may_go_on)
            self.mode = "captured"
            return result
        before = Snapshot(self._layers) if capture and self._refusal is None else None
        first, *further = stages
        result = first(*arrays)
        if self._may_go_on(backend, result):
            for stage in further:
                stage()
        if before is not None:
            self._is_spoilt(before, result, call)
        self.mode = "plain"
        return result

    def _find_or_capture(self, call: _Call, is_known: bool) -> _Captured | None:
        if not is_known:
            self._look_at_settings(call)
        if self._refusal is not None:
            self._tell(call.backend)
            return None
        kind = tuple((type(part), *((tuple(one.shape), one.dtype) for one in as_tuple(part))) for part in call.arrays)
        return self._captures.find(kind, lambda: self._capture(call), call.backend.asynchronous)

    def _look_at_settings(self, call: _Call) -> None:
        """Forget captures of other settings, and see whether there may be any of these."""
        optimizers = [part for part in call.parts if isinstance(part, Optimizer)]
        circumstances = (call.backend.name, in_force(), *optimizers, call.others())
        is_same = circumstances == self._circumstances
        looked_at = tuple(_looked_at(call.parts))
        if is_same and self._settings.is_still_of(*looked_at):
            return
        settings = fingerprint(*looked_at)
        if is_same and settings.key == self._settings.key:
            self._settings = settings
            return
        self._circumstances, self._settings = circumstances, settings
        self._captures.clear()
        # Found among the settings, no layer is missed, wherever it is kept.
        self._layers = [part for part in settings.kept if isinstance(part, (Layer, Loss))]
        subjects = [self, *self._layers]
        found_out = [refusal for refusal in self._found_out if any(refusal.part is subject for subject in subjects)]
        self._refusal = found_out[0] if found_out else first_refusal([*self._layers, *call.parts])

    def _capture(self, call: _Call) -> _Captured | None:
        # What the last call saved would be kept beside what this one saves.
        drop_saved(call.parts)
        backend = call.backend
        arrays = [each_of(part, backend.copy) for part in call.arrays]
        result: Any = None
        effects: dict[Callable[[], None], Effects] = {}

        def first() -> None:
            nonlocal result
            result = call.stages[0](*arrays)

        def whole() -> None:
            for stage in (first, *call.stages[1:]):
                stage()

        def recorded(stage: Callable[[], None]) -> None:
            with recording() as effects[stage]:
                stage()

        stages = (whole,) if backend.asynchronous else (first, *call.stages[1:])
        before = Snapshot(self._layers)
        launches = backend.capture(*(functools.partial(recorded, stage) for stage in stages))
        self._warned |= launches is None  # the backend has said why, if it can capture at all
        if self._is_spoilt(before, result, call) or launches is None:
            before.restore()
            return None
        return _Captured(
            arrays, result, [effects[stage].around(launch) for stage, launch in zip(stages, launches, strict=True)]
        )

    def _is_spoilt(self, before: Snapshot, result: Any, call: _Call) -> bool:
        """Whether the pass since ``before`` cannot be repeated by a launch, as is found out then."""
        refusal = before.refusal() or self._refusal_of_the_pass(result, call)
        if refusal is not None:
            self._refusal = refusal
            self._found_out.append(refusal)
            self._tell(call.backend)
        return refusal is not None

    def _refusal_of_the_pass(self, result: Any, call: _Call) -> NotCaptured | None:
        if call.others() != self._circumstances[-1]:
            return NotCaptured(self, f"the {self._what} changes a variable that it reads")
        for one in _leaves(result):
            if one is not None and not call.backend.is_array(one):
                kind = type(one).__name__
                return NotCaptured(self, f"the {self._what} returns {kind}, and a launch gives arrays of the backend")
        return None

    def _tell(self, backend: Backend) -> None:
        if self._refusal is not None and not self._warned:
            self._warned = True
            warn(self._refusal, self._what, backend)


class _Call(NamedTuple):
    """What `StagedWork` is called with."""

    stages: tuple[Callable[..., Any], ...]
    arrays: Sequence[Any]
    parts: Sequence[Any]
    backend: Backend
    others: Callable[[], Any]


class _Captured(NamedTuple):
    """One launch or, where the first forbids the others, several; what they read, and what the first one gives."""

    arrays: Sequence[Any]
    result: Any
    launches: list[Callable[[], None]]

    def run(self, arrays: Sequence[Any], backend: Backend, may_go_on: Callable[[Backend, Any], bool]) -> Any:
        for own, given in zip(self.arrays, arrays, strict=True):
            for target, source in zip(as_tuple(own), as_tuple(given), strict=True):
                backend.assign(target, source)
        first, *others = self.launches
        first()
        if others and may_go_on(backend, self.result):
            for launch in others:
                launch()
        return self.result


def _prepare(part: Any, backend: Backend) -> None:
    """What of its work is the host's, before the rest is captured or launched."""
    if isinstance(part, Loss):
        if part.backend is not backend:
            part.to(backend)
    elif isinstance(part, Metric):
        part.prepare(backend)
    elif isinstance(part, (Optimizer, WeightAverage)):
        part.prepare()


def _looked_at(parts: Sequence[Any]) -> Iterator[Any]:
    """What the settings of parts are found in."""
    for part in parts:
        if isinstance(part, Optimizer):
            # Its settings are numbers on the backend or part of its version.
            for name, value in vars(part).items():
                if name not in part.settings and not name.startswith("_"):
                    yield from (name, value)
        else:
            yield part


def _leaves(result: Any) -> Iterator[Any]:
    if isinstance(result, (tuple, list)):
        for one in result:
            yield from _leaves(one)
    elif isinstance(result, dict):
        yield from _leaves([*result.values()])
    else:
        yield result


def drop_saved(parts: Sequence[Any]) -> None:
    """Layers and losses forget what forward passes saved."""
    for part in parts:
        if isinstance(part, (Layer, Loss)):
            part.drop_saved()


class CapturedFunction:
    """A function of one's own, of forward and backward passes and updates, that is captured and launched in one go.

    For steps that `TrainingStep` does not take: several models, losses or optimizers. ``captured(*arrays)`` brings the
    arrays to the backend of the layers, has ``function(*arrays)`` done, and returns what it returned: None, arrays of
    the backend, or tuples, lists and dicts of these. The next call may write into them anew; copy what is to stay. A
    call waits for nothing.

    The backends cpu and cuda run the function for each of up to four kinds of shapes, once or a few times, write down
    what it asks for and repeat that, cuda from the second call on; :attr:`mode` tells. So the function

    - computes by layers, losses, ``ops``, optimizers, metrics and averages, and by nothing else: what NumPy computes
      would not be done again, nor would anything else that Python does, such as counting and drawing random numbers;
      these are arguments;
    - takes from a loss ``compute``, an array, not ``forward``, whose number is waited for;
    - sets gradients to zero by ``optimizer.zero_grad()``, in place, before backward passes add to them;
    - changes parameters by ``optimizer.step()``. Before each call the host's half of it, `Optimizer.prepare`, is done
      for all optimizers, so that their settings may change from call to call;
    - asks for the same each time for the same shapes. A changed setting of a layer or a loss, and another number or
      text in a variable that the function itself reads, cost another capture.

    What cannot be captured runs plainly, and a RuntimeWarning says once why: layers, losses, optimizers and metrics
    that are not of this package and do not declare ``capturable = True``, see `Layer.capturable`; passes that change
    settings; results that are no arrays. What layers saved is gone after a call.

    Args:
        function: takes arrays, or tuples of arrays, as many as there are in a call.
        parts: all layers, losses, optimizers, metrics and weight averages that it uses, a model for all that is in it.
        capture: whether to capture where that can be done; with False each call is plain.

    Raises:
        TypeError: ``function`` cannot be called, ``parts`` has something else.
        ValueError: ``parts`` has no layer, or two optimizers of one parameter, or is without a part that is in a
            variable that the function reads; at a call, layers on different backends.

    Example:
        >>> import numpy as np
        >>> import numbacnn as nc
        >>> from numbacnn import nn, optim
        >>> with nc.use_backend("reference"):
        ...     model, loss = nn.Linear(2, 2), nn.MSELoss()
        >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
        >>> def step(x, y):
        ...     optimizer.zero_grad()
        ...     value = loss.compute(model.forward(x), y)
        ...     model.backward(loss.backward(), input_gradient=False)
        ...     optimizer.step()
        ...     return value
        >>> captured = CapturedFunction(step, model, loss, optimizer)
        >>> x, y = np.eye(2, dtype=np.float32), np.ones((2, 2), np.float32)
        >>> first, second = (float(captured(x, y)) for _ in range(2))
        >>> second < first, captured
        (True, CapturedFunction(step, 3 parts, mode='plain'))
    """

    def __init__(self, function: Callable[..., Any], *parts: Any, capture: bool = True) -> None:
        if not callable(function):
            raise TypeError(f"`function` {function!r} must be a function of arrays")
        for i, part in enumerate(parts):
            if not isinstance(part, _PARTS):
                raise TypeError(
                    f"`parts`[{i}] of type {type(part).__name__} must be a Layer, Loss, Optimizer, Metric or "
                    "WeightAverage"
                )
        if not any(isinstance(part, Layer) for part in parts):
            raise ValueError("`parts` must have a layer, whose backend the arrays are brought to")
        _check_optimizers(parts)
        self.function = function
        self.parts = parts
        self.capture = flag("capture", capture)
        self._variables = _Variables(function)
        used = {name: value for name, value in self._variables.all().items() if isinstance(value, _PARTS)}
        found = {id(part) for part in (*parts, *fingerprint(*_looked_at(parts)).kept)}
        missing = [f"`{name}`" for name, value in used.items() if id(value) not in found]
        if missing:
            raise ValueError(f"`parts` must have all that the function uses, but is without {', '.join(missing)}")
        self._work = StagedWork("function")

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"CapturedFunction({name}, {len(self.parts)} parts, mode={self.mode!r})"

    @property
    def mode(self) -> str | None:
        """How the last call ran, ``"plain"`` or ``"captured"``; None before the first."""
        return self._work.mode

    def __call__(self, *arrays: Any) -> Any:
        """What the function returns for arrays, or tuples of arrays, of NumPy or of the layers' backend."""
        layers = [part for part in self.parts if isinstance(part, Layer)]
        backend = layers[0].backend
        for layer in layers:
            if layer.backend is not backend:
                names = f"{backend.name!r} and {layer.backend.name!r}"
                raise ValueError(f"the layers of `parts` must be on one backend, but are on {names}")
        on_it = [on_backend(part, backend) for part in arrays]
        return self._work([self._run], on_it, self.parts, backend, self.capture, self._variables.simple)

    def _run(self, *arrays: Any) -> Any:
        result = self.function(*arrays)
        drop_saved(self.parts)
        return result


_PARTS = (Layer, Loss, Optimizer, Metric, WeightAverage)


def _check_optimizers(parts: Sequence[Any]) -> None:
    """A parameter is at home in one optimizer, which no launch can change."""
    owners: dict[int, Any] = {}
    for optimizer in dict.fromkeys(part for part in parts if isinstance(part, Optimizer)):
        for parameter in optimizer.parameters:
            if owners.setdefault(id(parameter), optimizer) is not optimizer:
                raise ValueError(f"`parts` has two optimizers of one parameter, of shape {parameter.shape}")


class _Variables:
    """The variables around a function that it reads itself, of its module and of functions that it is defined in."""

    def __init__(self, function: Any) -> None:
        self._function = getattr(function, "__func__", function)
        code = getattr(self._function, "__code__", None)
        instructions = () if code is None else dis.get_instructions(code)
        self._globals = sorted({found.argval for found in instructions if found.opname == "LOAD_GLOBAL"})

    def all(self) -> dict[str, Any]:
        """Their values."""
        found = {name: self._function.__globals__[name] for name in self._globals if name in self._function.__globals__}
        cells = getattr(self._function, "__closure__", None) or ()
        for name, cell in zip(self._function.__code__.co_freevars if cells else (), cells, strict=True):
            try:
                found[name] = cell.cell_contents
            except ValueError:  # nothing was assigned yet
                continue
        return found

    def simple(self) -> dict[str, Any]:
        """The values of those that hold numbers and texts, with their types."""
        return {name: (type(value), value) for name, value in self.all().items() if type(value) in ATOMS}
