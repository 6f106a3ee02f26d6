"""Averages of the weights over the steps of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..nn.state import Buffer, matching_arrays
from ..ops.arguments import number

if TYPE_CHECKING:
    from ..nn import Layer

__all__ = ["WeightAverage"]


class WeightAverage:
    """The exponential moving average of each parameter: average = decay average + (1 - decay) value, from the value.

    Polyak and Juditsky 1992, in the form of Tan and Le 2019. Give it to a `TrainingStep`, or call :meth:`update` after
    each step. Buffers, such as the running averages of batch normalisation, stay the model's own.

    Args:
        model: whose parameters; they are copied now.
        decay: 0 to 1.

    Example:
        >>> import numbacnn as nc
        >>> from numbacnn import nn
        >>> with nc.use_backend("reference"):
        ...     model = nn.Linear(1, 1, bias=False)
        >>> model.weight.value = [[1.0]]
        >>> average = WeightAverage(model, decay=0.75)
        >>> model.weight.value = [[3.0]]
        >>> average.update()
        >>> with average.applied():
        ...     print(model.weight.value)
        [[1.5]]
        >>> print(model.weight.value)
        [[3.]]
    """

    def __init__(self, model: Layer, decay: float = 0.999) -> None:
        self.model = model
        self.decay = number("decay", decay, 0, 1)
        self._pairs = [
            (name, parameter, Buffer(parameter.value, parameter.backend))
            for name, parameter in model.named_parameters()
        ]
        self._applied = False

    def __repr__(self) -> str:
        return f"WeightAverage({type(self.model).__name__}, {len(self._pairs)} parameters, decay={self.decay})"

    def update(self) -> None:
        """Take in the values that the parameters have: :meth:`prepare`, then :meth:`apply`."""
        self.prepare()
        self.apply()

    def prepare(self) -> None:
        """What of an update is the host's: follow parameters that moved. RuntimeError inside of :meth:`applied`."""
        if self._applied:
            raise RuntimeError("the averages stand in for the weights: update them outside of `applied`")
        for _, parameter, average in self._pairs:
            average.to(parameter.backend)

    def apply(self) -> None:
        """What of an update is the backend's, after :meth:`prepare`; this may be captured and replayed."""
        for _, parameter, average in self._pairs:
            parameter.backend.update_running_average(average.value, parameter.value, 1 - self.decay, 1.0)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """For the block, the parameters have their averages as values; afterwards, their own again."""
        self.prepare()
        self._swap()
        self._applied = True
        try:
            yield
        finally:
            self._applied = False
            self._swap()

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """The averages as new NumPy arrays, by the parameters' names: what a model's ``load_state_dict`` takes, too."""
        return {name: np.array(average.backend.to_numpy(average.value)) for name, _, average in self._pairs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, to the same bits; ValueError for arrays that do not fit."""
        targets = {name: average for name, _, average in self._pairs}
        arrays, problems = matching_arrays(targets, state)
        problems += [f"missing {name}" for name in targets if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in targets]
        if problems:
            raise ValueError(f"`state` does not fit the average: {'; '.join(problems)}")
        for name, array in arrays.items():
            targets[name].value = array

    def _swap(self) -> None:
        for _, parameter, average in self._pairs:
            average.to(parameter.backend)
            value = parameter.backend.copy(parameter.value)
            parameter.value = average.value
            average.value = value
