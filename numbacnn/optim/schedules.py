"""Learning-rate schedules: what the settings of an optimizer's groups are after so many steps."""

from __future__ import annotations

import abc
import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..ops.arguments import LAST_COUNT, flag, integer, number, one_of
from .optimizer import Optimizer, below_one, for_each_group, not_negative, rates_as_text
from .parameter_groups import checked_settings

__all__ = ["CosineAnnealingLR", "LinearWarmup", "MultiStepLR", "OneCycleLR", "Schedule", "StepLR"]


class _SetAtOnce(abc.ABCMeta):
    """Of classes whose objects set the first settings once the last ``__init__`` of a subclass is through.

    Only then does :meth:`Schedule.lr_at` find what it needs; a copy is no new object and sets nothing.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        schedule = super().__call__(*args, **kwargs)
        schedule._go_to(0)
        return schedule


class Schedule(metaclass=_SetAtOnce):
    """Sets the learning rates of ``optimizer`` as a function of ``count``, how many times :meth:`step` was called.

    It is set at once, for a count of 0, and worked out anew at each step, so that no error adds up; whatever else sets
    it lasts until the next step. A subclass defines :meth:`lr_at`; a rate that is negative, infinite or no number is a
    ValueError or TypeError, and the optimizer's stays. ``per`` is "batch" or "epoch": when
    ``training.fit`` calls :meth:`step`; a loop of one's own may do it whenever it likes.

    ``base_lrs`` are the rates that the schedule scales, one for each of ``optimizer.param_groups``: theirs when the
    schedule was made, or what is given, a number for all groups or a list. :meth:`lr_at` is asked for each group in
    turn, with ``base_lr`` the group's; otherwise that is the first one's.
    """

    base_lrs: list[float]

    def __init__(self, optimizer: Optimizer, per: str, base_lr: float | Sequence[float] | None = None) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"`optimizer` of type {type(optimizer).__name__} must be an Optimizer")
        self.optimizer = optimizer
        self.per = one_of("per", per, ("batch", "epoch"))
        rates = [group["lr"] for group in optimizer.param_groups] if base_lr is None else base_lr
        self.base_lrs = for_each_group("base_lr", rates, optimizer)
        self.count = 0
        self._group = 0

    @property
    def base_lr(self) -> float:
        """What the schedule scales, of the group at work."""
        return self.base_lrs[self._group]

    def lr_at(self, count: int) -> float:
        """The learning rate after ``count`` steps, of the group whose ``base_lr`` there is."""
        raise NotImplementedError(f"{type(self).__name__} must define `lr_at`")

    def settings_at(self, count: int) -> dict[str, float]:
        """The settings of that group after ``count`` steps, by name."""
        return {"lr": self.lr_at(count)}

    def step(self) -> None:
        """Count one more, and set the settings of all groups."""
        self._go_to(self.count + 1)

    def state_dict(self) -> dict[str, Any]:
        """``count`` and ``base_lr``, a list with several groups: all that changes, made of what JSON can say."""
        many = len(self.base_lrs) > 1
        return {"count": self.count, "base_lr": [*self.base_lrs] if many else self.base_lrs[0]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, with a schedule made with the same arguments, to the same bits.

        ValueError or TypeError, and nothing is changed, for other keys, and for values out of range.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"`state` of type {type(state).__name__} must be a dict")
        if set(state) != {"count", "base_lr"}:
            raise ValueError(f"`state` has the keys {list(state)}, must have ['base_lr', 'count']")
        count, former = integer("count", state["count"], 0, LAST_COUNT), self.base_lrs
        rates = for_each_group("base_lr", state["base_lr"], self.optimizer)
        if isinstance(state["base_lr"], list) != (len(rates) > 1):
            raise ValueError(
                f"`base_lr` {state['base_lr']} must have a rate for each group of `optimizer`, {len(rates)}"
            )
        self.base_lrs = rates
        try:
            self._go_to(count)
        except BaseException:
            self.base_lrs = former
            raise

    def _go_to(self, count: int) -> None:
        groups = self.optimizer.param_groups
        settings = [self._checked_at(i, count) for i in range(len(groups))]
        self.count = count
        for group, found in zip(groups, settings, strict=True):
            group.write(found)

    def _checked_at(self, group: int, count: int) -> dict[str, Any]:
        """What ``settings_at`` gives for the group of this number."""
        self._group = group
        try:
            found = self.settings_at(count)
        except OverflowError as error:
            raise ValueError(f"the settings of {type(self).__name__} after {count} steps are too large") from error
        finally:
            self._group = 0
        known = self.optimizer.settings
        if not known.keys() >= found.keys():
            raise ValueError(f"`settings_at` gives {sorted(found)}; the optimizer's settings are {sorted(known)}")
        return checked_settings(type(self.optimizer), found)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(count={self.count}, per={self.per!r}, lr={rates_as_text(self.optimizer)})"


class StepLR(Schedule):
    """lr = base_lr gamma^(count // step_size).

    >>> import numbacnn as nc
    >>> from numbacnn import nn, optim
    >>> with nc.use_backend("reference"):
    ...     optimizer = optim.SGD([nn.Parameter([1.0])], lr=0.5)
    >>> schedule, rates = optim.StepLR(optimizer, step_size=2), []
    >>> for epoch in range(5):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [0.5, 0.5, 0.05, 0.05, 0.005000000000000001]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, per: str = "epoch") -> None:
        super().__init__(optimizer, per)
        self.step_size = integer("step_size", step_size, 1)
        self.gamma = not_negative("gamma", gamma)

    def lr_at(self, count: int) -> float:
        return self.base_lr * self.gamma ** (count // self.step_size)


class MultiStepLR(Schedule):
    """lr = base_lr gamma^(how many of the milestones were reached); ``milestones`` are counts, not negative."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, per: str = "epoch") -> None:
        super().__init__(optimizer, per)
        self.milestones = sorted(integer("milestones", milestone) for milestone in milestones)
        self.gamma = not_negative("gamma", gamma)

    def lr_at(self, count: int) -> float:
        return self.base_lr * self.gamma ** bisect.bisect_right(self.milestones, count)


class CosineAnnealingLR(Schedule):
    """lr = eta_min + (base_lr - eta_min) (1 + cos(pi count / t_max)) / 2.

    It goes from base_lr to ``eta_min`` in ``t_max`` steps, and afterwards up again, as it does in PyTorch. Loshchilov
    and Hutter 2017.
    """

    def __init__(self, optimizer: Optimizer, t_max: int, eta_min: float = 0, per: str = "epoch") -> None:
        super().__init__(optimizer, per)
        self.t_max = integer("t_max", t_max, 1)
        self.eta_min = not_negative("eta_min", eta_min)

    def lr_at(self, count: int) -> float:
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * count / self.t_max)) / 2


class OneCycleLR(Schedule):
    """Up from max_lr / div_factor to ``max_lr`` in the first part of training, then down to far below where it began.

    Smith and Topin 2019, in PyTorch's form with two phases: the first ends after pct_start total_steps - 1 steps, the
    second after total_steps - 1, at max_lr / div_factor / final_div_factor. A step beyond ``total_steps`` is a
    ValueError.

    Args:
        optimizer: whose ``lr``, and with ``cycle_momentum`` whose ``momentum`` (or ``beta1``), is set.
        max_lr: the highest rate, or a list of those of the groups.
        total_steps: 1 or more; of batches, epochs times batches.
        pct_start: the first phase's share, 0 to 1.
        anneal_strategy: "cos", half a period of a cosine in each phase, or "linear".
        div_factor, final_div_factor: above 0.
        cycle_momentum: also take momentum from ``max_momentum`` down to ``base_momentum`` and back; by default, if the
            optimizer has a momentum above 0, or a ``beta1``.
        base_momentum, max_momentum: 0 or more and less than 1.
        per: "batch" or "epoch".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25,
        final_div_factor: float = 1e4,
        cycle_momentum: bool | None = None,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        per: str = "batch",
    ) -> None:
        super().__init__(optimizer, per, for_each_group("max_lr", max_lr, optimizer))
        self.total_steps = integer("total_steps", total_steps, 1)
        self.pct_start = number("pct_start", pct_start, 0, 1)
        self.anneal_strategy = one_of("anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.div_factor = _above_zero("div_factor", div_factor)
        self.final_div_factor = _above_zero("final_div_factor", final_div_factor)
        self.base_momentum = below_one("base_momentum", base_momentum)
        self.max_momentum = below_one("max_momentum", max_momentum)
        groups = optimizer.param_groups
        having = (name for name in ("momentum", "beta1") if any(group.get(name, 0) > 0 for group in groups))
        momentum = next(having, None)
        if cycle_momentum is None:
            cycle_momentum = momentum is not None
        if flag("cycle_momentum", cycle_momentum) and momentum is None:
            raise ValueError(f"`cycle_momentum` needs an optimizer with momentum, not {optimizer!r}")
        self._momentum = momentum if cycle_momentum else None

    def lr_at(self, count: int) -> float:
        begin = self.base_lr / self.div_factor
        return self._between(begin, self.base_lr, begin / self.final_div_factor, count)

    def settings_at(self, count: int) -> dict[str, float]:
        settings = super().settings_at(count)
        if self._momentum is not None:
            settings[self._momentum] = self._between(self.max_momentum, self.base_momentum, self.max_momentum, count)
        return settings

    def _between(self, begin: float, middle: float, end: float, count: int) -> float:
        """What goes from ``begin`` over ``middle`` to ``end`` is here after ``count`` steps."""
        if count > self.total_steps:
            raise ValueError(f"step {count} is beyond `total_steps` {self.total_steps}")
        last = self.total_steps - 1
        turn, count = self.pct_start * self.total_steps - 1, min(count, last)
        if count < turn:
            return self._anneal(begin, middle, count / turn)
        return self._anneal(middle, end, (count - turn) / (last - turn) if last > turn else 0)

    def _anneal(self, start: float, end: float, part: float) -> float:
        weight = part if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * part)) / 2
        return start + (end - start) * weight


class LinearWarmup(Schedule):
    """A straight line up to the first rate of another schedule in ``steps`` steps, and then that schedule.

    lr = (start_factor + (1 - start_factor) count / steps) times the first rate of ``then``, and from a count of
    ``steps`` on, what ``then`` has after count - steps: PyTorch's LinearLR followed by ``then`` in a SequentialLR.
    Goyal et al. 2017, section 2.2.

    Args:
        steps: 1 or more.
        then: a schedule that nobody else steps; this one has its optimizer and its ``per``.
        start_factor: above 0, at most 1.

    >>> import numbacnn as nc
    >>> from numbacnn import nn, optim
    >>> with nc.use_backend("reference"):
    ...     optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> schedule = optim.LinearWarmup(2, then=optim.StepLR(optimizer, 1), start_factor=0.5)
    >>> [schedule.lr_at(count) for count in range(5)]
    [0.5, 0.75, 1.0, 0.1, 0.010000000000000002]
    """

    def __init__(self, steps: int, then: Schedule, start_factor: float = 1 / 3) -> None:
        if not isinstance(then, Schedule):
            raise TypeError(f"`then` of type {type(then).__name__} must be a Schedule")
        self.then = then
        super().__init__(then.optimizer, then.per, then.base_lrs)
        self.steps = integer("steps", steps, 1)
        self.start_factor = number("start_factor", _above_zero("start_factor", start_factor), 0, 1)

    @property
    def base_lrs(self) -> list[float]:
        """Those of ``then``."""
        return self.then.base_lrs

    @base_lrs.setter
    def base_lrs(self, new: list[float]) -> None:
        self.then.base_lrs = new

    @property
    def _group(self) -> int:
        """That of ``then``, which is asked as well."""
        return self.then._group

    @_group.setter
    def _group(self, new: int) -> None:
        self.then._group = new

    def lr_at(self, count: int) -> float:
        return self.settings_at(count)["lr"]

    def settings_at(self, count: int) -> dict[str, float]:
        settings = self.then.settings_at(max(0, count - self.steps))
        if count < self.steps:
            settings["lr"] *= self.start_factor + (1 - self.start_factor) * count / self.steps
        return settings


def _above_zero(name: str, value: Any) -> float:
    result = number(name, value, 0)
    if result == 0:
        raise ValueError(f"`{name}` {value!r} must be above 0")
    return result
