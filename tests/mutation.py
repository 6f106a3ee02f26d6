"""Files that are changed at random: what reads them gives one clear error, soon, or something whole.

A test changes files a few thousand times. ``NUMBACNN_MUTATIONS=2000:100000`` has it make the changes of these numbers
instead; what a number changes does not depend on the others, so that one that fails can be repeated alone.
"""

from __future__ import annotations

import io
import os
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["MOST_BYTES", "changes", "mutated", "peak_bytes", "refusals"]

MUTATIONS = 2000
MOST_BYTES = 100_000_000
MOST_SECONDS = 10.0
TOKENS = (
    *(b"\x80", b"R", b"b", b"Q", b"(", b"t", b"\x85", b"\x86", b"h\x00", b"q\x00", b"]", b"}", b")", b"a", b"e", b"u"),
    *(b"s", b"N", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00" * 8, b"\xff" * 8, b"\xff" * 8 + b"\x7f\x00"),
)
"""Opcodes of pickles, and the largest and smallest numbers in their encodings."""


def changes() -> range:
    """The numbers of the changes that a test makes."""
    first, _, end = os.environ.get("NUMBACNN_MUTATIONS", f"0:{MUTATIONS}").partition(":")
    return range(int(first), int(end))


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """``data`` changed; of most archives a member is, so that the checksums are right."""
    if data.startswith(b"PK") and rng.random() < 0.7:
        return _with_member_changed(data, rng)
    if rng.random() < 0.1:
        return data[: int(rng.integers(len(data)))]
    changed = bytearray(data)
    for _ in range(int(rng.choice((1, 1, 1, 2, 4, 8)))):
        kind, at = rng.integers(6), int(rng.integers(len(changed) or 1))
        token = TOKENS[int(rng.integers(len(TOKENS)))]
        if kind == 0:
            changed[at : at + 1] = rng.integers(0, 256, 1, np.uint8).tobytes()
        elif kind == 1:
            changed[at : at + 1] = bytes(byte ^ (1 << int(rng.integers(8))) for byte in changed[at : at + 1])
        elif kind == 2:
            changed[at : at + (len(token) if rng.random() < 0.5 else 0)] = token
        elif kind == 3:
            changed[at:at] = rng.integers(0, 256, rng.integers(1, 12), np.uint8).tobytes()
        elif kind == 4:
            del changed[at : at + int(rng.integers(1, 9))]
        else:
            changed[at:at] = changed[at : at + int(rng.integers(1, 200))]
    return bytes(changed)


def _with_member_changed(data: bytes, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(buffer, "w") as made:
        names = whole.namelist()
        # What is executed in other programs is changed as often as all else together.
        pickles = [name for name in names if name.endswith(".pkl")]
        chosen = pickles[0] if pickles and rng.random() < 0.5 else names[int(rng.integers(len(names)))]
        for name in names:
            content = whole.read(name)
            made.writestr(name, mutated(content, rng) if name == chosen and content else content)
    return buffer.getvalue()


def refusals(load: Callable[[Path], Any], path: Path, wholes: Sequence[bytes], numbers: range) -> int:
    """How many changes of files make ``load`` raise a ValueError that names the file, the only error that it may raise.

    Change number i is of file i, counted round ``wholes``.
    """
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that became infinite, what was found and where
        for number in numbers:
            path.write_bytes(mutated(wholes[number % len(wholes)], np.random.default_rng(number)))
            began = time.process_time()
            try:
                load(path)
            except ValueError as error:
                refused += 1
                assert str(path) in str(error), number
            except BaseException as error:
                raise AssertionError(f"change {number}: {error!r}") from error
            assert time.process_time() - began < MOST_SECONDS, number
    return refused


def peak_bytes(load: Callable[[Path], Any], path: Path, wholes: Sequence[bytes], numbers: range) -> int:
    """The most memory that was in use at any time of :func:`refusals`."""
    tracemalloc.start()
    try:
        refusals(load, path, wholes, numbers)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
