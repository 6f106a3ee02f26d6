"""Which layers may be captured, and what a captured step stands for.

A capture repeats what was asked of the backend while it was made, so it holds for the settings that layers had then.
Settings are everything that an object's attributes hold but what it saves for backward: whatever a layer calls its
attributes, none of them can be forgotten here. The contents of parameters and buffers are not settings, a launch reads
them anew.
"""

from __future__ import annotations

import functools
import operator
import sys
import types
import warnings
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np

from ..backends import Backend
from .saved import NOT_SAVED, OF_THE_PASS
from .state import State, StepCounter

__all__ = ["ATOMS", "Fingerprint", "NotCaptured", "Snapshot", "fingerprint", "first_refusal", "is_capturable", "warn"]

ATOMS: frozenset[type] = frozenset({int, float, complex, bool, str, bytes, type(None)})
_PACKAGE = __name__.partition(".")[0]


class NotCaptured(Exception):  # noqa: N818
    """A step cannot be captured because of ``part``; the text says why."""

    def __init__(self, part: Any, reason: str) -> None:
        super().__init__(reason)
        self.part = part


class Fingerprint:
    """Settings at one moment: equal ``key``s stand for equal settings while ``kept`` is referred to."""

    def __init__(self) -> None:
        self.key: tuple[Any, ...] = ()
        self.kept: list[Any] = []
        """The objects whose identity is in the key."""
        self._parts: tuple[Any, ...] = ()
        self._held: list[Any] | None = None
        """Keys and values of the dicts, and elements of the sequences, among ``kept``; None: these are not all."""
        self._dicts: list[dict[Any, Any]] = []
        self._sequences: list[Iterable[Any]] = []

    def is_still_of(self, *parts: Any) -> bool:
        """Whether it is seen at a glance that ``fingerprint(*parts)`` has the same key: nothing was put anywhere.

        It is seen in a fraction of the time that a fingerprint takes. Equal values in the place of others are not.
        """
        if self._held is None or len(parts) != len(self._parts) or not all(map(operator.is_, parts, self._parts)):
            return False
        holds = self._holds()
        return len(holds) == len(self._held) and all(map(operator.is_, holds, self._held))

    def _holds(self) -> list[Any]:
        chained = chain.from_iterable
        return [*chained(self._dicts), *chained(map(dict.values, self._dicts)), *chained(self._sequences)]


def fingerprint(*parts: Any) -> Fingerprint:
    """All settings of layers, losses and whatever else has attributes, with those of the objects within.

    >>> from numbacnn import nn, use_backend
    >>> with use_backend("reference"):
    ...     model = nn.Sequential(nn.Dropout(0.5), nn.ReLU())
    >>> before = fingerprint(model)
    >>> before.key == fingerprint(model).key and before.is_still_of(model)
    True
    >>> model[0].p = 0.25
    >>> before.key == fingerprint(model).key or before.is_still_of(model)
    False
    """
    found = Fingerprint()
    found._parts, found._held = parts, []
    key: list[Any] = []
    seen: set[int] = set()
    _add_all(parts, key, found, seen)
    found.key = tuple(key)
    if found._held is not None:
        found._held = found._holds()
    return found


def _add(value: Any, key: list[Any], found: Fingerprint, seen: set[int]) -> None:
    kind = type(value)
    key.append(kind)
    what = _WHAT.get(kind) or _WHAT.setdefault(kind, _what(kind))
    if what == "atom":
        key.append(value)
        return
    if what == "tuple":
        key.append(len(value))
        _add_all(value, key, found, seen)
        return
    key.append(id(value))
    if id(value) in seen:
        return
    seen.add(id(value))
    found.kept.append(value)
    if what == "state":
        # Arrays by where they are: what they hold may change.
        attributes = vars(value)
        found._dicts.append(attributes)
        key += attributes
        key += map(id, attributes.values())
        found.kept += attributes.values()
    elif what == "dict":
        found._dicts.append(value)
        key.append(len(value))
        _add_all(value, key, found, seen)
        _add_all(value.values(), key, found, seen)
    elif what == "sequence":
        found._sequences.append(value)
        key.append(len(value))
        _add_all(value, key, found, seen)
    elif what == "array":
        found._held = None
        key += (value.dtype, value.shape, value.tobytes())
    elif what == "object":
        for name in _slots(cast(Hashable, kind)):
            found._held = None
            if hasattr(value, name):
                key.append(name)
                _add(getattr(value, name), key, found, seen)
        attributes = getattr(value, "__dict__", {})
        if attributes.get("_saved") is not None and attributes["_saved"] is not NOT_SAVED:
            found._held = None  # what a pass saved is not to live longer because of this
        found._dicts.append(attributes)
        settings = dict(attributes)
        for name in OF_THE_PASS:
            settings.pop(name, None)
        if "backend" in settings:
            backend = settings.pop("backend")
            key.append(id(backend))
            found.kept.append(backend)
        key.append(len(settings))
        key += settings
        _add_all(settings.values(), key, found, seen)


def _add_all(values: Iterable[Any], key: list[Any], found: Fingerprint, seen: set[int]) -> None:
    for value in values:
        kind = type(value)
        if kind in ATOMS:
            key += (kind, value)
        else:
            _add(value, key, found, seen)


_WHAT: dict[type, str] = {tuple: "tuple", **dict.fromkeys(ATOMS, "atom")}


def _what(kind: type) -> str:
    """How values of this type are looked at."""
    kinds: dict[str, Any] = {
        "atom": np.generic,
        "state": State,
        "dict": dict,
        "sequence": (list, tuple, set, frozenset, deque),
        "array": np.ndarray,
        "opaque": (type, types.ModuleType, StepCounter),
    }
    for what, bases in kinds.items():
        if issubclass(kind, bases):
            return what
    # Of a device's array a launch reads the contents anew.
    return "opaque" if hasattr(kind, "dtype") and hasattr(kind, "shape") else "object"


@functools.cache
def _slots(kind: Any) -> tuple[str, ...]:
    slots = [vars(base).get("__slots__", ()) for base in kind.__mro__]
    names = [name for found in slots for name in ((found,) if isinstance(found, str) else found)]
    return tuple(name for name in names if not name.startswith("__"))


def is_capturable(part: Any) -> bool:
    """Whether all that a layer, a loss or an optimizer computes is asked of the backend.

    What this package has is; what others have is if its class says so of itself, ``capturable = True``, which is not
    inherited, for a subclass may compute anything. Nothing is whose methods are the object's own.
    """
    kind = type(part)
    return _says_so(kind) and _callables(cast(Hashable, kind)).isdisjoint(vars(part))


@functools.cache
def _callables(kind: Any) -> frozenset[str]:
    return frozenset(name for name in dir(kind) if callable(getattr(kind, name, None)))


def _says_so(kind: Any) -> bool:
    return _is_ours(kind) or vars(kind).get("capturable") is True


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == _PACKAGE


class Snapshot:
    """The settings of parts, layers among others, before a pass."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts
        self._before = fingerprint(*parts)
        self._watched = [*parts, *(part for part in self._before.kept if isinstance(part, State))]
        self._attributes = [dict(vars(part)) for part in self._watched]

    def refusal(self) -> NotCaptured | None:
        """Why the pass cannot be captured, if it has changed a setting: a launch would not."""
        if fingerprint(*self._parts).key == self._before.key:
            return None
        for part, former in zip(self._watched, self._attributes, strict=True):
            changed = [
                f"`{name}`"
                for name in dict.fromkeys([*former, *vars(part)])
                if name not in OF_THE_PASS and former.get(name, part) is not vars(part).get(name, part)
            ]
            if changed and isinstance(part, State):
                return NotCaptured(
                    self._parts[0],
                    f"a pass gives a {type(part).__name__} another array; gradients are set to zero in place by "
                    "`optimizer.zero_grad()`",
                )
            if changed:
                return NotCaptured(part, f"a pass changes {', '.join(changed)} of {type(part).__name__}")
        return NotCaptured(self._parts[0], "a pass changes what an attribute holds")

    def restore(self) -> None:
        """Put all attributes back as they were."""
        for part, former in zip(self._watched, self._attributes, strict=True):
            vars(part).clear()
            vars(part).update(former)


def first_refusal(parts: Iterable[Any]) -> NotCaptured | None:
    """Why a step of these parts may not be captured; None if it may."""
    for part in parts:
        if not is_capturable(part):
            name = type(part).__name__
            if _says_so(type(part)):
                return NotCaptured(part, f"a {name} object has a method of its own")
            return NotCaptured(
                part,
                f"{name} is not a class of numbacnn; if its methods only call layers and ops, and change no attribute "
                "but `saved`, say `capturable = True` in it",
            )
    return None


def warn(refusal: NotCaptured, what: str, backend: Backend) -> None:
    """Say why ``what``, a step or a session, is not captured where the backend could."""
    if backend.asynchronous or backend.capture() is not None:
        warnings.warn(
            f"the {what} runs launch by launch, it is not captured: {refusal}; with `capture=False` this is not said",
            RuntimeWarning,
            stacklevel=_of_the_caller(),
        )


def _of_the_caller() -> int:
    """The stack level, seen from the function that asks, of the code outside of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame, level = frame.f_back, level + 1
    return level
