"""Pickles of plain data, read without running anything that they name.

CIFAR-10's Python version is pickled dictionaries of text, numbers, lists and NumPy arrays. ``pickle.load`` would call
whatever a file says; here a few instructions are known, none of which calls anything, and the rest is refused.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np

__all__ = ["read_pickle"]

_LENGTHS = {b"U": "B", b"T": "<i", b"X": "<I", b"\x8c": "B", b"B": "<I", b"C": "B", b"\x8e": "<Q", b"\x8d": "<Q"}
"""Instructions for text and bytes, which are bytes alike here, and how their lengths are stored."""
_INTEGERS = {b"K": "B", b"M": "<H", b"J": "<i"}
_CONSTANTS: dict[bytes, Any] = {b"N": None, b"\x88": True, b"\x89": False}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_PUTS, _GETS = {b"q": "B", b"r": "<I"}, {b"h": "B", b"j": "<I"}
_IGNORED = {b"\x80": 1, b"\x95": 8}
"""The number of the protocol, and the length of a frame: how many bytes to pass over."""
_MOST_INSTRUCTIONS = 1_000_000
"""Of a batch of 10,000 images there are some 30,000; each takes up to 64 bytes of memory for one in the file."""

_ARRAY = {(b"numpy.core.multiarray", b"_reconstruct"), (b"numpy._core.multiarray", b"_reconstruct")}
_NAMES = {*_ARRAY, (b"numpy", b"ndarray"), (b"numpy", b"dtype")}


class _Name(NamedTuple):
    """A function or type that is named, and never looked up."""

    module: bytes
    name: bytes


class _Made(NamedTuple):
    """What such a function would make of its arguments."""

    by: _Name
    arguments: tuple[Any, ...]


def read_pickle(data: bytes) -> Any:
    """The dictionaries, lists, tuples, numbers, bytes (text is bytes, too) and uint8 arrays in a pickle.

    Takes as much memory as ``data``, and some 100 MB at most for what its instructions make.

    Raises:
        ValueError: the pickle is damaged, or holds anything else.
    """
    try:
        return _run(data)
    except (IndexError, struct.error, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("its pickle is damaged") from error


def _run(data: bytes) -> Any:
    position = 0
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def take(count: int) -> bytes:
        nonlocal position
        if not 0 <= count <= len(data) - position:
            raise ValueError("its pickle is cut short")
        position += count
        return data[position - count : position]

    def number(layout: str) -> int:
        return int(struct.unpack(layout, take(struct.calcsize(layout)))[0])

    def line() -> bytes:
        return take(data.find(b"\n", position) + 1 - position)[:-1]

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for _ in range(_MOST_INSTRUCTIONS):
        code = take(1)
        if code == b".":
            return stack[-1]
        if code in _LENGTHS:
            stack.append(take(number(_LENGTHS[code])))
        elif code in _INTEGERS:
            stack.append(number(_INTEGERS[code]))
        elif code == b"\x8a":
            stack.append(int.from_bytes(take(number("B")), "little", signed=True))
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _TUPLES:
            items = stack[-_TUPLES[code] :]
            del stack[-_TUPLES[code] :]
            stack.append(tuple(items))
        elif code in _PUTS:
            memo[number(_PUTS[code])] = stack[-1]
        elif code == b"\x94":
            memo[len(memo)] = stack[-1]
        elif code in _GETS:
            stack.append(memo[number(_GETS[code])])
        elif code in _IGNORED:
            take(_IGNORED[code])
        elif code == b"(":
            marks.append(len(stack))
        elif code in (b"}", b"]", b")"):
            stack.append({b"}": dict, b"]": list, b")": tuple}[code]())
        elif code == b"t":
            stack.append(tuple(since_mark()))
        elif code in (b"a", b"e"):
            items = [stack.pop()] if code == b"a" else since_mark()
            _of_type(stack[-1], list).extend(items)
        elif code in (b"s", b"u"):
            items = [stack.pop(-2), stack.pop()] if code == b"s" else since_mark()
            for i in range(0, len(items), 2):
                _of_type(stack[-1], dict)[_of_type(items[i], bytes)] = items[i + 1]
        elif code in (b"c", b"\x93"):
            module, name = (line(), line()) if code == b"c" else (stack.pop(-2), stack.pop())
            name = _Name(_of_type(module, bytes), _of_type(name, bytes))
            if name not in _NAMES:
                raise ValueError(f"its pickle names {_shown(name)}; only arrays of NumPy are read")
            stack.append(name)
        elif code == b"R":
            arguments = _of_type(stack.pop(), tuple)
            stack.append(_Made(_of_type(stack.pop(), _Name), arguments))
        elif code == b"b":
            state = stack.pop()
            stack[-1] = _built(_of_type(stack[-1], _Made), state)
        else:
            raise ValueError(f"its pickle has the instruction 0x{code.hex()}, which is not one for plain data")
    raise ValueError(f"its pickle has more than {_MOST_INSTRUCTIONS} instructions")


def _of_type(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"its pickle is damaged: there is {type(value).__name__} where {kind.__name__} belongs")
    return value


def _shown(name: _Name) -> str:
    return repr(b".".join(name).decode("utf-8", "replace"))


def _built(made: _Made, state: Any) -> Any:
    """The array with this state; ``made`` itself where that is a dtype, whose state is of no account for bytes."""
    if made.by not in _ARRAY:
        return made
    _, shape, dtype, fortran, content = state
    if dtype.by != (b"numpy", b"dtype") or dtype.arguments[0] != b"u1":
        raise ValueError("its pickle has an array that is not of uint8")
    array = np.frombuffer(_of_type(content, bytes), np.uint8)
    if any(type(size) is not int or size < 0 for size in shape) or math.prod(shape) != array.size:
        raise ValueError("its pickle is damaged: an array has another shape than elements")
    return array.reshape(shape, order="F" if fortran else "C")
