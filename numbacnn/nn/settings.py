"""Attributes of layers and losses that are checked whenever they are set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["OF_THE_WEIGHT", "setting"]

OF_THE_WEIGHT = "for it is in the shape of the weight: a new layer has another"
"""Why a setting is fixed."""


def setting(
    check: Callable[[str, Any], Any], together: Callable[[Any], None] | None = None, fixed: str | None = None
) -> Any:
    """An attribute whose values go through ``check(name, value)``, which returns what is kept or raises.

    ``together(owner)`` checks it beside the other settings when it changes; the constructor calls it for itself. With
    ``fixed``, the reason, the constructor's value stays. An error leaves the former value, and names the owner.
    """
    return _Setting(check, together, fixed)


class _Setting:
    """A data descriptor without ``__get__``: the value lies in the instance, where it is read as any other."""

    def __init__(
        self, check: Callable[[str, Any], Any], together: Callable[[Any], None] | None, fixed: str | None
    ) -> None:
        self._check = check
        self._together = together
        self._fixed = fixed

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, owner: Any, value: Any) -> None:
        values, name = vars(owner), self._name
        if name not in values:
            values[name] = self._check(name, value)
            return
        former = values[name]
        try:
            values[name] = new = self._check(name, value)
            if self._fixed is not None and new != former:
                raise ValueError(f"`{name}` is {former!r} for good, {self._fixed}")
            if self._together is not None:
                self._together(owner)
        except (TypeError, ValueError) as error:
            values[name] = former
            raise type(error)(f"{error}: {owner!r}") from None

    def __repr__(self) -> str:
        return f"<setting {self._name!r}>"
