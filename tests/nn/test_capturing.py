"""What is seen of a change of settings, in whatever a layer keeps them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numbacnn import nn
from numbacnn.nn.capturing import fingerprint


class Slotted:
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Keeper(nn.Identity):
    """Keeps settings in all kinds of containers."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.5
        self.names = {"a": [1, 2], "b": (3, [4])}
        self.last = deque([1, 2])
        self.marks = {1, 2}
        self.within = nn.Dropout(0.5)
        self.weight = nn.Parameter([1.0, 2.0])


def renamed(keeper: Any) -> None:
    keeper.speed = vars(keeper).pop("rate")


CHANGES: dict[str, Callable[[Any], object]] = {
    "an attribute": lambda keeper: setattr(keeper, "rate", 0.25),
    "another type": lambda keeper: setattr(keeper, "rate", np.float64(0.5)),
    "a new attribute": lambda keeper: setattr(keeper, "other", 1),
    "an attribute less": lambda keeper: delattr(keeper, "rate"),
    "another name": renamed,
    "a list in a dict": lambda keeper: keeper.names["a"].append(3),
    "a list in a tuple": lambda keeper: keeper.names["b"][1].clear(),
    "an item of a dict": lambda keeper: keeper.names.update(a=[1, 2]),
    "a deque": lambda keeper: keeper.last.rotate(),
    "a set": lambda keeper: keeper.marks.add(3),
    "a layer within": lambda keeper: setattr(keeper.within, "p", 0.25),
    "another layer": lambda keeper: setattr(keeper, "within", nn.Dropout(0.5)),
    "another gradient": lambda keeper: keeper.weight.zero_grad(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_seen(change: Callable[[Any], object]) -> None:
    keeper = Keeper()
    before = fingerprint(keeper)
    assert before.is_still_of(keeper) and before.key == fingerprint(keeper).key
    change(keeper)
    assert not before.is_still_of(keeper) and before.key != fingerprint(keeper).key


def test_equal_values_are_compared_at_length() -> None:
    keeper = Keeper()
    before = fingerprint(keeper, 1)
    keeper.rate = float("0.5")
    assert not before.is_still_of(keeper, 1) and before.key == fingerprint(keeper, 1).key
    keeper.forward(np.ones(2))
    assert before.key == fingerprint(keeper, 1).key
    assert not before.is_still_of(keeper) and not before.is_still_of(keeper, 2)


@pytest.mark.parametrize(
    ("held", "change"),
    [
        (np.ones(3), lambda held: held.fill(2)),
        (Slotted(1), lambda held: setattr(held, "number", 2)),
    ],
)
def test_what_a_glance_does_not_show(held: Any, change: Callable[[Any], object]) -> None:
    keeper = Keeper()
    keeper.held = held
    before = fingerprint(keeper)
    assert not before.is_still_of(keeper) and before.key == fingerprint(keeper).key
    change(held)
    assert before.key != fingerprint(keeper).key


def test_what_a_pass_saved_is_not_kept() -> None:
    layer = nn.ReLU()
    y = layer.forward(np.ones((2, 3), np.float32))
    before = sys.getrefcount(layer._saved)
    found = fingerprint(layer)
    after = sys.getrefcount(layer._saved)
    assert after == before and not found.is_still_of(layer)
    layer.eval().forward(y)
    assert fingerprint(layer).is_still_of(layer)
