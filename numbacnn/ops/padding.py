"""The forms in which windows and images are padded, checked and brought into one."""

from __future__ import annotations

from typing import Any, cast

from .arguments import LARGEST_SIZE, both_axes, entries_of, index_of, one_of, pair, shape_of

__all__ = ["line_padding_form", "normalize_padding", "padded_shape", "padding_form", "sides", "transposed_padding"]

PADDING_NAMES = ("valid", "same", "same_lower")
PAD_MODES = ("constant", "reflect", "replicate", "circular")


def normalize_padding(
    padding: Any, kernel_size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Any form of padding as ``((top, bottom), (left, right))``.

    An int, also alone in a tuple, pads all four sides; ``(h, w)`` both sides of each axis;
    ``((top, bottom), (left, right))`` says each side. ``"valid"`` is none. ``"same"`` and ``"same_lower"`` keep the
    image's size, which takes stride 1: they share out ``dilation * (kernel - 1)`` rows, of which an odd one goes after
    (``"same"``, as in PyTorch) or before (``"same_lower"``).

    >>> normalize_padding("same", kernel_size=(4, 3), stride=(1, 1))
    ((1, 2), (1, 1))
    >>> normalize_padding("same_lower", kernel_size=(4, 3), stride=(1, 1))
    ((2, 1), (1, 1))
    """
    if isinstance(padding, str):
        one_of("padding", padding, PADDING_NAMES)
        if padding == "valid":
            return (0, 0), (0, 0)
        if stride != (1, 1):
            raise ValueError(f"`padding` {padding!r} needs `stride` 1, not {stride}")
        return _same_padding(kernel_size[0], dilation[0], padding), _same_padding(kernel_size[1], dilation[1], padding)
    forms = "an int, (h, w), ((top, bottom), (left, right)), 'valid', 'same' or 'same_lower'"
    entries = both_axes(padding)
    if entries is None:
        raise TypeError(f"`padding` {padding!r} must be {forms}")
    if len(entries) != 2:
        raise ValueError(f"`padding` {padding!r} must be {forms}, not {len(entries)} entries")
    try:
        vertical, horizontal = pair("padding", entries[0], 0), pair("padding", entries[1], 0)
    except TypeError:
        raise TypeError(f"`padding` {padding!r} must be {forms}") from None
    except ValueError:
        raise ValueError(f"`padding` {padding!r} must be {forms}, at least 0 everywhere") from None
    return vertical, horizontal


def transposed_padding(name: str, padding: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding of a transposed convolution, which has no words for it, as ``((top, bottom), (left, right))``."""
    if isinstance(padding, str):
        raise ValueError(
            f"`{name}` {padding!r} must be an int, (h, w) or ((top, bottom), (left, right)) of a transposed convolution"
        )
    return normalize_padding(padding, (1, 1), (1, 1))


def padding_form(name: str, padding: Any) -> Any:
    """``padding`` in its shortest form: a word, ``(h, w)`` or ``((top, bottom), (left, right))``.

    >>> padding_form("padding", 2), padding_form("padding", ((1, 1), (0, 2))), padding_form("padding", "same")
    ((2, 2), ((1, 1), (0, 2)), 'same')
    """
    if isinstance(padding, str):
        return one_of(name, padding, PADDING_NAMES)
    (top, bottom), (left, right) = sides = normalize_padding(padding, (1, 1), (1, 1))
    return (top, left) if (top, left) == (bottom, right) else sides


def line_padding_form(name: str, padding: Any) -> Any:
    """The padding of lines (n, c, l) in its shortest form: a word, ``(p,)`` or ``((before, after),)``.

    >>> line_padding_form("padding", 2), line_padding_form("padding", ((1, 2),)), line_padding_form("padding", "same")
    ((2,), ((1, 2),), 'same')
    """
    if isinstance(padding, str):
        return one_of(name, padding, PADDING_NAMES)
    entries = (padding,) if index_of(padding) is not None else entries_of(padding)
    forms = "an int, ((before, after),), 'valid', 'same' or 'same_lower'"
    if entries is None:
        raise TypeError(f"`{name}` {padding!r} must be {forms}")
    if len(entries) != 1:
        raise ValueError(f"`{name}` {padding!r} must be {forms}, not {len(entries)} entries")
    try:
        before, after = pair(name, entries[0], 0)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`{name}` {padding!r} must be {forms}, at least 0") from None
    return (before,) if before == after else ((before, after),)


def sides(name: str, value: Any) -> tuple[int, int, int, int]:
    """``value``, an int for all sides of an image or four in PyTorch's order, left, right, top, bottom; also below 0.

    >>> sides("padding", 1), sides("padding", (1, 2, 0, -3))
    ((1, 1, 1, 1), (1, 2, 0, -3))
    """
    entries = (value,) * 4 if index_of(value) is not None else entries_of(value)
    found = [index_of(entry) for entry in entries or ()]
    if entries is None or None in found:
        raise TypeError(f"`{name}` {value!r} must be an int or four ints (left, right, top, bottom)")
    if len(found) != 4:
        raise ValueError(
            f"`{name}` {value!r} must be an int or four ints (left, right, top, bottom), not {len(found)} entries"
        )
    if max(map(abs, found)) > LARGEST_SIZE:  # type: ignore[arg-type]
        raise ValueError(f"`{name}` {value!r} must be at most {LARGEST_SIZE}")
    left, right, top, bottom = cast(list[int], found)
    return left, right, top, bottom


def padded_shape(x_shape: Any, padding: Any, mode: str = "constant") -> tuple[int, ...]:
    """The shape of the result of :func:`ops.pad2d`, with its errors."""
    n, c, h, w = shape_of("x_shape", x_shape, "n, c, h, w")
    one_of("mode", mode, PAD_MODES)
    left, right, top, bottom = sides("padding", padding)
    for name, size, before, after in (("rows", h, top, bottom), ("columns", w, left, right)):
        shown = f"`padding` {padding!r}"
        rest = size + min(before, 0) + min(after, 0)
        if rest < 1:
            raise ValueError(f"{shown} must leave some of the {size} {name} of `x` {tuple(x_shape)}")
        most = {"reflect": size - 1, "circular": rest}.get(mode)
        if most is not None and max(before, after) > most:
            raise ValueError(
                f"{shown} must be at most {most} for the {size} {name} of `x` {tuple(x_shape)} in mode {mode!r}"
            )
    return n, c, h + top + bottom, w + left + right


def _same_padding(kernel: int, dilation: int, name: str) -> tuple[int, int]:
    total = dilation * (kernel - 1)
    less, more = total // 2, total - total // 2
    return (less, more) if name == "same" else (more, less)
