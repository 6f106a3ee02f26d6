"""The wire format of Protocol Buffers, read into dataclasses and written from them.

A field of a message class says its number and kind in the published .proto; fields that a class does not have are
skipped. Reading runs nothing, checks each length against the bytes that are left, and goes no deeper than `MOST_DEPTH`.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any, TypeVar

import numpy as np

__all__ = ["MOST_DEPTH", "MalformedError", "decode", "encode", "field"]

MOST_DEPTH = 32
"""Messages within messages: more than any file has that is no attack."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_WIRE = {"int": VARINT, "float": FIXED32, "double": FIXED64, "string": BYTES, "bytes": BYTES}
_NUMPY = {"float": "<f4", "double": "<f8"}
_STRUCT = {"float": struct.Struct("<f"), "double": struct.Struct("<d")}
_LONGEST_VARINT = 10

_M = TypeVar("_M")


class MalformedError(ValueError):
    """The bytes are no such message."""


def field(number: int, kind: Any, repeated: bool = False) -> Any:
    """Field ``number`` of a message: ``kind`` is "int", "float", "double", "string", "bytes" or a message class.

    One that is not there is 0, nothing, or None of a message. Repeated bytes and messages are lists, repeated numbers
    are arrays.
    """
    metadata = {"number": number, "kind": kind, "repeated": repeated}
    if repeated and kind in ("int", *_NUMPY):
        return dataclasses.field(
            default_factory=lambda: np.zeros(0, np.dtype(_NUMPY.get(kind, "<i8"))), metadata=metadata
        )
    if repeated:
        return dataclasses.field(default_factory=list, metadata=metadata)
    default = {"int": 0, "float": 0.0, "double": 0.0, "string": "", "bytes": b""}
    return dataclasses.field(default=default.get(kind) if isinstance(kind, str) else None, metadata=metadata)


def decode(kind: type[_M], data: Any, depth: int = 0) -> _M:
    """The message of class ``kind`` in ``data``, bytes or a memoryview, of which bytes fields are views.

    Raises:
        MalformedError: for what is cut off, has a length beyond its end, or is nested too deep.
    """
    if depth > MOST_DEPTH:
        raise MalformedError(f"messages are nested more than {MOST_DEPTH} deep")
    view = memoryview(data)
    fields = _fields(kind)
    values: dict[str, Any] = {}
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        number, wire = key >> 3, key & 7
        start = at
        if wire == VARINT:
            value, at = _varint(view, at)
        elif wire in (FIXED32, FIXED64):
            at += 4 if wire == FIXED32 else 8
        elif wire == BYTES:
            length, start = _varint(view, at)
            at = start + length
        else:
            raise MalformedError(f"a field has the unknown wire type {wire}")
        if at > len(view):
            raise MalformedError(f"a field of {at - start} bytes begins where only {len(view) - start} are left")
        if number not in fields:
            continue
        name, of, repeated = fields[number]
        if wire == VARINT:
            found: Any = _signed(value)
        elif wire == BYTES:
            found = view[start:at]
        else:
            found = _STRUCT["float" if wire == FIXED32 else "double"].unpack(view[start:at])[0]
        if wire != _WIRE.get(of, BYTES) if isinstance(of, str) else wire != BYTES:
            if not (repeated and wire == BYTES and of in ("int", *_NUMPY)):
                raise MalformedError(f"field {kind.__name__}.{name} has the wire type {wire}, which it cannot have")
            values.setdefault(name, []).append(_packed(of, found))
            continue
        if of == "string":
            found = bytes(found).decode("utf-8", "replace")
        elif not isinstance(of, str):
            found = decode(of, found, depth + 1)
        if repeated:
            values.setdefault(name, []).append(found)
        else:
            values[name] = found
    for name, of, repeated in fields.values():
        if repeated and name in values and of in ("int", *_NUMPY):
            dtype = np.dtype(_NUMPY.get(of, "<i8"))
            values[name] = np.concatenate([np.atleast_1d(np.asarray(part, dtype)) for part in values[name]])
    return kind(**values)


def encode(message: Any) -> bytes:
    """The bytes of a message; what is 0 or empty is left out, but for the field that ``message.chosen`` names."""
    parts: list[Any] = []
    _write(message, parts)
    return b"".join(parts)


def _write(message: Any, parts: list[Any]) -> int:
    """Appends the message's bytes to ``parts``; their number."""
    size, chosen = 0, getattr(message, "chosen", None)
    for number, (name, of, repeated) in _fields(type(message)).items():
        value = getattr(message, name)
        if repeated and of in ("int", *_NUMPY):
            if len(value):
                data = (
                    b"".join(_as_varint(int(one)) for one in value)
                    if of == "int"
                    else np.asarray(value, np.dtype(_NUMPY[of])).tobytes()
                )
                size += _write_bytes(number, data, parts)
            continue
        for one in value if repeated else (value,):
            is_default = one is None or (isinstance(one, (int, float, str, bytes)) and not one)
            if not repeated and is_default and name != chosen:
                continue
            if not isinstance(of, str):
                inner: list[Any] = []
                length = _write(one, inner)
                head = _as_varint(number << 3 | BYTES) + _as_varint(length)
                parts.append(head)
                parts.extend(inner)
                size += len(head) + length
            elif of in ("string", "bytes"):
                size += _write_bytes(number, one.encode() if isinstance(one, str) else one, parts)
            else:
                data = _as_varint(one) if of == "int" else _STRUCT[of].pack(one)
                parts.append(_as_varint(number << 3 | _WIRE[of]) + data)
                size += len(parts[-1])
    return size


def _write_bytes(number: int, data: Any, parts: list[Any]) -> int:
    length = memoryview(data).nbytes
    head = _as_varint(number << 3 | BYTES) + _as_varint(length)
    parts += [head, data]
    return len(head) + length


def _fields(kind: type) -> dict[int, tuple[str, Any, bool]]:
    """By number: name, kind, whether repeated."""
    known = kind.__dict__.get("_by_number")
    if known is None:
        known = {
            one.metadata["number"]: (one.name, one.metadata["kind"], one.metadata["repeated"])
            for one in dataclasses.fields(kind)
        }
        for number, (name, of, repeated) in known.items():
            if of == "self":
                known[number] = (name, kind, repeated)
        kind._by_number = known  # type: ignore[attr-defined]
    return known


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, 0 to 2^64 - 1, and where it ends."""
    value = shift = 0
    for i in range(at, min(at + _LONGEST_VARINT, len(view))):
        byte = view[i]
        value |= (byte & 127) << shift
        if byte < 128:
            if value >= 1 << 64:
                break
            return value, i + 1
        shift += 7
    raise MalformedError("a number does not end, or is longer than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _as_varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    data = bytearray()
    while value >= 128:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def _packed(kind: str, data: memoryview) -> np.ndarray[Any, Any]:
    """The numbers of a field that has them one after the other without their keys."""
    if kind != "int":
        dtype = np.dtype(_NUMPY[kind])
        if len(data) % dtype.itemsize:
            raise MalformedError(f"{len(data)} bytes are no whole number of {kind}s")
        return np.frombuffer(data, dtype)
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 128)
    if len(octets) and (not len(ends) or ends[-1] != len(octets) - 1):
        raise MalformedError("the last of a list of numbers does not end")
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64) if len(ends) else ends
    lengths = ends - starts + 1
    if len(ends) and lengths.max() > _LONGEST_VARINT:
        raise MalformedError("a number is longer than 64 bits")
    values = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        has = np.flatnonzero(lengths > place)
        values[has] |= (octets[starts[has] + place] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * place)
    return values.view(np.int64)
