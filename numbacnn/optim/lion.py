"""Lion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from ..nn.state import Parameter
from .flat_parameters import FlatParameters
from .optimizer import Optimizer, below_one, not_negative
from .parameter_groups import ParameterGroup

__all__ = ["Lion"]


class Lion(Optimizer):
    """parameter -= lr (sign(beta1 m + (1 - beta1) grad) + weight_decay parameter); m = beta2 m + (1 - beta2) grad.

    m is from zero, and all on the right is of before (Chen et al. 2023). Every element moves by lr, so rates are some 3
    to 10 times smaller than those of `AdamW`, and weight decays as much larger. ``betas`` are 0 or more and less than
    1, the other settings not negative. ``no_decay``: the parameters that weight_decay is 0 for, such as
    `norms_and_biases`.
    """

    settings: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        "lr": not_negative,
        "beta1": below_one,
        "beta2": below_one,
        "weight_decay": not_negative,
    }
    pairs: ClassVar[Mapping[str, tuple[str, str]]] = {"betas": ("beta1", "beta2")}
    betas: tuple[float, float]
    beta1: float
    beta2: float
    weight_decay: float

    _read = ("lr", "beta1", "beta2", "weight_decay")

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter] | Mapping[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        super().__init__(parameters, no_decay, lr=lr, betas=betas, weight_decay=weight_decay)

    def _arrays(self, group: ParameterGroup) -> dict[str, float]:
        return {"first_moment": 0.0}

    def _update(self, flat: FlatParameters) -> None:
        flat.backend.lion_step(flat.value, flat.gradient, flat.state["first_moment"], flat.settings)
