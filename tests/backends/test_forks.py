"""Locks in forked children."""

from __future__ import annotations

import os
import threading
import warnings

import pytest

from numbacnn.backends.forks import ForkSafeLock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_a_child(lock: ForkSafeLock, depth: int) -> int:
    """The exit code of a child that holds the lock ``depth`` times and takes it once more: 0 where all is right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork while there are other threads
        child = os.fork()
    if not child:
        taken: list[int] = []

        def take() -> None:
            with lock:
                taken.append(lock.depth)

        right = lock.depth == depth
        take()
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        thread.join(0.2 if depth else 60)
        os._exit(0 if right and taken == [depth + 1] + [1] * (not depth) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_what_another_thread_holds_is_free() -> None:
    lock, inside, go = ForkSafeLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock, lock:
            inside.set()
            go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    assert in_a_child(lock, 0) == 0
    assert lock.depth == 2
    go.set()
    thread.join()
    assert lock.depth == 0


def test_what_the_forking_thread_holds_stays_held() -> None:
    lock = ForkSafeLock()
    with lock, lock:
        assert in_a_child(lock, 2) == 0
    assert in_a_child(lock, 0) == 0
