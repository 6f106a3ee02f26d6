"""Gradients of several batches, added up for one step of the optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Backend
from ..nn.child import trains
from ..nn.grad_mode import free_after_backward
from ..nn.layer import Layer
from ..nn.loss import Loss
from ..nn.state import Buffer, Parameter
from .captured import StagedWork, drop_saved

if TYPE_CHECKING:
    from ..optim import Optimizer

__all__ = ["Group", "add_gradients"]


def add_gradients(model: Layer, loss: Loss, dy: Any) -> None:
    """Add to the parameters' gradients those for ``dy`` of the prediction; what was saved is gone afterwards."""
    if trains(model):
        with free_after_backward():
            model.backward(dy, input_gradient=False)
    drop_saved([model, loss])


class Group:
    """The batches since the last step of the optimizer.

    Gradients of sums are added up, and divided once by what the mean over all batches divides by. That number is the
    backend's, for how many labels count is known there.
    """

    def __init__(self, backend: Backend) -> None:
        self.batches = 0
        self.samples = 0
        """Of the batch at work."""
        self.work = StagedWork("step")
        """The end of a group."""
        self._has_gradients = False
        self._divisor = Buffer(np.zeros((), np.float64), backend)
        self._one = Buffer(np.ones((), np.float64), backend)

    def begin_batch(self, model: Layer, optimizer: Optimizer) -> None:
        """All gradients are zero before the first batch, in the arrays that a launch adds to."""
        for buffer in (self._divisor, self._one):
            buffer.to(model.backend)
        if self.batches:
            return
        self._has_gradients = False
        optimizer.zero_grad()
        for parameter in _others(model, optimizer):
            parameter.clear_grad()
            parameter.settle_grad()
        model.backend.fill_zero(self._divisor.value)

    def add(self, model: Layer, loss: Loss) -> None:
        """Add the gradients of the batch whose loss was computed last."""
        dy, divisor = loss.backward_of_sum(self.samples)
        if isinstance(divisor, float):
            model.backend.accumulate(self._divisor.value, self._one.value, divisor)
        elif divisor is not None:
            model.backend.accumulate(self._divisor.value, divisor)
        add_gradients(model, loss, dy)

    def end_batch(self, has_gradients: bool) -> None:
        """``has_gradients``: whether :meth:`add` was done with it."""
        self.batches += 1
        self._has_gradients |= has_gradients

    def ends(self) -> bool:
        """Whether there is a step to take, of a group that is over now."""
        is_there, self.batches = self.batches > 0 and self._has_gradients, 0
        return is_there

    def divide(self, model: Layer, loss: Loss, optimizer: Optimizer) -> None:
        """Make gradients of the mean over all batches of those of sums."""
        if loss.reduction != "mean":
            return
        for backend, gradient in optimizer.flat_gradients():
            backend.divide(gradient, self._divisor.value)
        for parameter in _others(model, optimizer):
            parameter.backend.divide(parameter.grad, self._divisor.value)


def _others(model: Layer, optimizer: Optimizer) -> list[Parameter]:
    """Parameters that have gradients and are not the optimizer's."""
    own = {id(parameter) for parameter in optimizer.parameters}
    return [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in own]
