"""What all optimizers share: their parameters, their settings, the arrays they keep for each, and saving them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from ..backends import Array, Backend
from ..nn.state import Buffer, Parameter, matching_arrays
from ..ops.arguments import number
from .decay import which_decay
from .flat_parameters import FlatParameters, flat_groups

__all__ = ["Optimizer", "below_one", "not_negative"]


def not_negative(name: str, value: Any) -> float:
    """A finite number, 0 or more."""
    return number(name, value, 0)


def below_one(name: str, value: Any) -> float:
    """A number, 0 or more and less than 1."""
    result = number(name, value, 0)
    if result >= 1:
        raise ValueError(f"`{name}` {value!r} must be at least 0 and less than 1")
    return result


class Optimizer:
    """Changes ``parameters`` (a list of Parameter or of (name, Parameter)) by their gradients, once per :meth:`step`.

    The parameters move into one array, where they are updated together (``flat_parameters.py``): read ``value`` and
    ``grad`` of a Parameter anew after an optimizer was made for it. A parameter is at home in one optimizer, the last
    that used it.

    ``no_decay`` are those of the parameters that ``weight_decay`` leaves alone, none by default; most often
    `norms_and_biases`. An empty list of parameters is a ValueError, and so is one in ``no_decay`` that is not among
    them.

    A subclass lists its settings and the arrays that it keeps for each parameter, and defines ``_numbers`` and
    ``_update``. Its settings are attributes that may be changed between steps; values out of range, or that are no
    numbers, are a ValueError or TypeError there as well, and the setting stays.
    """

    settings: ClassVar[dict[str, Callable[[str, Any], Any]]] = {"lr": not_negative}
    """Name -> what checks a value and returns it."""

    lr: float
    """Learning rate, 0 or more."""

    def __init__(
        self,
        parameters: Iterable[Parameter | tuple[str, Parameter]],
        no_decay: Iterable[Parameter] = (),
        **settings: Any,
    ) -> None:
        if isinstance(parameters, Parameter):
            raise TypeError("`parameters` is a single Parameter, must be a list")
        self.parameters: list[Parameter] = []
        for i, entry in enumerate(parameters):
            parameter = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
            if not isinstance(parameter, Parameter):
                raise TypeError(f"`parameters`[{i}] of type {type(parameter).__name__} must be a Parameter")
            if any(parameter is other for other in self.parameters):
                raise ValueError(f"`parameters`[{i}] is in the list twice")
            self.parameters.append(parameter)
        if not self.parameters:
            raise ValueError("`parameters` is empty: there is nothing to train")
        self._decays = which_decay(self.parameters, no_decay)
        for name, value in settings.items():
            setattr(self, name, value)
        self.version = 0
        """Grows when :meth:`apply` becomes another computation: its arrays are others, or a choice has changed."""
        self._choices: tuple[Any, ...] = ()
        self._groups: list[FlatParameters] = []
        self._state = self._from_zeros()
        self._settle()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, self.settings[name](name, value) if name in self.settings else value)

    def __getstate__(self) -> dict[str, Any]:
        # Copies of views would be arrays of their own.
        return {**vars(self), "_groups": []}

    def step(self) -> None:
        """Change every parameter by its gradient: :meth:`prepare`, then :meth:`apply`."""
        self.prepare()
        self.apply()

    def prepare(self) -> None:
        """What of a step is the host's: see that parameters and gradients are in their places, write settings down."""
        self._settle()
        for group in self._groups:
            group.write_settings(self._numbers(group))
        if self._choices != self._chosen():
            self._choices = self._chosen()
            self.version += 1

    def apply(self) -> None:
        """What of a step is the backend's, after :meth:`prepare`; this may be captured and replayed."""
        for group in self._groups:
            self._update(group)

    def zero_grad(self) -> None:
        """Set all gradients to zero, in place: an array read from ``grad`` before becomes zero too."""
        self._settle()
        for group in self._groups:
            group.backend.fill_zero(group.gradient)

    def flat_gradients(self) -> list[tuple[Backend, Array]]:
        """All gradients, side by side in flat arrays, each with its backend; what is changed there is changed."""
        self._settle()
        return [(group.backend, group.gradient) for group in self._groups]

    def _settle(self) -> None:
        if not self._groups or not all(group.is_in_place() for group in self._groups):
            self._groups = flat_groups(self.parameters, self._state, self._decays)
            self.version += 1
        if any([group.collect_gradients() for group in self._groups]):
            self.version += 1

    def _from_zeros(self) -> list[dict[str, Buffer]]:
        return [
            {name: Buffer(np.zeros(parameter.shape, parameter.dtype), parameter.backend) for name in self._arrays()}
            for parameter in self.parameters
        ]

    def _arrays(self) -> tuple[str, ...]:
        """The names of the arrays that are kept for each parameter, of its shape, from zeros."""
        return ()

    def _numbers(self, group: FlatParameters) -> tuple[float, ...]:
        """The settings that ``_update`` finds in ``group.settings``."""
        return (self.lr,)

    def _chosen(self) -> tuple[Any, ...]:
        """The settings that ``_update`` depends on otherwise."""
        return ()

    def _update(self, group: FlatParameters) -> None:
        """Change the parameters ``group.value`` by ``group.gradient``, and in place the arrays ``group.state``."""
        raise NotImplementedError(f"{type(self).__name__} must define `_update`")

    def state_dict(self) -> dict[str, Any]:
        """One flat dict: the settings and, as new arrays "0.velocity", ..., what is kept for each parameter."""
        state: dict[str, Any] = {name: getattr(self, name) for name in self.settings}
        for name, buffer in self._named_buffers().items():
            state[name] = np.array(buffer.backend.to_numpy(buffer.value))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, to the same bits.

        Everything is checked before anything is changed: ValueError or TypeError for settings out of range, and for
        arrays that are missing, unexpected, of another shape or no numbers.
        """
        targets = self._named_buffers()
        arrays, problems = matching_arrays(targets, state)
        problems += [f"missing {name}" for name in (*self.settings, *targets) if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in self.settings and name not in targets]
        if problems:
            raise ValueError(f"`state` does not fit {type(self).__name__}: {'; '.join(problems)}")
        settings = {name: check(name, state[name]) for name, check in self.settings.items()}
        for name, value in settings.items():
            setattr(self, name, value)
        for name, array in arrays.items():
            targets[name].value = array

    def _named_buffers(self) -> dict[str, Buffer]:
        return {f"{i}.{name}": buffer for i, arrays in enumerate(self._state) for name, buffer in arrays.items()}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in self.settings)
        return f"{type(self).__name__}({len(self.parameters)} parameters, {settings})"
