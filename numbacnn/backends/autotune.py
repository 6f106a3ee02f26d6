"""Convolution algorithms that were measured to be the fastest here, remembered in the user's cache.

One file for each backend, state of its sources, device and number of threads: another machine, or kernels that have
changed, start without.
"""

from __future__ import annotations

import json
import pathlib
import warnings

from ..files import replacing
from .capture import invalidate
from .contract import Backend, ConvPass
from .forks import ForkSafeLock
from .geometry import Conv2dGeometry
from .numba_threads import numba_threads
from .precision import in_force

__all__ = ["choice", "remember"]

_lock = ForkSafeLock()
_tables: dict[tuple[str, int], dict[str, str]] = {}


def choice(backend: Backend, geometry: Conv2dGeometry, pass_: ConvPass) -> str | None:
    """The algorithm that is remembered, None for none."""
    table = _table(backend)
    return table.get(_key(backend, geometry, pass_)) if table else None


def remember(backend: Backend, geometry: Conv2dGeometry, pass_: ConvPass, algorithm: str | None) -> None:
    """Take ``algorithm`` from now on, in this process and later ones; None forgets.

    Where nothing can be written, only this process remembers; a RuntimeWarning tells of a file that cannot be.
    """
    table, key = _table(backend), _key(backend, geometry, pass_)
    with _lock:
        table.pop(key, None)
        if algorithm is not None:
            table[key] = algorithm
        invalidate()
        path = _path(backend)
        if path is not None:
            try:
                with replacing(path) as temporary:
                    temporary.write_text(json.dumps(table, indent=1), encoding="utf-8")
            except OSError as error:
                _warn(f"measured algorithms are remembered by this process only: {error}")


def _key(backend: Backend, geometry: Conv2dGeometry, pass_: ConvPass) -> str:
    operands = in_force().operands if backend.name == "cuda" else "float32"
    return f"{geometry.descriptor} {pass_}" + ("" if operands == "float32" else f" {operands}")


def _table(backend: Backend) -> dict[str, str]:
    key = backend.name, numba_threads()
    table = _tables.get(key)
    if table is None:
        with _lock:
            table = _tables.setdefault(key, _read(backend))
    return table


def _read(backend: Backend) -> dict[str, str]:
    path, known = _path(backend), backend.conv2d_algorithms()
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(name, str) and name in known for name in found.values()):
            raise ValueError(f"it is no table of the algorithms {', '.join(known)}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        _warn(f"measured algorithms in {str(path)!r} are ignored: {error}")
        return {}
    return found


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _path(backend: Backend) -> pathlib.Path | None:
    import llvmlite.binding

    from . import disk_cache

    here = pathlib.Path(__file__).parent
    folder = disk_cache.kernel_folder("tuned", (here / backend.name, here / "shared"), backend.name)
    device = (backend.device_name(), llvmlite.binding.get_host_cpu_name(), str(numba_threads()))
    return folder / f"{disk_cache.digest(*device)}.json" if folder else None
