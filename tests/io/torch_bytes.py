"""Files of `torch.save`, byte by byte, as versions of PyTorch wrote them."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

KINDS = {
    **{"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage"},
    **{"int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage"},
    **{"bool": "BoolStorage", "complex64": "ComplexFloatStorage", "void16": "BFloat16Storage"},
}
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."


def text(value: str, python2: bool = False) -> bytes:
    data = value.encode()
    return b"U" + bytes([len(data)]) + data if python2 else b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if value < 1 << 31 else b"\x8a\x09" + value.to_bytes(9, "little")


def named(name: str) -> bytes:
    module, _, function = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + function.encode() + b"\n"


def row(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def sizes(values: tuple[int, ...]) -> bytes:
    return row(*map(number, values))


def pickled(content: bytes) -> bytes:
    return b"\x80\x02" + content + b"."


def table(entries: Mapping[str, bytes], ordered: bool = True, python2: bool = False) -> bytes:
    """A dictionary: an OrderedDict with the attribute that state dicts have, or a plain one."""
    if python2:
        pairs = b"".join(b"](" + text(key, True) + value + b"e" for key, value in entries.items())
        return named("collections.OrderedDict") + row(b"](" + pairs + b"e") + b"R"
    items = b"(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"
    if not ordered:
        return b"}" + items
    versions = b"}" + text("_metadata") + table({}, ordered=False) + b"s"
    return named("collections.OrderedDict") + b")R" + items + versions + b"b"


@dataclass
class Writer:
    """The pickle of tensors, and the storages that they have, in one of the formats."""

    legacy: bool
    rebuild: str = "_rebuild_tensor_v2"
    python2: bool = False
    order: str = "<"
    storages: dict[str, bytes] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def storage(self, key: str, array: np.ndarray, kind: str | None = None, view: bytes = b"N") -> bytes:
        array = np.asarray(array).reshape(-1)
        self.counts[key] = array.size
        swapped = array.dtype.kind != "V" and self.order == ">"
        self.storages[key] = (array.byteswap() if swapped else array).tobytes()
        name = array.dtype.name if array.dtype.kind != "V" else "void16"
        parts = [text("storage", self.python2), named(f"torch.{kind or KINDS[name]}"), text(key, self.python2)]
        parts += [text("cpu", self.python2), number(array.size)]
        return row(*parts, *([view] if self.legacy else [])) + b"Q"

    def tensor(
        self, storage: bytes, shape: tuple[int, ...], strides: tuple[int, ...] | None = None, offset: int = 0
    ) -> bytes:
        if strides is None:
            strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
        rest = [] if self.rebuild == "_rebuild_tensor" else [b"\x89", named("collections.OrderedDict") + b")R"]
        arguments = row(storage, number(offset), sizes(shape), sizes(strides), *rest)
        return named(f"torch._utils.{self.rebuild}") + arguments + b"R"

    def state(self, arrays: Mapping[str, np.ndarray]) -> bytes:
        """A state dict of contiguous tensors, each with a storage of its own."""
        entries = {
            name: self.tensor(self.storage(str(94_382_716_593_744 + 64 * i if self.legacy else i), array), array.shape)
            for i, (name, array) in enumerate(arrays.items())
        }
        return table(entries, python2=self.python2)


def stream(writer: Writer, content: bytes, little_endian: bool = True) -> bytes:
    """What versions 0.2 to 1.5 wrote, and later ones write if they are asked to."""
    kinds = table({"short": number(2), "int": number(4), "long": number(4)}, ordered=False)
    sizes_of = {"protocol_version": number(1001), "type_sizes": kinds}
    system = table({**sizes_of, "little_endian": b"\x88" if little_endian else b"\x89"}, ordered=False)
    keys = sorted(writer.storages)
    listed = b"](" + b"".join(text(key, writer.python2) for key in keys) + b"e"
    storages = b"".join(struct.pack("<q", writer.counts[key]) + writer.storages[key] for key in keys)
    return MAGIC + PROTOCOL + pickled(system) + pickled(content) + pickled(listed) + storages


def archive(writer: Writer, content: bytes, root: str = "archive", records: Mapping[str, bytes] | None = None) -> bytes:
    """What versions from 1.6 on write, with ``records`` that came later; storages begin at multiples of 64 bytes."""
    buffer = io.BytesIO()
    members = {"data.pkl": pickled(content), **(records or {})}
    members |= {f"data/{key}": data for key, data in writer.storages.items()} | {"version": b"3\n"}
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in members.items():
            info = zipfile.ZipInfo(f"{root}/{name}")
            missing = -(buffer.tell() + 30 + len(info.filename) + 4) % 64
            info.extra = b"FB" + struct.pack("<H", missing) + b"Z" * missing
            made.writestr(info, data)
    return buffer.getvalue()


def in_legacy(version: str) -> Callable[[Mapping[str, np.ndarray]], bytes]:
    def write(arrays: Mapping[str, np.ndarray]) -> bytes:
        writer = Writer(True, "_rebuild_tensor" if version == "0.3" else "_rebuild_tensor_v2", "Python 2" in version)
        return stream(writer, writer.state(arrays), little_endian="big" not in version)

    return write


def in_zip(**records: bytes) -> Callable[[Mapping[str, np.ndarray]], bytes]:
    def write(arrays: Mapping[str, np.ndarray]) -> bytes:
        writer = Writer(False, order=">" if records.get("byteorder") == b"big" else "<")
        named_records = {name.replace("__", "."): data for name, data in records.items()}
        return archive(
            writer, writer.state(arrays), "weights" if "__format_version" in records else "archive", named_records
        )

    return write


FORMATS: dict[str, Callable[[Mapping[str, np.ndarray]], bytes]] = {
    "0.3": in_legacy("0.3"),
    "0.4, Python 2": in_legacy("0.4, Python 2"),
    "1.5": in_legacy("1.5"),
    "1.5, big-endian machine": in_legacy("1.5, big"),
    "1.6": in_zip(),
    "2.1": in_zip(byteorder=b"little"),
    "2.1, big-endian machine": in_zip(byteorder=b"big"),
    "2.13": in_zip(
        byteorder=b"little", __format_version=b"1", __storage_alignment=b"64", **{"__data/serialization_id": b"1" * 40}
    ),
}
