"""Which layers may be captured, and what a captured step stands for.

A capture repeats what was asked of the backend while it was made, so it holds for the settings that layers had then.
Settings are everything that an object's attributes hold but what it saves for backward: whatever a layer calls its
attributes, none of them can be forgotten here. The contents of parameters and buffers are not settings, a launch reads
them anew.
"""

from __future__ import annotations

import functools
import sys
import types
import warnings
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from ..backends import Backend
from .saved import OF_THE_PASS
from .state import State, StepCounter

__all__ = ["Fingerprint", "NotCaptured", "Snapshot", "fingerprint", "first_refusal", "is_capturable", "warn"]

_ATOMS: frozenset[type] = frozenset({int, float, complex, bool, str, bytes, type(None)})
_PACKAGE = __name__.partition(".")[0]


class NotCaptured(Exception):  # noqa: N818
    """A step cannot be captured because of ``part``; the text says why."""

    def __init__(self, part: Any, reason: str) -> None:
        super().__init__(reason)
        self.part = part


class Fingerprint(NamedTuple):
    """Settings at one moment: equal ``key``s stand for equal settings while ``kept`` is referred to."""

    key: tuple[Any, ...]
    kept: list[Any]
    """The objects whose identity is in the key."""


def fingerprint(*parts: Any) -> Fingerprint:
    """All settings of layers, losses and whatever else has attributes, with those of the objects within.

    >>> from numbacnn import nn, use_backend
    >>> with use_backend("reference"):
    ...     model = nn.Sequential(nn.Dropout(0.5), nn.ReLU())
    >>> before = fingerprint(model)
    >>> before.key == fingerprint(model).key
    True
    >>> model[0].p = 0.25
    >>> before.key == fingerprint(model).key
    False
    """
    found = Fingerprint((), [])
    key: list[Any] = []
    seen: set[int] = set()
    for part in parts:
        _add(part, key, found.kept, seen)
    return found._replace(key=tuple(key))


def _add(value: Any, key: list[Any], kept: list[Any], seen: set[int]) -> None:
    kind = type(value)
    key.append(kind)
    what = _WHAT.get(kind) or _WHAT.setdefault(kind, _what(kind))
    if what == "atom":
        key.append(value)
        return
    if what == "tuple":
        key.append(len(value))
        _add_all(value, key, kept, seen)
        return
    key.append(id(value))
    if id(value) in seen:
        return
    seen.add(id(value))
    kept.append(value)
    if what == "state":
        # Arrays by where they are: what they hold may change.
        attributes = vars(value)
        key += attributes
        key += map(id, attributes.values())
        kept += attributes.values()
    elif what == "dict":
        key.append(len(value))
        _add_all(value, key, kept, seen)
        _add_all(value.values(), key, kept, seen)
    elif what == "sequence":
        key.append(len(value))
        _add_all(value, key, kept, seen)
    elif what == "array":
        key += (value.dtype, value.shape, value.tobytes())
    elif what == "object":
        for name in _slots(cast(Hashable, kind)):
            if hasattr(value, name):
                key.append(name)
                _add(getattr(value, name), key, kept, seen)
        settings = dict(getattr(value, "__dict__", ()))
        for name in OF_THE_PASS:
            settings.pop(name, None)
        if "backend" in settings:
            backend = settings.pop("backend")
            key.append(id(backend))
            kept.append(backend)
        key.append(len(settings))
        key += settings
        _add_all(settings.values(), key, kept, seen)


def _add_all(values: Iterable[Any], key: list[Any], kept: list[Any], seen: set[int]) -> None:
    for value in values:
        kind = type(value)
        if kind in _ATOMS:
            key += (kind, value)
        else:
            _add(value, key, kept, seen)


_WHAT: dict[type, str] = {tuple: "tuple", **dict.fromkeys(_ATOMS, "atom")}


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
        self._attributes = [dict(vars(part)) for part in parts]

    def refusal(self) -> NotCaptured | None:
        """Why the pass cannot be captured, if it has changed a setting: a launch would not."""
        if fingerprint(*self._parts).key == self._before.key:
            return None
        for part, former in zip(self._parts, self._attributes, strict=True):
            changed = [
                f"`{name}`"
                for name in dict.fromkeys([*former, *vars(part)])
                if name not in OF_THE_PASS and former.get(name, part) is not vars(part).get(name, part)
            ]
            if changed:
                return NotCaptured(part, f"a pass changes {', '.join(changed)} of {type(part).__name__}")
        return NotCaptured(self._parts[0], "a pass changes what an attribute holds")

    def restore(self) -> None:
        """Put all attributes back as they were."""
        for part, former in zip(self._parts, self._attributes, strict=True):
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
