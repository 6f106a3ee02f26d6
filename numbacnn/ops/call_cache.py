"""Operations that are called again and again with arrays of the same kinds, as a layer does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from .. import backends
from ..backends.capture import generation
from ..backends.observed import Call, is_observed, note, observed
from ..backends.precision import in_force

__all__ = ["CachedCall", "cached", "cached_call"]

_T = TypeVar("_T", bound=Callable[..., Any])

MAX_KINDS = 1024
PLAIN = frozenset((type(None), bool, int, float, str, ModuleType))


class CachedCall(NamedTuple):
    """How an operation on arguments of certain kinds is done again."""

    again: Callable[..., Any]
    places: list[int]
    """Which arguments its arrays are."""
    part: int | None
    """Which of several results is the operation's; None for all there is."""


def cached_call(operation: _T) -> _T:
    """Decorator of an operation whose checks ask for kinds alone, not for numbers in arrays.

    To check its arguments takes longer than the kernel of a small layer. So where an operation came down to one call of
    the backend, whose result it returned, that call is done again for arguments of the same kinds.
    """
    calls: dict[Any, CachedCall] = {}

    @functools.wraps(operation)
    def run(*arguments: Any, **named: Any) -> Any:
        values = (*arguments, *named.values())
        kind = _kind(values, named)
        call = calls.get(kind) if kind is not None else None
        if call is not None:
            arrays = [values[place] for place in call.places]
            found = call.again(arrays)
            if found is not None:
                if is_observed():
                    note(Call(arrays, found, call.again))
                return found if call.part is None else found[call.part]
        if kind is None:
            return operation(*arguments, **named)
        with observed() as made:
            result = operation(*arguments, **named)
        for each in made:
            note(each)
        if len(made) == 1 and made[0] is not None:
            found = cached(made[0], values, result)
            if found is not None:
                if len(calls) >= MAX_KINDS:
                    calls.clear()
                calls[kind] = found
        return result

    return cast(_T, run)


def cached(call: Call, values: tuple[Any, ...], result: Any) -> CachedCall | None:
    """How the arguments ``values`` lead to ``result`` by ``call``; None where that is not told."""
    given = [id(x) for x in values if type(x) is np.ndarray]
    # An array that is two arguments does not tell which of them it was; one that was converted is none of them.
    if len(set(given)) < len(given) or not {id(x) for x in call.arrays} <= set(given):
        return None
    places = [next(i for i, value in enumerate(values) if value is x) for x in call.arrays]
    if result is call.found:
        return CachedCall(call.again, places, None)
    several = call.found if type(call.found) is tuple else ()
    return next((CachedCall(call.again, places, i) for i, each in enumerate(several) if each is result), None)


def _kind(values: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What the checks depend on; None where one of ``values`` does not tell by its type what it is."""
    kinds: list[Any] = [generation(), in_force(), backends.get(named.get("backend")), *named]
    for value in values:
        kind = type(value)
        if kind is np.ndarray:
            kinds.append((value.shape, value.strides, value.dtype, value.flags.aligned))
        elif kind in PLAIN:
            kinds += (kind, value)
        elif kind is tuple:
            of_entries = [type(entry) for entry in value]
            if not PLAIN.issuperset(of_entries):
                return None
            kinds += (kind, value, *of_entries)
        else:
            return None
    return tuple(kinds)
