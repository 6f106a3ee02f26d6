"""NAdam."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from ..nn.state import Parameter
from ..ops.arguments import flag
from .adam import MomentOptimizer
from .flat_parameters import FlatParameters
from .optimizer import not_negative
from .parameter_groups import ParameterGroup

__all__ = ["NAdam"]


class NAdam(MomentOptimizer):
    """`Adam` with Nesterov's momentum (Dozat 2016), in PyTorch's form: m is looked at as it will be a step later.

    In the place of m divided by 1 - beta1^steps is (1 - mu) g / (1 - M) + mu' m / (1 - M mu'). mu of a step is
    beta1 (1 - 0.96^(steps momentum_decay) / 2), mu' that of the next one, M the product of all until now. With
    ``decoupled_weight_decay``, g = grad, and first parameter -= lr weight_decay parameter, as in `AdamW`.
    """

    settings: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        **MomentOptimizer.settings,
        "momentum_decay": not_negative,
        "decoupled_weight_decay": flag,
    }
    momentum_decay: float
    decoupled_weight_decay: bool

    _read = (*MomentOptimizer._read, "momentum_decay")
    _chosen = ("decoupled_weight_decay",)
    _numbers = ("mu_product",)

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter] | Mapping[str, Any]],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        no_decay: Iterable[Parameter] = (),
    ) -> None:
        settings = {"momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(parameters, no_decay, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **settings)

    def _arrays(self, group: ParameterGroup) -> dict[str, float]:
        return {**super()._arrays(group), "mu_product": 1.0}

    def _update(self, flat: FlatParameters) -> None:
        flat.backend.nadam_step(
            *self._moments(flat),
            flat.state["mu_product"],
            flat.steps.array(flat.backend),
            flat.settings,
            flat.group["decoupled_weight_decay"],
        )
