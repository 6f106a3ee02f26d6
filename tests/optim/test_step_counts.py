"""Steps that are counted for each parameter, while it is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numbacnn import nn, optim
from numbacnn.backends import Backend

COUNTING: dict[str, Callable[..., optim.Optimizer]] = {
    "adamw": lambda parameters: optim.AdamW(parameters, 0.1, weight_decay=0.1),
    "nadam": lambda parameters: optim.NAdam(parameters, 0.1, weight_decay=0.1),
    "adagrad": lambda parameters: optim.Adagrad(parameters, 0.1, lr_decay=0.1),
}
TRAINED = [(2,), (0, 2), (1, 2), (), (0, 1), (0, 1, 2), (0, 1, 2)]
"""What trains in each step. After the third, two parameters have taken one step each, but not the same."""


def three_parameters() -> list[nn.Parameter]:
    return [nn.Parameter(np.full(4, i + 1.0)) for i in range(3)]


def take_turns(optimizers: list[Any], parameters: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for i, parameter in enumerate(parameters):
            parameter.requires_grad = i in TRAINED[step]
            parameter.grad = np.full(4, 0.5 + step)
        for optimizer in optimizers:
            if step == 2 and "beta1" in optimizer.settings:
                optimizer.beta1 = 0.5
            optimizer.step()


@pytest.mark.parametrize("saved", [3, 5])
@pytest.mark.parametrize("kind", COUNTING)
def test_each_parameter_has_its_own_steps(backend: Backend, kind: str, saved: int) -> None:
    """As with an optimizer for each, to the same bits, and so it is in a state that another optimizer continues."""
    alone, first = three_parameters(), three_parameters()
    take_turns([COUNTING[kind]([parameter]) for parameter in alone], alone, range(len(TRAINED)))
    optimizer = COUNTING[kind](first)
    take_turns([optimizer], first, range(saved))
    state = optimizer.state_dict()
    counts = [sum(i in trained for trained in TRAINED[:saved]) for i in range(3)]
    assert state["steps"] == counts and optimizer.steps == max(counts)
    state |= json.loads(json.dumps({name: value for name, value in state.items() if isinstance(value, (int, list))}))
    second = three_parameters()
    other = COUNTING[kind](second)
    take_turns([other], second, range(5, 7))
    for parameter, former in zip(second, first, strict=True):
        parameter.value = former.value
    other.load_state_dict(state)
    for parameters, one in ((first, optimizer), (second, other)):
        take_turns([one], parameters, range(saved, len(TRAINED)))
        for actual, expected in zip(parameters, alone, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(actual.value), backend.to_numpy(expected.value))


def test_steps_that_cannot_be(backend: Backend) -> None:
    optimizer = optim.Adam(three_parameters())
    optimizer.steps = [3, 1, 1]
    assert (optimizer.steps, optimizer.state_dict()["steps"]) == (3, [3, 1, 1])
    for steps, error in ([1, 2], "one for each of 3 parameters"), ([1, 2, -1], r"`steps\[2\]` -1 must be in 0\.\."):
        with pytest.raises(ValueError, match=error):
            optimizer.steps = steps
        with pytest.raises(ValueError, match=error):
            optimizer.load_state_dict({**optimizer.state_dict(), "steps": steps})
    optimizer.steps = 2
    assert optimizer.state_dict()["steps"] == 2


@pytest.mark.parametrize("kind", COUNTING)
def test_what_is_frozen_and_thawed_between_steps_is_updated_together(backend: Backend, kind: str) -> None:
    parameters = three_parameters()
    optimizer = COUNTING[kind](parameters)
    for frozen, runs in ([], 1), ([0], 2), ([], 2), ([1, 2], 2), ([], 1):
        for i, parameter in enumerate(parameters):
            parameter.requires_grad = i not in frozen
        optimizer.step()
        assert len(optimizer._flat) == runs
