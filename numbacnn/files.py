"""Paths as users write them, and writing a file so that its name always stands for a whole one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["replacing", "user_path"]

_NOT_SYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF}
"""What file systems answer that do not synchronise a folder, or a file, or let nobody open a folder to ask for it."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """``path`` with ``~`` and ``~name`` as the home folder that they stand for.

    >>> user_path("~") == Path.home()
    True
    """
    return Path(path).expanduser()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty file beside ``path`` to write to; at the end of the block it takes the place of ``path``.

    Whenever the process is killed or the power fails, ``path`` is the former file or the new one, whole (on a file
    system that can promise it). After an exception in the block it is the former one. A kill may leave the temporary
    file, ``.NAME.*.tmp``, behind. ``~`` in ``path`` is the home folder.

    Raises:
        FileNotFoundError: the folder of ``path`` does not exist.
        OSError: the file cannot be written; the error names ``path``, and the cause.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "note.txt")
        ...     with replacing(path) as temporary:
        ...         _ = temporary.write_text("whole")
        ...     path.read_text(), len(list(path.parent.iterdir()))
        ('whole', 1)
    """
    path = user_path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}")
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        # Made here and only if nothing has the name, so that nobody can have put a link there. Not by mkstemp, whose
        # files only their owner may read.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            # The data must be on the disk before the name is, or a power failure could leave the name with an empty
            # file.
            with open(temporary, "r+b") as file:
                _sync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary), temporary):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)
