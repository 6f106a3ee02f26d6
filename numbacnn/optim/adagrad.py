"""Adagrad."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from ..nn.state import Parameter
from .flat_parameters import FlatParameters
from .optimizer import CountingOptimizer, not_negative
from .parameter_groups import ParameterGroup

__all__ = ["Adagrad"]


class Adagrad(CountingOptimizer):
    """parameter -= lr / (1 + (steps - 1) lr_decay) g / (sqrt(s) + eps), s being the sum of all g^2 until now.

    Duchi et al. 2011. g = grad + weight_decay parameter, and s begins with ``initial_accumulator_value``, which is for
    all groups. No setting is negative. ``no_decay``: the parameters that weight_decay is 0 for, such as
    `norms_and_biases`. ``steps`` counts those of each parameter while it is trained, as PyTorch does.
    """

    settings: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        "lr": not_negative,
        "lr_decay": not_negative,
        "weight_decay": not_negative,
        "eps": not_negative,
    }
    lr_decay: float
    weight_decay: float
    eps: float

    _read = ("lr", "lr_decay", "eps", "weight_decay")

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter] | Mapping[str, Any]],
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        self._first_sum = not_negative("initial_accumulator_value", initial_accumulator_value)
        super().__init__(parameters, no_decay, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)

    def _arrays(self, group: ParameterGroup) -> dict[str, float]:
        return {"square_sum": self._first_sum}

    def _update(self, flat: FlatParameters) -> None:
        count = flat.steps.array(flat.backend)
        flat.backend.adagrad_step(flat.value, flat.gradient, flat.state["square_sum"], count, flat.settings)
