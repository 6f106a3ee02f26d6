"""What a file of weights holds, before any of its numbers are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LONGEST_TEXT", "Contents", "Entry"]

LONGEST_TEXT = 100_000_000
"""Bytes of metadata, and of the header of a ``.safetensors`` file, as its own package has it."""


class Entry(NamedTuple):
    """An array that has not been read; the dtype of bfloat16 is ``"V2"``."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray[Any, Any]]
    """Gives the array, writable, as long as the file is open."""


class Contents(NamedTuple):
    """The arrays of a file, by name, and the text beside them."""

    entries: Mapping[str, Entry]
    metadata: dict[str, str]
    table: str = ""
    """The name of the table that has the arrays, where it is inside of another."""
