"""Gradients of several batches, or of pieces of them, added up for one step of the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Array, Backend
from ..nn.child import trains
from ..nn.grad_mode import free_after_backward
from ..nn.layer import Layer
from ..nn.loss import Loss
from ..nn.state import Buffer, Parameter
from ..ops.parts import as_tuple, each_of
from ..sharding import ShardedBatch, shard_of
from .captured import StagedWork, drop_saved

if TYPE_CHECKING:
    from ..optim import Optimizer

__all__ = ["Accumulation", "add_gradients", "not_optimized", "pieces_of", "shards_of"]


def add_gradients(model: Layer, loss: Loss, dy: Any) -> None:
    """Add to the parameters' gradients those for ``dy`` of the prediction; what was saved is gone afterwards."""
    if trains(model):
        with free_after_backward():
            model.backward(dy, input_gradient=False)
    drop_saved([model, loss])


def pieces_of(x: Any, y: Any, size: int | None, backend: Backend) -> list[tuple[Any, Any]]:
    """Inputs and targets of up to ``size`` samples each, one after another; all of them for None.

    Arrays of NumPy are cut where they are, so that a device holds one piece at a time.
    """
    if size is None:
        return [(x, y)]
    x, y, samples = _counted(x, y, backend)
    longest = max((count for count in samples if count is not None), default=0)
    if longest <= size:
        return [(x, y)]
    _check_alike(samples, f"pieces of `micro_batch` {size}")
    cuts = [slice(start, start + size) for start in range(0, longest, size)]
    return [(each_of(x, itemgetter(cut)), each_of(y, itemgetter(cut))) for cut in cuts]


def shards_of(x: Any, y: Any, shards: int, own: range, backend: Backend) -> ShardedBatch:
    """The shards ``own`` of a batch that is there as a whole, as views where it is of NumPy."""
    x, y, samples = _counted(x, y, backend)
    _check_alike(samples, f"`shards` {shards}")
    n = samples[0] or 0
    cuts = {number: shard_of(n, shards, number) for number in own}
    parts = [
        (number, each_of(x, itemgetter(cut)), each_of(y, itemgetter(cut)))
        for number, cut in cuts.items()
        if cut.stop > cut.start
    ]
    return ShardedBatch(n, shards, parts)


def _counted(x: Any, y: Any, backend: Backend) -> tuple[Any, Any, list[int | None]]:
    """Inputs and targets as arrays, and how many samples each array has; None for a single number."""
    x, y = (each_of(part, lambda one: one if isinstance(one, np.ndarray) else backend.asarray(one)) for part in (x, y))
    return x, y, [one.shape[0] if one.shape else None for one in (*as_tuple(x), *as_tuple(y))]


def _check_alike(samples: Sequence[int | None], into: str) -> None:
    if len(set(samples)) > 1:
        raise ValueError(f"`x` and `y` have {samples} samples, must have as many in each array to be cut into {into}")


class Accumulation:
    """The batches since the last step of the optimizer, in one piece each or in several.

    Gradients of sums are added up, and divided once by what the mean over all pieces divides by. That number is the
    backend's, for how many labels count is known there.
    """

    def __init__(self, backend: Backend) -> None:
        self.batches = 0
        self.samples = 0
        """Of the piece at work."""
        self.work = StagedWork("step")
        """Of a piece whose gradients are added to what is there."""
        self.first_work = StagedWork("step")
        """Of a piece whose gradients are all that is there afterwards."""
        self.end_work = StagedWork("step")
        """Of the end of a group."""
        self.is_finite = True
        """Whether all losses so far were, where work is done at once."""
        self._divisor_before = 0.0
        self._divisor = Buffer(np.zeros((), np.float64), backend)
        self._one = Buffer(np.ones((), np.float64), backend)

    def begin_batch(self, model: Layer, optimizer: Optimizer, sets: bool = False) -> None:
        """All gradients are zero before the first batch, in the arrays that a launch adds to.

        With ``sets`` those of the optimizer may be anything, for they will be set.
        """
        for buffer in (self._divisor, self._one):
            buffer.to(model.backend)
        if not self.batches:
            self._clear(model, optimizer, sets)

    @property
    def divisor(self) -> Array:
        """What the mean over all pieces divides by, so far."""
        return self._divisor.value

    @property
    def buffers(self) -> list[Buffer]:
        """What it has on the backend."""
        return [self._divisor, self._one]

    def begin_shard(self) -> None:
        """The sums are zero again."""
        self.is_finite, self._divisor_before = True, 0.0

    def add(self, model: Layer, loss: Loss) -> None:
        """Add the gradients of the piece whose loss was computed last."""
        dy, divisor = loss.backward_of_sum(self.samples)
        if isinstance(divisor, float):
            model.backend.accumulate(self._divisor.value, self._one.value, divisor)
        elif divisor is not None:
            model.backend.accumulate(self._divisor.value, divisor)
        add_gradients(model, loss, dy)

    def end_piece(self, loss: Loss, value: Any) -> None:
        """See, where work is done at once, whether ``value``, the loss, is finite.

        A mean over nothing, such as over labels that are all ignored, is NaN, and is none of the mean over the group.
        """
        backend = self._divisor.backend
        if backend.asynchronous:
            return
        before, self._divisor_before = self._divisor_before, float(backend.to_numpy(self._divisor.value))
        counts = loss.reduction != "mean" or self._divisor_before != before
        self.is_finite &= not counts or bool(np.isfinite(backend.to_numpy(value)))

    def ends(self, model: Layer, optimizer: Optimizer) -> bool:
        """Whether there is a step to take, of a group that is over now."""
        is_there, self.batches = self.batches > 0, 0
        if is_there and not self.is_finite:
            self._clear(model, optimizer)
            return False
        return is_there

    def divide(self, model: Layer, loss: Loss, optimizer: Optimizer) -> None:
        """Make gradients of the mean over all batches of those of sums."""
        if loss.reduction != "mean":
            return
        for backend, gradient in optimizer.flat_gradients():
            backend.divide(gradient, self._divisor.value)
        for parameter in not_optimized(model, optimizer):
            parameter.backend.divide(parameter.grad, self._divisor.value)

    def _clear(self, model: Layer, optimizer: Optimizer, sets: bool = False) -> None:
        self.is_finite, self._divisor_before = True, 0.0
        if not sets:
            optimizer.zero_grad()
        for parameter in not_optimized(model, optimizer):
            parameter.clear_grad()
            parameter.settle_grad()
        model.backend.fill_zero(self._divisor.value)


def not_optimized(model: Layer, optimizer: Optimizer) -> list[Parameter]:
    """Parameters that have gradients and are not the optimizer's."""
    own = {id(parameter) for parameter in optimizer.parameters}
    return [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in own]
