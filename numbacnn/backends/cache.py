"""Where compiled kernels are kept between processes: one folder for each backend and state of its sources."""

from __future__ import annotations

import functools
import hashlib
import marshal
import os
import pathlib
import platform
from collections.abc import Callable, Iterable
from typing import Any

from numba.core import config

__all__ = ["definition_digest", "digest", "kernel_folder"]


def kernel_folder(prefix: str, packages: Iterable[pathlib.Path], *versions: str) -> pathlib.Path | None:
    """A writable folder under NUMBA_CACHE_DIR or the user's cache, or None if nothing can be written there.

    Its name covers every source file of ``packages`` and the ``versions`` of what compiles them, so that a kernel is
    never served stale after a change in a helper that it imports; Numba's own key covers one file only.
    """
    return _folder(prefix, tuple(packages), versions)


@functools.cache
def _folder(prefix: str, packages: tuple[pathlib.Path, ...], versions: tuple[str, ...]) -> pathlib.Path | None:
    sources = sorted(path for package in packages for path in package.glob("*.py"))
    name = digest(*(f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in sources), *versions)
    root = config.CACHE_DIR or os.path.join(_user_cache(), "numbacnn")
    folder = pathlib.Path(root) / f"{prefix}-{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def digest(*texts: str) -> str:
    """Sixteen hexadecimal digits that stand for the texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def definition_digest(definition: Callable[..., Any]) -> str:
    """Of the file that holds a function, which may be outside this package; of its code where there is no file."""
    code = definition.__code__
    try:
        return digest(pathlib.Path(code.co_filename).read_text(encoding="utf-8"))
    except OSError:
        return hashlib.sha256(marshal.dumps(code)).hexdigest()


def _user_cache() -> str:
    if platform.system() == "Windows":
        return os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    if platform.system() == "Darwin":
        return os.path.expanduser("~/Library/Caches")
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
