"""A learning rate that goes by how training goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..ops.arguments import LAST_COUNT, integer, one_of, real_number
from .optimizer import Optimizer, below_one, for_each_group, not_negative, rates_as_text

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau:
    """Multiplies the rates of all groups by ``factor`` when a figure was no better for more than ``patience`` epochs.

    ``step(figure)`` after each epoch; ``training.fit(..., schedule=schedule)`` takes that step. In the order of
    PyTorch: a figure that is better than ``best`` is the best one from then on; for ``cooldown`` epochs after a change
    none counts as bad. NaN is never better.

    Args:
        optimizer: whose rates are set.
        mode: "min" where less is better, "max" where more is.
        factor: 0 or more and less than 1.
        patience: how many bad epochs in a row change nothing, 0 or more.
        threshold: by how much a figure must be better than the best one, 0 or more.
        threshold_mode: "rel", as a part of the best one, or "abs".
        cooldown: 0 or more.
        min_lr: the least that rates become, a number or a list of one for each group.
        eps: a rate that would change by no more than this stays.
        monitor: the figure that ``fit`` gives: "train_loss", "train_accuracy", "test_loss", "test_accuracy", or one of
            its metrics, as "test_top5". None for "test_loss", or "train_loss" where there is no test loader.

    Attributes:
        count: how many steps were taken.
        best: the best figure, infinite before the first.
        num_bad_epochs, cooldown_counter: how many bad ones there were in a row, and how many are not counted yet.

    >>> import numbacnn as nc
    >>> from numbacnn import nn, optim
    >>> with nc.use_backend("reference"):
    ...     optimizer = optim.SGD([nn.Parameter([1.0])], lr=0.5)
    >>> schedule, rates = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1), []
    >>> for loss in (3, 2, 2, 2, 1):
    ...     schedule.step(loss)
    ...     rates.append(optimizer.lr)
    >>> rates
    [0.5, 0.5, 0.5, 0.25, 0.25]
    """

    per = "epoch"

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
        monitor: str | None = None,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"`optimizer` of type {type(optimizer).__name__} must be an Optimizer")
        if monitor is not None and not isinstance(monitor, str):
            raise TypeError(f"`monitor` {monitor!r} must be the name of a figure, or None")
        self.optimizer = optimizer
        self.mode = one_of("mode", mode, ("min", "max"))
        self.factor = below_one("factor", factor)
        self.patience = integer("patience", patience)
        self.threshold = not_negative("threshold", threshold)
        self.threshold_mode = one_of("threshold_mode", threshold_mode, ("rel", "abs"))
        self.cooldown = integer("cooldown", cooldown)
        self.min_lrs = for_each_group("min_lr", min_lr, optimizer)
        self.eps = not_negative("eps", eps)
        self.monitor = monitor
        self.count = self.num_bad_epochs = self.cooldown_counter = 0
        self.best = self._worst()

    def step(self, metrics: float) -> None:
        """Take the figure of another epoch, a number."""
        figure = real_number("metrics", metrics)
        self.count += 1
        if self._is_better(figure):
            self.best, self.num_bad_epochs = figure, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        """All that changes, made of what JSON can say; the rates are the optimizer's."""
        return {
            "count": self.count,
            "best": None if math.isinf(self.best) else self.best,
            "num_bad_epochs": self.num_bad_epochs,
            "cooldown_counter": self.cooldown_counter,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, with a schedule made with the same arguments.

        The optimizer's state has the rates. ValueError or TypeError, and nothing is changed, for other keys, and for
        values out of range.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"`state` of type {type(state).__name__} must be a dict")
        if set(state) != set(self.state_dict()):
            raise ValueError(f"`state` has the keys {list(state)}, must have {list(self.state_dict())}")
        counts = {name: integer(name, state[name], 0, LAST_COUNT) for name in state if name != "best"}
        best = self._worst() if state["best"] is None else real_number("best", state["best"])
        if math.isnan(best):
            raise ValueError("`best` nan must be a number, or None")
        vars(self).update(counts, best=best)

    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    def _is_better(self, figure: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return sign * figure > sign * bound

    def _reduce(self) -> None:
        for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lr = max(group["lr"] * self.factor, least)
            if group["lr"] - lr > self.eps:
                group.write({"lr": lr})

    def __repr__(self) -> str:
        monitor = "" if self.monitor is None else f", monitor={self.monitor!r}"
        rates = rates_as_text(self.optimizer)
        return f"{type(self).__name__}(count={self.count}, mode={self.mode!r}{monitor}, lr={rates})"
