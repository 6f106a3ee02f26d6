"""Parameters side by side in one array, so that a step is one call of the backend however many there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..backends import Array, Backend
from ..nn.state import Buffer, Parameter, StepCounter
from .parameter_groups import ParameterGroup

__all__ = ["FlatParameters", "flat_groups"]

ALIGNMENT = 32
"""Elements that the start of a parameter is a multiple of: 128 bytes of float32, the width of a GPU's memory access."""


class FlatParameters:
    """Parameters of a group, of one backend and dtype, and what is kept for each, in one flat array of each kind.

    ``decays`` says whether weight decay is for them, ``trains`` whether they are trained or frozen, ``steps`` counts
    the steps that each of them took. What ``numbers`` names is one number for all of them, float64.

    Making it moves them: their arrays become views of ``value``, ``gradient`` and ``state[name]``. What lies between
    two parameters has no gradient and is nobody's.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        state: Sequence[dict[str, Buffer]],
        group: ParameterGroup,
        decays: bool,
        steps: StepCounter,
        numbers: Collection[str] = (),
    ) -> None:
        self.parameters = list(parameters)
        self.group = group
        self.decays = decays
        self.steps = steps
        self.trains = parameters[0].requires_grad
        self.backend: Backend = parameters[0].backend
        starts = np.cumsum([0, *(-(-parameter.size // ALIGNMENT) * ALIGNMENT for parameter in parameters)])
        self._places = [
            (slice(start, start + parameter.size), parameter.shape)
            for start, parameter in zip(starts.tolist(), parameters, strict=False)
        ]
        self._size, self._dtype = int(starts[-1]), parameters[0].dtype

        self.value, self._values = self._zeros()
        self.gradient, self._gradients = self._zeros()
        for parameter, value, gradient in zip(parameters, self._values, self._gradients, strict=True):
            parameter.place(value)
            parameter.place_grad(gradient)
        self.state: dict[str, Array] = {}
        for name in state[0]:
            if name in numbers:
                self.state[name] = self.backend.zeros((), np.float64)
                places = [self.state[name]] * len(state)
            else:
                self.state[name], places = self._zeros()
            for buffers, place in zip(state, places, strict=True):
                buffers[name].place(place)
        self.settings: Array = None
        """The numbers that :meth:`write_settings` was last given, float64."""
        self._written: tuple[float, ...] | None = None

    def places(self) -> list[tuple[slice, Parameter]]:
        """Where each parameter is in the flat arrays."""
        return [(place, parameter) for (place, _), parameter in zip(self._places, self.parameters, strict=True)]

    def setting(self, name: str) -> Any:
        """That of the group; the weight decay of what does not decay is 0."""
        return 0.0 if name == "weight_decay" and not self.decays else self.group[name]

    def is_in_place(self) -> bool:
        """Whether all parameters still are where they were put, and none was frozen or is trained again."""
        return all(
            parameter.value is value and parameter.requires_grad is self.trains
            for parameter, value in zip(self.parameters, self._values, strict=True)
        )

    def collect_gradients(self) -> bool:
        """Whether gradients had gone elsewhere: then all are side by side again, in a new array.

        ``Parameter.zero_grad`` starts a new array, and whoever has read the one before may keep it.
        """
        if all(p.grad is gradient for p, gradient in zip(self.parameters, self._gradients, strict=True)):
            return False
        self.gradient, self._gradients = self._zeros()
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.place_grad(gradient)
        return True

    def write_settings(self, settings: Sequence[float]) -> None:
        """Make ``settings`` hold these numbers, as many as before; nothing is written that is there already."""
        numbers = tuple(map(float, settings))
        if numbers != self._written:
            array = self.backend.asarray(np.array(numbers, np.float64))
            if self.settings is None:
                self.settings = array
            else:
                self.backend.assign(self.settings, array)
            self._written = numbers

    def _zeros(self) -> tuple[Array, list[Array]]:
        """A flat array and the parameters' places in it."""
        flat = self.backend.zeros((self._size,), self._dtype)
        return flat, [flat[place].reshape(shape) for place, shape in self._places]


def flat_groups(
    groups: Sequence[ParameterGroup],
    state: Sequence[dict[str, Buffer]],
    decays: Sequence[bool],
    counters: list[StepCounter],
    numbers: Collection[str] = (),
) -> list[FlatParameters]:
    """Put parameters and what is kept for each side by side: those that one update is for.

    They are alike in group, backend, dtype, whether they decay and train, how many steps they took, and in ``numbers``.
    ``state``, ``decays`` and ``counters`` are of the parameters of all groups, one group after the other. The counters
    make room for new ones, which all share that are on one backend, train or do not, and took as many steps.
    """
    members: dict[tuple[Any, ...], list[int]] = {}
    parameters: list[Parameter] = []
    shared: dict[tuple[str, bool, int], StepCounter] = {}
    for number, group in enumerate(groups):
        for parameter in group["params"]:
            i = len(parameters)
            parameters.append(parameter)
            for buffer in state[i].values():
                buffer.to(parameter.backend)
            name, trains, steps = parameter.backend.name, parameter.requires_grad, counters[i].value
            counters[i] = shared.setdefault((name, trains, steps), StepCounter(steps))
            own = [float(parameter.backend.to_numpy(state[i][key].value)) for key in numbers]
            key = (number, name, parameter.dtype, decays[i], trains, steps, *own)
            members.setdefault(key, []).append(i)
    return [
        FlatParameters(
            [parameters[i] for i in places],
            [state[i] for i in places],
            groups[number],
            decays[places[0]],
            counters[places[0]],
            numbers,
        )
        for (number, *_), places in members.items()
    ]
