"""The arguments that the architectures share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ..ops.arguments import integer, one_of

__all__ = ["chosen", "divided", "layout_defaults"]

_T = TypeVar("_T")

_DEFAULTS = {"book": (1, 10), "torchvision": (3, 1000)}


def layout_defaults(layout: str, in_channels: int | None, num_classes: int | None) -> tuple[int, int]:
    """``in_channels`` and ``num_classes``, for None those of the layout: 1 and 10, or torchvision's 3 and 1000.

    >>> layout_defaults("book", 3, None)
    (3, 10)
    """
    channels, classes = _DEFAULTS[one_of("layout", layout, _DEFAULTS)]
    return (
        channels if in_channels is None else integer("in_channels", in_channels, 1),
        classes if num_classes is None else integer("num_classes", num_classes, 1),
    )


def divided(width_divisor: int, *channels: int) -> tuple[int, ...]:
    """Each of ``channels`` divided by ``width_divisor``, which must divide it.

    >>> divided(4, 64, 128)
    (16, 32)
    """
    divisor = integer("width_divisor", width_divisor, 1)
    for number in channels:
        if number % divisor:
            raise ValueError(f"`width_divisor` {divisor} must divide the number of channels, here {number}")
    return tuple(number // divisor for number in channels)


def chosen(name: str, value: Any, table: Mapping[Any, _T]) -> _T:
    """What ``table`` has for ``value``, the argument ``name``; ValueError with all keys if it has nothing.

    >>> chosen("depth", 11, {11: "small", 19: "large"})
    'small'
    """
    if value not in table:
        raise ValueError(f"`{name}` {value!r} must be one of {', '.join(map(repr, table))}")
    return table[value]
