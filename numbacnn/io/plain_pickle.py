"""Pickles of plain data, read without running anything that they name.

``pickle.load`` would call whatever a file says. Here a few instructions are known, none of which calls anything. What a
pickle names, a function or a type, is compared with a short list and never looked up; the rest is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Name", "Vocabulary", "of_type", "read_pickle"]

_LENGTHS = {b"U": "B", b"T": "<i", b"X": "<I", b"\x8c": "B", b"B": "<I", b"C": "B", b"\x8e": "<Q", b"\x8d": "<Q"}
"""Instructions for text and bytes, which are bytes alike here, and how their lengths are stored."""
_INTEGERS = {b"K": "B", b"M": "<H", b"J": "<i"}
_CONSTANTS: dict[bytes, Any] = {b"N": None, b"\x88": True, b"\x89": False}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_EMPTY: dict[bytes, type[Any]] = {b"}": dict, b"]": list, b")": tuple, b"\x8f": list}
"""The last is a set, which takes long to fill with what somebody chose for it."""
_PUTS, _GETS = {b"q": "B", b"r": "<I"}, {b"h": "B", b"j": "<I"}
_IGNORED = {b"\x80": 1, b"\x95": 8}
"""The number of the protocol, and the length of a frame: how many bytes to pass over."""
_MOST_INSTRUCTIONS = 1_000_000
"""A tensor takes some 40; each takes up to 64 bytes of memory for one in the file."""
_LONGEST_LINE = 1 << 12
"""Of the name of a module, or of a function in it."""
_LARGEST_KEY = 1 << 31
"""Above it, integers can be chosen such that a table of them takes quadratic time."""


class Name(NamedTuple):
    """A function or type that is named, and never looked up."""

    module: bytes
    name: bytes

    def __str__(self) -> str:
        return b".".join(self).decode("utf-8", "replace")


class Vocabulary:
    """What a pickle may name, and what stands for it then; this one knows no name.

    No method may take longer, or make more, than its arguments were new: a pickle gives the same list again and again.
    """

    names: Container[Name] = ()
    only = "only plain data is read"

    def called(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """In the place of what ``name``, one of ``names``, would make of ``arguments``."""
        raise ValueError(f"its pickle calls {str(name)!r}; {self.only}")

    def built(self, value: Any, state: Any) -> Any:
        """In the place of ``value`` with the attributes in ``state``."""
        raise ValueError(f"its pickle has attributes of {type(value).__name__}; {self.only}")

    def referred(self, key: Any) -> Any:
        """In the place of what is stored elsewhere, under ``key``."""
        raise ValueError(f"its pickle refers to what is not in it; {self.only}")


def read_pickle(file: BinaryIO, size: int, vocabulary: Vocabulary) -> Any:
    """The dictionaries, lists (and sets, as such), tuples, numbers, bytes (and text), and what ``vocabulary`` knows.

    The pickle begins where ``file`` is, which is behind it afterwards, and is at most ``size`` bytes long. Takes as
    much memory as it is long, and some 100 MB at most for what its instructions make.

    Raises:
        ValueError: the pickle is damaged, or holds anything else.
    """
    try:
        return _run(file, size, vocabulary)
    except (IndexError, struct.error, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("its pickle is damaged") from error


def of_type(value: Any, kind: type) -> Any:
    """``value``, if its type is ``kind`` and no other."""
    if type(value) is not kind:
        raise ValueError(f"its pickle is damaged: there is {type(value).__name__} where {kind.__name__} belongs")
    return value


def _run(file: BinaryIO, size: int, vocabulary: Vocabulary) -> Any:
    left = size
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def take(count: int) -> bytes:
        nonlocal left
        found = file.read(count) if 0 <= count <= left else b""
        if len(found) != count:
            raise ValueError("its pickle is cut short")
        left -= count
        return found

    def number(layout: str) -> int:
        return int(struct.unpack(layout, take(struct.calcsize(layout)))[0])

    def line() -> bytes:
        nonlocal left
        found = file.readline(min(left, _LONGEST_LINE))
        if not found.endswith(b"\n"):
            raise ValueError("its pickle is cut short, or has a name that is too long")
        left -= len(found)
        return found[:-1]

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
        elif code == b"G":
            stack.append(struct.unpack(">d", take(8))[0])
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
        elif code in _EMPTY:
            stack.append(_EMPTY[code]())
        elif code == b"t":
            stack.append(tuple(since_mark()))
        elif code in (b"a", b"e", b"\x90"):
            items = [stack.pop()] if code == b"a" else since_mark()
            of_type(stack[-1], list).extend(items)
        elif code in (b"s", b"u"):
            items = [stack.pop(-2), stack.pop()] if code == b"s" else since_mark()
            table = of_type(stack[-1], dict)
            for i in range(0, len(items), 2):
                table[_key(items[i])] = items[i + 1]
        elif code in (b"c", b"\x93"):
            module, text = (line(), line()) if code == b"c" else (stack.pop(-2), stack.pop())
            name = Name(of_type(module, bytes), of_type(text, bytes))
            if name not in vocabulary.names:
                raise ValueError(f"its pickle names {str(name)!r}; {vocabulary.only}")
            stack.append(name)
        elif code == b"R":
            arguments = of_type(stack.pop(), tuple)
            stack.append(vocabulary.called(of_type(stack.pop(), Name), arguments))
        elif code == b"b":
            state = stack.pop()
            stack[-1] = vocabulary.built(stack[-1], state)
        elif code == b"Q":
            stack.append(vocabulary.referred(stack.pop()))
        else:
            raise ValueError(f"its pickle has the instruction 0x{code.hex()}, which is not one for plain data")
    raise ValueError(f"its pickle has more than {_MOST_INSTRUCTIONS} instructions")


def _key(value: Any) -> Any:
    """``value``, if a table may have it for a key: tuples of tuples can take for ever to be compared."""
    if type(value) is int and -_LARGEST_KEY <= value < _LARGEST_KEY:
        return value
    return of_type(value, bytes)
