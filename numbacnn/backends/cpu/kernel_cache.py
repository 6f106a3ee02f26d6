"""Machine code of kernels on disk: what Numba compiled, in a file for each kernel and the types of its arguments.

A file of its own, not one index for all types: two processes that compile the same kernel for different types at the
same time would otherwise overwrite each other's entries.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pickle
import platform
import re
from collections.abc import Callable
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import caching, serialize
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target

from .. import cache

__all__ = ["Stamp", "attach_cache", "cache_folder", "is_kept", "keep", "stamp_of"]

Stamp = tuple[int, int] | None
"""The date and the size of the file that holds a function, by which a change is known; None where there is no file."""


def cache_folder() -> pathlib.Path | None:
    """Where compiled kernels are kept; None if nothing can be written there, or others could."""
    here = pathlib.Path(__file__).parent
    processor = cpu_target.target_context.codegen().magic_tuple()
    versions = numba.__version__, llvmlite.__version__, platform.python_version(), np.__version__
    return cache.kernel_folder("kernels", (here, here.parent / "shared"), *versions, repr(processor))


def attach_cache(compiled: Any, name: str) -> Any:
    """Give a Numba function a file in that folder, named ``name``; without a folder it stays uncached."""
    folder = cache_folder()
    if folder is not None:
        compiled._cache = _File(folder / f"{name}.code")
    return compiled


def stamp_of(definition: Callable[..., None]) -> Stamp:
    """Of the file that holds ``definition``, as it is now."""
    try:
        status = os.stat(definition.__code__.co_filename)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def keep(compiled: Any, definition: Callable[..., None], variant: str, stamp: Stamp) -> None:
    """Give what is compiled of ``definition`` for the types ``variant`` its file, if a name tells it from others."""
    name = _name(definition, variant, stamp)
    if name is not None:
        attach_cache(compiled, name)


def is_kept(definition: Callable[..., None], variant: str, stamp: Stamp) -> bool:
    """Whether there is a file for ``definition``, compiled for the types ``variant``."""
    folder, name = cache_folder(), _name(definition, variant, stamp)
    return folder is not None and name is not None and (folder / f"{name}.code").exists()


def _name(definition: Callable[..., None], variant: str, stamp: Stamp) -> str | None:
    """None for what is no longer in the file that it came from, of which ``stamp`` was taken when it was declared."""
    if stamp != stamp_of(definition):
        return None
    enclosed = [cell.cell_contents for cell in definition.__closure__ or ()]
    if not all(isinstance(value, (bool, int, float, str, type(None), np.dtype)) for value in enclosed):
        return None
    readable = re.sub(r"[^\w.]", "", f"{definition.__module__}.{definition.__qualname__}")
    return f"{readable}-{cache.digest(variant, repr(enclosed), cache.definition_digest(definition))}"


class _File(caching.NullCache):
    """What Numba asks for compiled code; a damaged or unwritable file means compiling again, never an error."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    @property
    def cache_path(self) -> str:
        return str(self._path.parent)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        target_context.refresh()
        data = cache.read(self._path)
        if data is None:
            return None
        with contextlib.suppress(Exception):  # whatever is raised by a pickle of what has changed since
            return CompileResult._rebuild(target_context, *pickle.loads(data))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not data.lifted and not data.library.has_dynamic_globals:
            cache.write(self._path, serialize.dumps(data._reduce()))
