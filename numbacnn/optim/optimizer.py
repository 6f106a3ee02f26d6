"""What all optimizers share: their parameters, their settings, the arrays they keep for each, and saving them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..backends import Array, Backend
from ..nn.state import Buffer, Parameter, StepCounter, matching_arrays
from ..ops.arguments import LAST_COUNT, integer, number
from .decay import which_decay
from .flat_parameters import FlatParameters, flat_groups
from .parameter_groups import ParameterGroup, checked_settings, parameter_groups, scale_rates

__all__ = ["CountingOptimizer", "Optimizer", "below_one", "for_each_group", "not_negative", "rates_as_text"]

_GROUPS = "param_groups"


def not_negative(name: str, value: Any) -> float:
    """A finite number, 0 or more."""
    return number(name, value, 0)


def below_one(name: str, value: Any) -> float:
    """A number, 0 or more and less than 1."""
    result = number(name, value, 0)
    if result >= 1:
        raise ValueError(f"`{name}` {value!r} must be at least 0 and less than 1")
    return result


def step_counts(name: str, value: Any) -> int | list[int]:
    """A number of steps that can be counted on from, or a list of them."""
    if isinstance(value, list):
        return [integer(f"{name}[{i}]", one, 0, LAST_COUNT) for i, one in enumerate(value)]
    return integer(name, value, 0, LAST_COUNT)


class Optimizer:
    """Changes ``parameters`` by their gradients, once per :meth:`step`.

    They are a list of Parameter or of (name, Parameter), or for groups with settings of their own a list of dicts,
    ``{"params": [...], "lr": 0.1, ...}``, each with those that differ; :attr:`param_groups` has the groups.

    The parameters move into one array, where they are updated together (``flat_parameters.py``): read ``value`` and
    ``grad`` of a Parameter anew after an optimizer was made for it. A parameter is at home in one optimizer, the last
    that used it. One that is frozen stays as it is, and so does what is kept for it, see `Layer.freeze`; where
    steps are counted, they are those that each parameter took.

    ``no_decay`` are those of the parameters that ``weight_decay`` leaves alone, none by default; most often
    `norms_and_biases`. An empty list of parameters is a ValueError, and so are an empty group, a parameter in two
    groups, a setting that there is not, and a parameter in ``no_decay`` that is not in ``parameters``.

    Settings are attributes, and entries of groups, that may be changed between steps; values out of range, or that are
    no numbers, are a ValueError or TypeError there as well, and the setting stays. With several groups, an attribute
    reads as that of the first one, and is set for all; but ``lr`` is set in proportion: where the first group's becomes
    half of what it was, so do the others.

    A subclass lists its settings, which of them its kernels read and the arrays that it keeps for each parameter, and
    defines ``_update``.
    """

    settings: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {"lr": not_negative}
    """Name -> what checks a value and returns it."""
    pairs: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """The name of two settings together -> theirs."""
    shared: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {}
    """As ``settings``: what is saved as well, and there once for all groups."""

    _read: ClassVar[tuple[str, ...]] = ("lr",)
    """The settings that ``_update`` finds in ``flat.settings``."""
    _chosen: ClassVar[tuple[str, ...]] = ()
    """The settings that ``_update`` depends on otherwise."""
    _numbers: ClassVar[tuple[str, ...]] = ()
    """What of ``_arrays`` is one number, float64, for each parameter; parameters are updated together that share it."""

    lr: float
    """Learning rate, 0 or more."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _add_properties(cls)

    def __init__(self, parameters: Iterable[Any], no_decay: Iterable[Parameter] = (), **settings: Any) -> None:
        self._param_groups = parameter_groups(parameters, type(self), settings)
        for group in self._param_groups:
            self._check(group)
        self.parameters: list[Parameter] = [one for group in self._param_groups for one in group["params"]]
        """Those of all groups."""
        self._decays = which_decay(self.parameters, no_decay)
        self.version = 0
        """Grows when :meth:`apply` becomes another computation: its arrays are others, or a choice has changed."""
        self._choices: list[Any] = []
        self._flat: list[FlatParameters] = []
        self._counters = [StepCounter()] * len(self.parameters)
        self._state: list[dict[str, Buffer]] = [{} for _ in self.parameters]
        self._settle()

    def __getstate__(self) -> dict[str, Any]:
        # Copies of views would be arrays of their own.
        return {**vars(self), "_flat": []}

    @property
    def param_groups(self) -> list[ParameterGroup]:
        """The groups, in their order; one, if the parameters were given as such."""
        return [*self._param_groups]

    def step(self) -> None:
        """Change every parameter by its gradient: :meth:`prepare`, then :meth:`apply`."""
        self.prepare()
        self.apply()

    def prepare(self) -> None:
        """What of a step is the host's: see that parameters and gradients are in their places, write settings down."""
        self._settle()
        for flat in self._flat:
            flat.write_settings([flat.setting(name) for name in self._read])
        choices = [group[name] for group in self._param_groups for name in self._chosen]
        if self._choices != choices:
            self._choices = choices
            self.version += 1

    def apply(self) -> None:
        """What of a step is the backend's, after :meth:`prepare`; this may be captured and replayed."""
        for flat in self._flat:
            if flat.trains:
                self._update(flat)

    def zero_grad(self) -> None:
        """Set all gradients to zero, in place: an array read from ``grad`` before becomes zero too."""
        self._settle()
        for flat in self._flat:
            flat.backend.fill_zero(flat.gradient)

    def flat_gradients(self) -> list[tuple[Backend, Array]]:
        """The gradients of what trains, side by side in flat arrays with their backends, to be changed in place."""
        self._settle()
        return [(flat.backend, flat.gradient) for flat in self._flat if flat.trains]

    def gradient_places(self) -> list[list[tuple[slice, Parameter]]]:
        """Where each parameter's gradient is in the arrays of :meth:`flat_gradients`."""
        self._settle()
        return [flat.places() for flat in self._flat if flat.trains]

    def _settle(self) -> None:
        self._add_arrays()
        if not self._flat or not all(flat.is_in_place() for flat in self._flat):
            self._flat = flat_groups(self._param_groups, self._state, self._decays, self._counters, self._numbers)
            self.version += 1
        if any([flat.collect_gradients() for flat in self._flat]):
            self.version += 1

    def _add_arrays(self) -> None:
        """Begin the arrays that settings ask for; what once was there is kept."""
        first = 0
        for group in self._param_groups:
            arrays, last = self._arrays(group), first + len(group["params"])
            if not arrays.keys() <= self._state[first].keys():
                for parameter, state in zip(self.parameters[first:last], self._state[first:last], strict=True):
                    for name, value in arrays.items():
                        if name not in state:
                            state[name] = self._array(name, value, parameter)
                self._flat = []
            first = last

    def _array(self, name: str, value: float, parameter: Parameter) -> Buffer:
        shape, dtype = ((), np.float64) if name in self._numbers else (parameter.shape, parameter.dtype)
        return Buffer(np.full(shape, value, dtype), parameter.backend)

    def _arrays(self, group: ParameterGroup) -> dict[str, float]:
        """The arrays that are kept for each parameter, of its shape, by name: what they are full of at first."""
        return {}

    def _check(self, group: ParameterGroup) -> None:
        """ValueError for settings of a new group that do not go together."""

    def _update(self, flat: FlatParameters) -> None:
        """Change the parameters ``flat.value`` by ``flat.gradient``, and in place the arrays ``flat.state``."""
        raise NotImplementedError(f"{type(self).__name__} must define `_update`")

    def state_dict(self) -> dict[str, Any]:
        """One flat dict: the settings and, as new arrays "0.velocity", ..., what is kept for each parameter.

        Of several groups, "param_groups" is a list of dicts of settings, in which "params" says which parameters they
        are of, by number.
        """
        if self._has_many():
            places = self._places()
            groups = zip(places, self._param_groups, strict=True)
            state: dict[str, Any] = {_GROUPS: [{"params": params, **group.to_json()} for params, group in groups]}
        else:
            state = {name: self._param_groups[0][name] for name in self.settings}
        state |= {name: getattr(self, name) for name in self.shared}
        for name, buffer in self._named_buffers().items():
            state[name] = np.array(buffer.backend.to_numpy(buffer.value))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, to the same bits.

        Everything is checked before anything is changed: ValueError or TypeError for settings out of range, for other
        groups, and for arrays that are missing, unexpected, of another shape or no numbers.
        """
        targets = self._named_buffers()
        arrays, problems = matching_arrays(targets, state)
        if (_GROUPS in state) != self._has_many():
            of, has = ("several groups", "one") if _GROUPS in state else ("one group", "several")
            raise ValueError(f"`state` is of {of} of parameters, this {type(self).__name__} has {has}")
        numbers = (*([_GROUPS] if self._has_many() else self.settings), *self.shared)
        problems += [f"missing {name}" for name in (*numbers, *targets) if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in numbers and name not in targets]
        if problems:
            raise ValueError(f"`state` does not fit {type(self).__name__}: {'; '.join(problems)}")
        if self._has_many():
            entries = self._checked_groups(state[_GROUPS])
        else:
            entries = [{name: state[name] for name in self.settings} | {"base_lr": state["lr"]}]
        puts = [group.from_json(entry) for group, entry in zip(self._param_groups, entries, strict=True)]
        shared = {name: check(name, state[name]) for name, check in self.shared.items()}
        if self._numbers:
            self._take_apart()
            targets = self._named_buffers()
        for put in puts:
            put()
        for name, value in shared.items():
            setattr(self, name, value)
        for name, array in arrays.items():
            targets[name].value = array

    def _take_apart(self) -> None:
        """Have each parameter its own numbers, until those that are alike are side by side again."""
        for arrays in self._state:
            for name in self._numbers:
                arrays[name] = Buffer(arrays[name].value, arrays[name].backend)
        self._flat = []

    def _checked_groups(self, entries: Any) -> list[dict[str, Any]]:
        """The settings of each group, in a state; ValueError for groups of other parameters."""
        places, keys = self._places(), {"params", "base_lr", *self.settings}
        if not isinstance(entries, Sequence) or len(entries) != len(places):
            raise ValueError(f"`state` must have a list of {len(places)} groups as {_GROUPS!r}")
        for i, (entry, params) in enumerate(zip(entries, places, strict=True)):
            if not isinstance(entry, Mapping) or entry.keys() != keys:
                raise ValueError(f"`state` must have in {_GROUPS!r}[{i}] a dict of {', '.join(sorted(keys))}")
            if entry["params"] != params:
                raise ValueError(f"{_GROUPS!r}[{i}] of `state` is of the parameters {entry['params']}, not {params}")
        return [{name: value for name, value in entry.items() if name != "params"} for entry in entries]

    def _has_many(self) -> bool:
        return len(self._param_groups) > 1

    def _places(self) -> list[list[int]]:
        """The numbers of the parameters of each group."""
        ends = np.cumsum([len(group["params"]) for group in self._param_groups]).tolist()
        return [[*range(first, last)] for first, last in zip([0, *ends], ends, strict=False)]

    def _named_buffers(self) -> dict[str, Buffer]:
        self._add_arrays()
        return {f"{i}.{name}": buffer for i, arrays in enumerate(self._state) for name, buffer in arrays.items()}

    def __repr__(self) -> str:
        groups = [group.summary() for group in self._param_groups]
        shared = [f"{name}={getattr(self, name)}" for name in self.shared]
        if self._has_many():
            groups = [f"[{summary}]" for summary in groups]
        return f"{type(self).__name__}({', '.join([*groups, *shared])})"


def _add_properties(kind: type[Optimizer]) -> None:
    """Each setting as an attribute."""
    for name in (*kind.settings, *kind.pairs):
        setattr(kind, name, property(_getter(name), _setter(name)))


def _getter(name: str) -> Callable[[Optimizer], Any]:
    return lambda optimizer: optimizer._param_groups[0][name]


def _setter(name: str) -> Callable[[Optimizer, Any], None]:
    def set_for_all(optimizer: Optimizer, value: Any) -> None:
        settings = checked_settings(type(optimizer), {name: value})
        if name == "lr":
            scale_rates(optimizer._param_groups, settings["lr"])
        else:
            for group in optimizer._param_groups:
                group.write(settings)

    return set_for_all


_add_properties(Optimizer)


class CountingOptimizer(Optimizer):
    """An optimizer whose updates depend on how many steps were taken, of each parameter while it was trained."""

    shared: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {"steps": step_counts}

    @property
    def steps(self) -> int:
        """Steps taken: of the parameters that were never frozen, or where there are none, of those that took most.

        It may be set to a number, for all parameters, or to a list of one for each.
        """
        return max(self._counts())

    @steps.setter
    def steps(self, steps: int | list[int]) -> None:
        steps = self._checked_steps(steps)
        if isinstance(steps, list):
            self._counters = [StepCounter(count) for count in steps]
            self._flat = []
        else:
            for counter in dict.fromkeys(self._counters):
                counter.value = steps

    def _counts(self) -> list[int]:
        return [counter.value for counter in self._counters]

    def _checked_steps(self, steps: Any) -> int | list[int]:
        counts = step_counts("steps", steps)
        if isinstance(counts, list) and len(counts) != len(self.parameters):
            raise ValueError(f"`steps` {counts} must be a number, or one for each of {len(self.parameters)} parameters")
        return counts

    def state_dict(self) -> dict[str, Any]:
        """As of every optimizer; "steps" is a list of those of each parameter, where not all took as many."""
        counts = self._counts()
        return super().state_dict() | ({"steps": counts} if len(set(counts)) > 1 else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As of every optimizer."""
        self._checked_steps(state.get("steps", 0))
        super().load_state_dict(state)

    def prepare(self) -> None:
        super().prepare()
        for flat in self._flat:
            flat.steps.array(flat.backend)

    def apply(self) -> None:
        for counter in dict.fromkeys(flat.steps for flat in self._flat if flat.trains):
            counter.increment()
        super().apply()


def for_each_group(name: str, value: Any, optimizer: Optimizer) -> list[float]:
    """``value``, a number that is not negative or a list of one for each of the optimizer's groups, as such a list."""
    groups = len(optimizer.param_groups)
    if isinstance(value, (list, tuple)):
        if len(value) != groups:
            raise ValueError(f"`{name}` {value!r} must be a number, or a list of one for each of {groups} groups")
        return [not_negative(name, one) for one in value]
    return [not_negative(name, value)] * groups


def rates_as_text(optimizer: Optimizer) -> str:
    """The rate, or those of several groups as a list."""
    rates = [group["lr"] for group in optimizer.param_groups]
    return str(rates if len(rates) > 1 else rates[0])
