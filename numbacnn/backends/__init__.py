"""Which backends there are, which one is in use, and why one is missing.

``reference`` is plain NumPy, the executable definition; ``cpu`` is Numba on all cores; ``cuda`` is numba.cuda on an
NVIDIA GPU or, with NUMBA_ENABLE_CUDASIM=1, in a simulator.
"""

from __future__ import annotations

import importlib
import os
from types import TracebackType
from typing import cast

from . import cuda_support
from .contract import Array as Array
from .contract import Backend as Backend
from .forks import ForkSafeLock

__all__ = ["Array", "Backend", "available", "get", "use_backend"]

NAMES = ("reference", "cpu", "cuda")

_lock = ForkSafeLock()
_loaded: dict[str, Backend] = {}
_default: str | None = None


def available() -> dict[str, str | None]:
    """Every backend's name with None where it can be used, else the reason why it cannot, in one line."""
    reasons: dict[str, str | None] = {}
    for name in NAMES:
        try:
            _load(name)
        except ImportError as error:
            reasons[name] = str(error).splitlines()[0]
        else:
            reasons[name] = None
    return reasons


def get(name: str | Backend | None = None) -> Backend:
    """The backend called ``name``; without a name, the default: ``use_backend``, else NUMBACNN_BACKEND, else ``cpu``.

    Raises ValueError for an unknown name and RuntimeError, with the reason, for one that cannot be used here.
    """
    if name is None:
        name = _default or _from_environment()
    if not isinstance(name, str):
        return name
    backend = _loaded.get(name)
    if backend is None:
        _check_name("backend", name)
        try:
            backend = _load(name)
        except ImportError as error:
            raise RuntimeError(f"backend {name!r} cannot be used: {error}") from error
    return backend


class use_backend:  # noqa: N801 - it is called like a function, and `with` makes the change temporary
    """Make ``name`` the default backend of the process for what is created next.

    ``with use_backend(name):`` restores the former default at the end of the block.

    >>> with use_backend("reference") as backend:
    ...     backend.name
    'reference'
    """

    def __init__(self, name: str) -> None:
        global _default
        self._backend = get(name)
        with _lock:
            self._former = _default
            _default = self._backend.name

    def __enter__(self) -> Backend:
        return self._backend

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _default
        with _lock:
            _default = self._former


def _from_environment() -> str:
    name = os.environ.get("NUMBACNN_BACKEND", "")
    if name:
        _check_name("NUMBACNN_BACKEND", name)
    return name or "cpu"


def _check_name(argument: str, name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"`{argument}` {name!r} must be one of {', '.join(map(repr, NAMES))}")


def _load(name: str) -> Backend:
    with _lock:
        if name not in _loaded:
            reason = cuda_support.missing() if name == "cuda" else None
            if reason is not None:
                raise ImportError(reason)
            _loaded[name] = cast(Backend, importlib.import_module(f"{__name__}.{name}"))
        return _loaded[name]
