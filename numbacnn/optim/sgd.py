"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from ..nn.state import Parameter
from ..ops.arguments import flag
from .flat_parameters import FlatParameters
from .optimizer import Optimizer, below_one, not_negative
from .parameter_groups import ParameterGroup

__all__ = ["SGD"]


class SGD(Optimizer):
    """parameter -= lr g, with g = grad + weight_decay parameter.

    With ``momentum`` m, 0 or more and less than 1, velocity = m velocity + g, from zero, takes the place of g; with
    ``nesterov`` it is g + m velocity (Sutskever et al. 2013, in PyTorch's form). ``lr`` and ``weight_decay`` are not
    negative. ``no_decay``: the parameters that weight_decay is 0 for, such as `norms_and_biases`.
    """

    settings: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        "lr": not_negative,
        "momentum": below_one,
        "nesterov": flag,
        "weight_decay": not_negative,
    }
    momentum: float
    nesterov: bool
    weight_decay: float

    _read = ("lr", "momentum", "weight_decay")
    _chosen = ("nesterov",)

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter] | Mapping[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        super().__init__(parameters, no_decay, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def _check(self, group: ParameterGroup) -> None:
        if group["nesterov"] and group["momentum"] == 0:
            raise ValueError(f"`nesterov` needs `momentum` above 0, not {group['momentum']!r}")

    def _arrays(self, group: ParameterGroup) -> dict[str, float]:
        return {"velocity": 0.0} if group["momentum"] > 0 else {}

    def _update(self, flat: FlatParameters) -> None:
        velocity = flat.state.get("velocity")
        flat.backend.sgd_step(flat.value, flat.gradient, velocity, flat.settings, flat.group["nesterov"])
