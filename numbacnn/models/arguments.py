"""The arguments that the architectures share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ..ops.arguments import integer, one_of

__all__ = ["chosen", "divided", "layout_defaults", "rounded"]

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


def divided(width_divisor: int, *channels: int, name: str = "width_divisor") -> tuple[int, ...]:
    """Each of ``channels`` divided by ``width_divisor``, or the argument ``name``, which must divide it.

    >>> divided(4, 64, 128)
    (16, 32)
    """
    divisor = integer(name, width_divisor, 1)
    for number in channels:
        if number % divisor:
            raise ValueError(f"`{name}` {divisor} must divide the number of channels, here {number}")
    return tuple(number // divisor for number in channels)


def rounded(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` that is nearest to ``channels``, or the one above where that is 10 % less.

    That is how MobileNets are made wider and narrower.

    >>> rounded(16 * 0.75), rounded(24 * 1.4), rounded(32 * 0.35)
    (16, 32, 16)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


def chosen(name: str, value: Any, table: Mapping[Any, _T]) -> _T:
    """What ``table`` has for ``value``, the argument ``name``; ValueError with all keys if it has nothing.

    >>> chosen("depth", 11, {11: "small", 19: "large"})
    'small'
    """
    if value not in table:
        raise ValueError(f"`{name}` {value!r} must be one of {', '.join(map(repr, table))}")
    return table[value]
