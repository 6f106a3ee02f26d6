"""How processes end: one that fails ends all, and none waits for one that has left."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["Watch", "end_all_on_errors", "of_another"]

BUSY_SECONDS = 3e-6
"""What it takes at least to move a message, and not to find that there is none."""
SPIN_SECONDS = 2e-4
"""How long a process waits without giving the processor away."""
YIELD_SECONDS = 1e-3
"""How long it gives it to whoever waits for it, and goes on where nobody does."""
LONGEST_SLEEP = 2e-4
LONGEST_SLEEP_BESIDE_WORK = 1e-3
"""Of a thread that takes a core from others of its process each time it wakes."""
LOOK_SECONDS = 0.05
"""How often who waits looks whether somebody has left."""
GRACE_SECONDS = 1.0
"""How long what somebody sent before may be on its way after the news that they have left; and how long the process
whose error it is has to say it, and to end the others, before they do."""


_yield: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))


class Watch:
    """Waits for requests, in a communicator of its own, in which each process says that it has left.

    Without it a process that ends by ``sys.exit`` would wait in MPI_Finalize for others, which wait for it elsewhere.
    """

    def __init__(self, communicator: Any) -> None:
        self._communicator = communicator.Dup()
        self._others = [rank for rank in range(communicator.Get_size()) if rank != communicator.Get_rank()]
        self._last: list[Callable[[], None]] = []
        atexit.register(self._leave)

    def when_all_have_left(self, work: Callable[[], None]) -> None:
        """Do this at the end, when nobody waits for anybody any more."""
        self._last.append(work)

    def wait(self, request: Any) -> None:
        """Until it is done; RuntimeError if another process has left meanwhile, or before."""
        self.until(request.Test)

    def until(
        self,
        advance: Callable[[], bool],
        pause: Callable[[float], None] = time.sleep,
        busy_seconds: float = BUSY_SECONDS,
        others_compute: Callable[[], bool] = lambda: False,
    ) -> None:
        """Call ``advance`` until it is True, with pauses of so many seconds while it finds nothing to do.

        What it takes longer for than ``busy_seconds`` was something to do. It is called again and again for a while
        before the first pause, but not where other threads of this process compute meanwhile.

        RuntimeError if another process has left meanwhile, or before.
        """
        moved = looked = time.perf_counter()
        sleep, left_at = 0.0, 0.0
        while True:
            begin = time.perf_counter()
            if advance():
                return
            now = time.perf_counter()
            if now - begin > busy_seconds:
                # Messages between processes of one machine are moved by who asks whether they are there.
                moved, sleep = now, 0.0
            elif now - moved > YIELD_SECONDS or others_compute():
                sleep = min(2 * sleep + 2e-5, LONGEST_SLEEP_BESIDE_WORK if others_compute() else LONGEST_SLEEP)
                pause(sleep)
            elif now - moved > SPIN_SECONDS:
                _yield()
            if now - looked > LOOK_SECONDS:
                looked = now
                left = [rank for rank in self._others if self._communicator.Iprobe(source=rank)]
                left_at = (left_at or now) if left else 0.0
                if left and now - left_at > GRACE_SECONDS:
                    raise RuntimeError(f"rank {left[0]} has ended, and this process waits for it; its output says why")

    def has_left(self, rank: int, within: float) -> bool:
        """Whether a process has left, or does within so many seconds."""
        end = time.perf_counter() + within
        while not self._communicator.Iprobe(source=rank):
            if time.perf_counter() > end:
                return False
            time.sleep(LONGEST_SLEEP)
        return True

    def _leave(self) -> None:
        note, notes = bytearray(1), [bytearray(1) for _ in self._others]
        requests = [self._communicator.Isend(note, dest=rank) for rank in self._others]
        requests += [
            self._communicator.Irecv(other, source=rank) for rank, other in zip(self._others, notes, strict=True)
        ]
        while not all([request.Test() for request in requests]):
            time.sleep(LONGEST_SLEEP)
        for work in self._last:
            work()


def of_another(error: Exception) -> Exception:
    """The error, known for that of another process: where nobody handles it, it is the other one that says it."""
    error._is_of_another = True  # type: ignore[attr-defined]
    return error


def end_all_on_errors(communicator: Any) -> None:
    """An exception that nobody handles, in whichever thread, is printed with the rank and ends all processes."""
    rank, size = communicator.Get_rank(), communicator.Get_size()

    def end(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if hasattr(error, "_is_of_another"):
            time.sleep(GRACE_SECONDS)
        try:
            text = "".join(traceback.format_exception(kind, error, trace))
            print(f"rank {rank} of {size}:\n{text}", end="", file=sys.stderr, flush=True)
            sys.stdout.flush()
        finally:  # even if nobody reads
            communicator.Abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    def end_of_thread(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, SystemExit):
            end(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    sys.excepthook = end
    threading.excepthook = end_of_thread
