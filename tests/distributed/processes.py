"""Processes of this machine, found by a variable of their environment."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

LINUX = sys.platform.startswith("linux")


def variable_of(folder: Path) -> dict[str, str]:
    """One for processes that a test starts, and what they start."""
    return {"NUMBACNN_TEST": f"{folder.name}-{secrets.token_hex(8)}"}


def environment_of(pid: int) -> dict[str, str]:
    """That of a process, as it was started; nothing for one that is gone, though nobody has asked for its exit code."""
    with suppress(OSError):
        entries = Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
        return dict(entry.decode(errors="replace").split("=", 1) for entry in entries if b"=" in entry)  # type: ignore[misc]
    return {}


def processes_of(variables: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """The environments of those that have these variables."""
    every = {int(path.name): environment_of(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    return {pid: found for pid, found in every.items() if variables.items() <= found.items()}


def gone(pids: Iterable[int] | Callable[[], Iterable[int]], within: float) -> bool:
    """Whether all of them end within so many seconds."""
    end = time.monotonic() + within
    while any(environment_of(pid) for pid in (pids() if callable(pids) else pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
