"""Forking while other threads compute or compile: locks that a child finds free, and what it has to do again.

A child has one thread, the one that forked, and a copy of everything as it was at that moment: locks that other threads
held are held for ever, and what they were changing is half changed. So the locks of this package are
:class:`ForkSafeLock`, whose owners renew with :func:`in_forked_children` what other threads may have left half done.
Numba's compiler has locks and state of its own, and so has an import: a fork waits until no other thread compiles or
imports. A module that is half imported would be so in the child for ever, and whoever asks for it would wait.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from importlib import _bootstrap
from typing import Any

__all__ = ["ForkSafeLock", "in_forked_children"]

# Seconds that a fork waits for a compilation or an import that does not end, such as one that waits for this thread.
LOCK_TIMEOUT = 60.0
IMPORT_POLL_SECONDS = 0.001


class ForkSafeLock:
    """A reentrant lock, used by ``with``, that is held in a forked child only by the thread that forked.

    Other threads are not there in a child, and what they held would be held for ever. A signal handler runs in the
    main thread, also while that holds the lock, which is why it is reentrant; :attr:`depth` tells.

    >>> lock = ForkSafeLock()
    >>> with lock, lock:
    ...     lock.depth
    2
    """

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()
        self.depth = 0
        """How many times the thread that holds the lock has taken it."""
        _locks.add(self)

    def __enter__(self) -> ForkSafeLock:
        self._lock.acquire()
        self.depth += 1
        return self

    def __exit__(self, *_: Any) -> None:
        self.depth -= 1
        self._lock.release()

    def acquire(self, timeout: float) -> bool:
        """Whether the lock could be taken within ``timeout`` seconds; :meth:`release` gives it back."""
        found: bool = self._lock.acquire(timeout=timeout)
        self.depth += found
        return found

    def release(self) -> None:
        """Give back what :meth:`acquire` took."""
        self.__exit__()

    def _renew(self) -> None:
        # The thread that forked goes on in the child under the same name, and still holds what it held.
        if not self._lock._is_owned():
            self._lock, self.depth = threading.RLock(), 0


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_renewals: list[Callable[[], None]] = []
_held = threading.local()


def in_forked_children(renew: Callable[[], None]) -> None:
    """Call ``renew`` in every child, after its locks are free and before anything else of this package."""
    _renewals.append(renew)


def _compiler_lock() -> Any:
    """Numba's, once that is imported."""
    module = sys.modules.get("numba.core.compiler_lock")
    return getattr(module, "global_compiler_lock", None)


def _others_import() -> bool:
    """Whether a thread other than this one is importing a module. Python has a lock for each that is being imported."""
    locks = [reference() for reference in list(getattr(_bootstrap, "_module_locks", {}).values())]
    return any(getattr(lock, "owner", None) not in (None, threading.get_ident()) for lock in locks)


def _wait_for_others() -> None:
    """Until no other thread compiles or imports; the compiler is held then, and given back after the fork."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        lock = _compiler_lock()
        remaining = max(0.0, deadline - time.monotonic())
        _held.lock = lock if lock is not None and lock._lock.acquire(timeout=remaining) else None
        if not remaining or not _others_import():
            return
        _give_back_the_compiler()  # which the import may wait for
        time.sleep(IMPORT_POLL_SECONDS)


def _give_back_the_compiler() -> None:
    lock, _held.lock = getattr(_held, "lock", None), None
    if lock is not None:
        lock.release()


def _renew_all() -> None:
    compiler, counting, llvm = (
        _compiler_lock(), sys.modules.get("numba.np.ufunc.parallel"), sys.modules.get("llvmlite.binding.ffi")
    )  # fmt: skip
    if compiler is not None and getattr(_held, "lock", None) is None:
        compiler._lock = threading.RLock()
    if counting is not None:  # which a question for the number of threads takes
        counting._backend_init_thread_lock = threading.RLock()  # type: ignore[attr-defined]
        # That of several processes, made anew where it is needed: a child that another thread's hold was copied to
        # would count its own on top of that, and never give the semaphore back, to anyone.
        counting._backend_init_process_lock = None  # type: ignore[attr-defined]
    if llvm is not None:
        llvm.lib._lock._lock = threading.RLock()
    _give_back_the_compiler()
    for lock in list(_locks):
        lock._renew()
    for renew in _renewals:
        renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait_for_others,
        after_in_parent=_give_back_the_compiler,
        after_in_child=_renew_all,
    )
