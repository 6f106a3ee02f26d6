"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from ..nn.state import Parameter
from ..ops.arguments import flag
from .flat_parameters import FlatParameters
from .optimizer import Optimizer, below_one, not_negative

__all__ = ["SGD"]


class SGD(Optimizer):
    """parameter -= lr g, with g = grad + weight_decay parameter.

    With ``momentum`` m, 0 or more and less than 1, velocity = m velocity + g, from zero, takes the place of g; with
    ``nesterov`` it is g + m velocity (Sutskever et al. 2013, in PyTorch's form). ``lr`` and ``weight_decay`` are not
    negative. ``no_decay``: the parameters that weight_decay is 0 for, such as `norms_and_biases`.
    """

    settings: ClassVar[dict[str, Callable[[str, Any], Any]]] = {
        "lr": not_negative,
        "momentum": below_one,
        "nesterov": flag,
        "weight_decay": not_negative,
    }
    lr: float
    momentum: float
    nesterov: bool
    weight_decay: float

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter]],
        lr: float,
        momentum: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        if nesterov and momentum == 0:
            raise ValueError(f"`nesterov` needs `momentum` above 0, not {momentum!r}")
        self._has_velocity = momentum != 0
        super().__init__(parameters, no_decay, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "momentum" and self.momentum > 0 and not self._has_velocity:
            self._has_velocity = True
            self._state, self._groups = self._from_zeros(), []

    def _arrays(self) -> tuple[str, ...]:
        return ("velocity",) if self._has_velocity else ()

    def _numbers(self, group: FlatParameters) -> tuple[float, ...]:
        return (self.lr, self.momentum, self.weight_decay * group.decays)

    def _chosen(self) -> tuple[Any, ...]:
        return (self.nesterov,)

    def _update(self, group: FlatParameters) -> None:
        group.backend.sgd_step(group.value, group.gradient, group.state.get("velocity"), group.settings, self.nesterov)
