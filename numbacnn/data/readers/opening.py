"""Opening files that others made: only regular ones, and one error for whatever is wrong in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["DataFileError", "open_regular"]


class DataFileError(ValueError):
    """A file of a data set that is damaged, too large, or not what it must be; the message names it and the rule."""


def open_regular(path: Path) -> BinaryIO:
    """Open the file to read bytes from it, without ever waiting for somebody to write to it.

    Raises:
        DataFileError: it is a named pipe, a device, a socket or a folder.
        OSError: it cannot be opened; FileNotFoundError where there is none.
    """
    try:
        # Without this flag opening a pipe that nobody writes to waits for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        if path.exists() and not path.is_file():  # sockets are never opened, folders not on Windows
            raise _not_regular(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return os.fdopen(descriptor, "rb")


def _not_regular(path: Path) -> DataFileError:
    return DataFileError(f"{str(path)!r} is no regular file; it must be one, not a folder, a pipe or a device")
