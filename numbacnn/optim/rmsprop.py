"""RMSprop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from ..nn.state import Parameter
from ..ops.arguments import flag, number
from .flat_parameters import FlatParameters
from .optimizer import Optimizer, below_one, not_negative
from .parameter_groups import ParameterGroup

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """parameter -= lr g / (sqrt(v) + eps), v = alpha v + (1 - alpha) g^2, from zero; g = grad + weight_decay parameter.

    Of Hinton's lecture 6e, 2012, in PyTorch's form. ``centered`` (Graves 2013): what the root is taken of is v less the
    square of the running average of g. With ``momentum`` m, 0 or more and less than 1, buffer = m buffer +
    g / (sqrt(v) + eps), from zero, takes the place of the quotient. ``alpha`` is in 0..1, the other settings are not
    negative. ``no_decay``: the parameters that weight_decay is 0 for, such as `norms_and_biases`.
    """

    settings: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        "lr": not_negative,
        "alpha": lambda name, value: number(name, value, 0, 1),
        "eps": not_negative,
        "weight_decay": not_negative,
        "momentum": below_one,
        "centered": flag,
    }
    alpha: float
    eps: float
    weight_decay: float
    momentum: float
    centered: bool

    _read = ("lr", "alpha", "eps", "weight_decay", "momentum")
    _chosen = ("centered",)

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter] | Mapping[str, Any]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        settings = {"eps": eps, "weight_decay": weight_decay, "momentum": momentum, "centered": centered}
        super().__init__(parameters, no_decay, lr=lr, alpha=alpha, **settings)

    def _arrays(self, group: ParameterGroup) -> dict[str, float]:
        names = [
            "square_average",
            *["gradient_average"] * group["centered"],
            *["momentum_buffer"] * (group["momentum"] > 0),
        ]
        return dict.fromkeys(names, 0.0)

    def _update(self, flat: FlatParameters) -> None:
        flat.backend.rmsprop_step(
            flat.value,
            flat.gradient,
            flat.state["square_average"],
            flat.state["gradient_average"] if flat.group["centered"] else None,
            flat.state.get("momentum_buffer"),
            flat.settings,
        )
