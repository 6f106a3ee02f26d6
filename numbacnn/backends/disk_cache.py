"""Where compiled kernels are kept between processes: one folder for each backend and state of its sources.

What lies there is run, and its framing is unpickled, so nobody else may have written it: a folder is used only where
nobody but its owner, who is this user, can change it or replace it or a folder above it. Each file begins with the
SHA-256 of the rest, so that a damaged one is not run either.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import marshal
import os
import pathlib
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numba.core import config

__all__ = ["definition_digest", "digest", "kernel_folder", "read", "write"]

# Folders that no process used for so long belong to sources that have changed since.
STALE_SECONDS = 30 * 24 * 3600
_FOLDER_NAME = re.compile(r"\.?(cuda|kernels|tuned)-[0-9a-f]{16}(\.\d+)?")


def kernel_folder(prefix: str, packages: Iterable[pathlib.Path], *versions: str) -> pathlib.Path | None:
    """A private writable folder under NUMBA_CACHE_DIR or the user's cache, or None if there can be none.

    Its name covers every source file of ``packages`` and the ``versions`` of what compiles them, so that a kernel is
    never served stale after a change in a helper that it imports; Numba's own key covers one file only. One that others
    can write to is refused with a warning.
    """
    return _folder(prefix, tuple(packages), versions)


@functools.cache
def _folder(prefix: str, packages: tuple[pathlib.Path, ...], versions: tuple[str, ...]) -> pathlib.Path | None:
    name = digest(*(text for package in packages for text in _sources(package)), *versions)
    root = pathlib.Path(config.CACHE_DIR or os.path.join(_user_cache(), "numbacnn"))
    try:
        # What a link leads to is looked at here and never again.
        root = root.resolve()
        for missing in reversed([path for path in (root, *root.parents) if not path.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        folder = root / f"{prefix}-{name}"
        folder.mkdir(mode=0o700, exist_ok=True)
        reason = _distrust(folder)
    except (OSError, RuntimeError):  # nothing can be written, or links go round in a circle
        return None
    if reason is not None:
        _warn(str(root), reason)
        return None
    if not os.access(folder, os.W_OK):
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)
    _remove_stale(root)
    return folder


@functools.cache
def _warn(root: str, reason: str) -> None:
    warnings.warn(
        f"compiled kernels are not kept in {root}, and compiled again by each process: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )


def _sources(package: pathlib.Path) -> Iterator[str]:
    """What the machine code of ``package`` is made of, with all folders in it."""
    compiled = {path for path in package.rglob("*.pyc") if path.parent.name != "__pycache__"}
    paths = sorted({*package.rglob("*.py"), *compiled})
    for path in paths:
        yield f"{path.relative_to(package).as_posix()}\n{hashlib.sha256(path.read_bytes()).hexdigest()}"
    if not paths:  # it is in an archive, or part of the program
        files = [path for path in (package, *package.parents, pathlib.Path(sys.executable or "")) if path.is_file()]
        yield "\n".join(f"{path}\n{path.stat().st_mtime_ns}\n{path.stat().st_size}" for path in files[:1])


def _distrust(folder: pathlib.Path) -> str | None:
    """Why somebody else might have written what is in ``folder``, or could replace it; None if nobody could."""
    if os.name != "posix":  # the user's cache is private by the rules that it inherits
        return None
    user = os.geteuid()
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is no folder of its own"
    if status.st_uid != user:
        return f"{folder} belongs to another user"
    if status.st_mode & 0o022:
        return f"others may write to {folder}"
    for parent in folder.parents:
        status = parent.stat()
        if status.st_uid not in (0, user):
            return f"{parent} belongs to another user"
        # In a sticky folder only its owner and theirs may move what is in it.
        if status.st_mode & stat.S_ISVTX:
            continue
        if status.st_mode & 0o002 or (status.st_mode & 0o020 and not _is_own_group(status.st_gid)):
            return f"others may write to {parent}"
    return None


def _is_own_group(group: int) -> bool:
    """Whether nobody else is in it: many systems give every user a group of the user's name, which may write."""
    try:
        import grp
        import pwd

        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except (ImportError, KeyError):
        return False
    return group == user.pw_gid and found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}


def _remove_stale(root: pathlib.Path) -> None:
    """Remove folders of this package that no process has opened for STALE_SECONDS.

    A process that still runs with one loses nothing but what it would have kept. A folder is first moved aside, in one
    step, so that no other process opens it half removed.
    """
    with contextlib.suppress(OSError):
        for entry in [entry for entry in os.scandir(root) if _FOLDER_NAME.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                is_own = os.name != "posix" or status.st_uid == os.geteuid()
                if not stat.S_ISDIR(status.st_mode) or not is_own or time.time() - status.st_mtime < STALE_SECONDS:
                    continue
                aside = root / f".{entry.name.lstrip('.').partition('.')[0]}.{os.getpid()}"
                os.rename(entry.path, aside)
                shutil.rmtree(aside, ignore_errors=True)


def read(path: pathlib.Path) -> bytes | None:
    """What :func:`write` wrote to ``path``; None where there is nothing, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = hashlib.sha256().digest_size
    return data[start:] if hashlib.sha256(data[start:]).digest() == data[:start] else None


def write(path: pathlib.Path, data: bytes) -> None:
    """Keep ``data`` whole or not at all: another process may read it at any time. Without room, nothing is kept."""
    with contextlib.suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(hashlib.sha256(data).digest() + data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def digest(*texts: str) -> str:
    """Sixteen hexadecimal digits that stand for the texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def definition_digest(definition: Callable[..., Any]) -> str:
    """Of the file that holds a function, which may be outside this package; of its code where there is no file."""
    code = definition.__code__
    try:
        return digest(pathlib.Path(code.co_filename).read_text(encoding="utf-8"))
    except OSError:
        return hashlib.sha256(marshal.dumps(code, 2)).hexdigest()


def _user_cache() -> str:
    if platform.system() == "Windows":
        return os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    if platform.system() == "Darwin":
        return os.path.expanduser("~/Library/Caches")
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
