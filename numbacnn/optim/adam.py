"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from ..nn.state import Parameter, StepCounter
from ..ops.arguments import LAST_COUNT, integer
from .flat_parameters import FlatParameters
from .optimizer import Optimizer, below_one, not_negative

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """parameter -= lr m / (sqrt(v) + eps): m and v are running averages of g and g^2, both divided by 1 - beta^steps.

    m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g^2, from zero; g = grad + weight_decay parameter
    (Kingma and Ba 2015). ``betas`` are 0 or more and less than 1, the other settings not negative. ``no_decay``: the
    parameters that weight_decay is 0 for, such as `norms_and_biases`. ``steps`` counts the steps taken.
    """

    settings: ClassVar[dict[str, Callable[[str, Any], Any]]] = {
        "lr": not_negative,
        "beta1": below_one,
        "beta2": below_one,
        "eps": not_negative,
        "weight_decay": not_negative,
        "steps": lambda name, value: integer(name, value, 0, LAST_COUNT),
    }
    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float

    _decoupled = False

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"`betas` {betas!r} must be a pair (beta1, beta2)")
        beta1, beta2 = betas
        self._steps = StepCounter()
        super().__init__(
            parameters, no_decay, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, steps=0
        )

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self._steps.value

    @steps.setter
    def steps(self, number: int) -> None:
        self._steps.value = number

    def prepare(self) -> None:
        super().prepare()
        for group in self._groups:
            self._steps.array(group.backend)

    def apply(self) -> None:
        self._steps.increment()
        super().apply()

    def _arrays(self) -> tuple[str, ...]:
        return ("first_moment", "second_moment")

    def _numbers(self, group: FlatParameters) -> tuple[float, ...]:
        return (self.lr, self.beta1, self.beta2, self.eps, self.weight_decay * group.decays)

    def _update(self, group: FlatParameters) -> None:
        group.backend.adam_step(
            group.value,
            group.gradient,
            group.state["first_moment"],
            group.state["second_moment"],
            self._steps.array(group.backend),
            group.settings,
            self._decoupled,
        )


class AdamW(Adam):
    """`Adam` with g = grad, and first parameter -= lr weight_decay parameter (Loshchilov and Hutter 2019)."""

    _decoupled = True

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay, no_decay)
