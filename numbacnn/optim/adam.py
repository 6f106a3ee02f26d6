"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from ..backends import Array
from ..nn.state import Parameter
from .flat_parameters import FlatParameters
from .optimizer import CountingOptimizer, below_one, not_negative
from .parameter_groups import ParameterGroup

__all__ = ["Adam", "AdamW", "MomentOptimizer"]


class MomentOptimizer(CountingOptimizer):
    """An optimizer that keeps running averages of gradients and of their squares."""

    settings: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        "lr": not_negative,
        "beta1": below_one,
        "beta2": below_one,
        "eps": not_negative,
        "weight_decay": not_negative,
    }
    pairs: ClassVar[Mapping[str, tuple[str, str]]] = {"betas": ("beta1", "beta2")}
    betas: tuple[float, float]
    beta1: float
    beta2: float
    eps: float
    weight_decay: float

    _read: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2", "eps", "weight_decay")

    def _arrays(self, group: ParameterGroup) -> dict[str, float]:
        return {"first_moment": 0.0, "second_moment": 0.0}

    def _moments(self, flat: FlatParameters) -> tuple[Array, Array, Array, Array]:
        return flat.value, flat.gradient, flat.state["first_moment"], flat.state["second_moment"]


class Adam(MomentOptimizer):
    """parameter -= lr m / (sqrt(v) + eps): m and v are running averages of g and g^2, both divided by 1 - beta^steps.

    m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g^2, from zero; g = grad + weight_decay parameter
    (Kingma and Ba 2015). ``betas`` are 0 or more and less than 1, the other settings not negative. ``no_decay``: the
    parameters that weight_decay is 0 for, such as `norms_and_biases`. ``steps`` counts those of each parameter while it
    is trained, as PyTorch does.
    """

    _decoupled = False

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter] | Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        super().__init__(parameters, no_decay, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _update(self, flat: FlatParameters) -> None:
        flat.backend.adam_step(*self._moments(flat), flat.steps.array(flat.backend), flat.settings, self._decoupled)


class AdamW(Adam):
    """`Adam` with g = grad, and first parameter -= lr weight_decay parameter (Loshchilov and Hutter 2019)."""

    _decoupled = True

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter] | Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay, no_decay)
