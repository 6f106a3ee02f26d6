"""Processes that a launcher of MPI has started, and what they have started, so that none outlives it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Marked", "leashed"]

MARK = "NUMBACNN_RUN"
GRACE_SECONDS = 2.0
"""How long processes have to end by themselves; all of a run are gone within 5 s of the end of one."""
LONGEST_SECONDS = 10.0
"""How long is waited for those that are killed, which wait for a disk, for instance."""
LOOK_SECONDS = 0.02


class Marked:
    """Processes of this machine that have a mark in their environment, by which they are found again.

    Groups and sessions of processes do not do: a launcher puts each process into a session of its own, and one whose
    parent has died belongs to nobody. Where there is no ``/proc``, as on macOS, it is the launcher that ends them.

    Attributes:
        environment: the mark, for the environment of the first of them.
    """

    def __init__(self) -> None:
        self.environment = {MARK: secrets.token_hex(8)}
        ((name, value),) = self.environment.items()
        self._mark = f"{name}={value}".encode()

    def pids(self) -> list[int]:
        """Those that run now."""
        every = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # of somebody else, or gone
                if self._mark in path.read_bytes().split(b"\0"):
                    every.append(int(path.parent.name))
        return every

    def end(self, launcher: subprocess.Popen[bytes] | None) -> None:
        """End them all: the launcher is asked to, which reaches other machines too, and what is left then is killed.

        Ctrl-C does not disturb it. RuntimeError for processes that cannot be killed.
        """
        with _undisturbed():
            if launcher is not None and launcher.poll() is None:
                launcher.terminate()
            deadline = time.monotonic() + GRACE_SECONDS
            while self._are_left(launcher) and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
            deadline = time.monotonic() + LONGEST_SECONDS
            while self._are_left(launcher):
                if launcher is not None:
                    launcher.kill()
                pids = self.pids()
                for pid in pids:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                if time.monotonic() > deadline:
                    raise RuntimeError(f"processes {pids} cannot be ended")
                time.sleep(LOOK_SECONDS)

    def _are_left(self, launcher: subprocess.Popen[bytes] | None) -> bool:
        return (launcher is not None and launcher.poll() is None) or bool(self.pids())


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Have signals that would raise something amid the block come after it."""
    late: list[int] = []
    names = ("SIGINT", "SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    caught = [number for number in numbers if callable(signal.getsignal(number))]
    former = {number: signal.signal(number, lambda number, frame: late.append(number)) for number in caught}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for number in late:
            signal.raise_signal(number)


LEASHED = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def leashed(command: Sequence[str]) -> list[str]:
    """A command, by the path of its program, that gets SIGTERM when this process dies, though it be of SIGKILL.

    On Linux alone; elsewhere it is as it was.
    """
    if not sys.platform.startswith("linux"):
        return [*command]
    return [sys.executable, "-I", "-S", "-c", LEASHED, str(os.getpid()), *command]
