"""One step of training: from a batch to updated parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..backends import Array, Backend
from ..backends.precision import is_strict
from ..backends.replay import Captures, Effects, recording
from ..nn.layer import is_built_in
from ..nn.modes import releasing
from ..nn.state import Parameter
from ..ops.arguments import number
from ..optim import clip_grad_norm
from .metrics import Totals

if TYPE_CHECKING:
    from ..nn import Layer, Loss
    from ..optim import Optimizer
    from .average import WeightAverage

__all__ = ["TrainingStep"]


class TrainingStep:
    """Forward, loss, backward and update of one batch: ``step(x, y)``, and now and then ``step.totals()``.

    A call waits for nothing; :meth:`totals` waits. The loss moves to the model's backend if it is on another one.

    A backend that can captures the whole step and launches it in one go: a GPU from the second batch of a shape on, the
    CPU, where layers of one's own may compute by NumPy, if there are only this package's. That stands for the
    layers and the loss as they were: change what a layer computes (``p``, ``momentum``, ``algorithm``, its children),
    and the ``decay`` of an average, before the first step. Training and evaluation mode, the settings of the optimizer
    and all values may change at any time. Each of up to four shapes holds memory for a whole step.

    What layers saved is gone after the update: each lets go of it when its backward pass is done, so that its memory
    serves those before it.

    A loss that is infinite or NaN: where work is done at once, that batch changes no parameter, so that they still show
    where it began; a backend that works in the background goes on with what comes of it.

    Args:
        model: gives logits.
        loss: compares them with labels.
        optimizer: updates parameters of ``model``, all or some; a ValueError if it has any that is not the model's.
        clip_norm: the most that the gradients' norm may be, see ``optim.clip_grad_norm``; None for any.
        weight_average: of ``model``, updated after each step.

    Example:
        >>> import numpy as np
        >>> import numbacnn as nc
        >>> from numbacnn import nn, optim
        >>> with nc.use_backend("reference"):
        ...     model, loss = nn.Linear(2, 2), nn.CrossEntropyLoss()
        >>> step = TrainingStep(model, loss, optim.SGD(model.parameters(), lr=0.1))
        >>> x, y = np.eye(2, dtype=np.float32), np.array([1, 0])
        >>> step(x, y)
        >>> first, _, examples = step.totals()
        >>> step(x, y)
        >>> step.totals()[0] < first, examples, step.mode
        (True, 2, 'plain')
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        *,
        clip_norm: float | None = None,
        weight_average: WeightAverage | None = None,
    ) -> None:
        if weight_average is not None and weight_average.model is not model:
            raise ValueError("`weight_average` is of another model")
        _check_parameters(optimizer, model, loss)
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, 0)
        self.weight_average = weight_average
        self._layers = model.layers()
        mine = {id(parameter) for parameter in optimizer.parameters}
        self._others = [parameter for parameter in model.parameters() if id(parameter) not in mine]
        self._totals = Totals(model.backend)
        self._circumstances: Any = None
        self._captures: Captures[_Captured] = Captures()
        self._mode: str | None = None

    @property
    def mode(self) -> str | None:
        """How the last call ran, ``"plain"`` or ``"captured"``; None before the first."""
        return self._mode

    def __call__(self, x: Any, y: Any) -> None:
        """Train on inputs ``x`` (n, ...) and labels ``y`` (n,), of NumPy or of the model's backend."""
        backend = self.model.backend
        x, y = backend.asarray(x), backend.asarray(y)
        if backend is not self._totals.backend:
            self._totals = Totals(backend, *self._totals.read())
        self.optimizer.prepare()
        if self.weight_average is not None:
            self.weight_average.prepare()
        captured = self._find_or_capture(x, y, backend)
        if captured is None:
            loss = self._compare(x, y)
            if _may_update(backend, loss):
                self._update()
            self._mode = "plain"
        else:
            captured.run(x, y, backend)
            self._mode = "captured"

    def totals(self) -> tuple[float, int, int]:
        """Loss before the update, summed over the samples, how many were classified correctly, and how many there were.

        Of all calls since the last time; waits until they are done.
        """
        return self._totals.read()

    def _compare(self, x: Array, y: Array) -> Array:
        return self._totals.add(self.loss, self.model.forward(x), y)

    def _update(self) -> None:
        for parameter in self._others:
            parameter.zero_grad()
        self.optimizer.zero_grad()
        with releasing():
            self.model.backward(self.loss.backward(), input_gradient=False)
        self.model.drop_saved()
        if self.clip_norm is not None:
            clip_grad_norm(self.optimizer, self.clip_norm)
        self.optimizer.apply()
        if self.weight_average is not None:
            self.weight_average.apply()

    def _find_or_capture(self, x: Array, y: Array, backend: Backend) -> _Captured | None:
        modes = [(layer.training, layer.seed) for layer in self._layers]
        circumstances = (backend.name, is_strict(), self.optimizer.version, self.clip_norm, self.weight_average, modes)
        if circumstances != self._circumstances:
            self._circumstances = circumstances
            self._captures.clear()
        kind = (tuple(x.shape), x.dtype, tuple(y.shape), y.dtype)
        return self._captures.find(kind, lambda: self._capture(x, y, backend), backend.asynchronous)

    def _capture(self, x: Array, y: Array, backend: Backend) -> _Captured | None:
        if not backend.asynchronous and not self._is_built_in():
            return None
        # What the last step saved would be kept beside what this one saves.
        self.model.drop_saved()
        self.loss._saved = None
        x, y = backend.copy(x), backend.copy(y)
        loss: Array = None
        effects: dict[Callable[[], None], Effects] = {}

        def compare() -> None:
            nonlocal loss
            loss = self._compare(x, y)

        def both() -> None:
            compare()
            self._update()

        def recorded(part: Callable[[], None]) -> None:
            with recording() as effects[part]:
                part()

        parts = (both,) if backend.asynchronous else (compare, self._update)
        launches = backend.capture(*(functools.partial(recorded, part) for part in parts))
        if launches is None:
            return None
        return _Captured(
            x, y, loss, [effects[part].around(launch) for part, launch in zip(parts, launches, strict=True)]
        )

    def _is_built_in(self) -> bool:
        """Whether nothing but this package computes: where arrays are NumPy's, other layers may compute by NumPy."""
        parts = (*self._layers, self.loss, self.optimizer, self.weight_average)
        return all(is_built_in(part) for part in parts if part is not None)


def _check_parameters(optimizer: Optimizer, model: Layer, loss: Loss) -> None:
    own = [*model.parameters(), *(value for value in vars(loss).values() if isinstance(value, Parameter))]
    trained = {id(parameter) for parameter in own}
    foreign = [parameter for parameter in optimizer.parameters if id(parameter) not in trained]
    if foreign:
        raise ValueError(
            f"`optimizer` must be made of parameters of `model`, all or some of `model.parameters()`, but "
            f"{len(foreign)} of its {len(optimizer.parameters)} are not, the first of them of shape {foreign[0].shape}"
        )


class _Captured(NamedTuple):
    """A step in one launch or, where the loss may forbid the update, in two; and what it reads its batch from."""

    x: Array
    y: Array
    loss: Array
    launches: list[Callable[[], None]]

    def run(self, x: Array, y: Array, backend: Backend) -> None:
        backend.assign(self.x, x)
        backend.assign(self.y, y)
        first, *others = self.launches
        first()
        if _may_update(backend, self.loss):
            for launch in others:
                launch()


def _may_update(backend: Backend, loss: Array) -> bool:
    return backend.asynchronous or bool(np.isfinite(backend.to_numpy(loss)))
