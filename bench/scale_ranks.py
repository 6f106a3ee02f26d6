"""The parent's end of processes that share the work: started together, asked together, in turns with others."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numbacnn.distributed.leftovers import leashed

from .worker import TIMEOUT

__all__ = ["ROOT", "Ranks", "ranks"]

ROOT = Path(__file__).parent.parent
WORKER = "bench.scale_worker"
LEAVING = 20.0
"""Seconds that processes have to end."""
OF_MPI = "Abort("
"""How a line begins that says no more than that processes were ended."""
GRACE = 5.0
"""Those of one that fails."""


class Ranks:
    """Processes that run ``bench.scale_worker``; :func:`ranks` makes them."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Any, listening: socket.socket, size: int) -> None:
        self._process, self._errors = process, errors
        self._lines: dict[int, Any] = {}
        listening.settimeout(1.0)
        while len(self._lines) < size:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                if process.poll() is None:
                    continue
                raise RuntimeError(self._last_words()) from None
            with connection:
                connection.settimeout(TIMEOUT)
                lines = connection.makefile("rw", encoding="utf-8")
            self._lines[json.loads(lines.readline())] = lines

    def every(self, what: str, **options: Any) -> list[Any]:
        """The answers of all ranks, in their order. RuntimeError where one ends, or takes longer than TIMEOUT."""
        order = [self._lines[rank] for rank in sorted(self._lines)]
        try:
            for lines in order:
                lines.write(json.dumps([what, options]) + "\n")
                lines.flush()
            return [json.loads(lines.readline()) for lines in order]
        except (OSError, ValueError) as error:
            raise RuntimeError(self._last_words()) from error

    def ask(self, what: str, **options: Any) -> Any:
        """The answer of the first rank; all do it."""
        return self.every(what, **options)[0]

    def slowest(self, what: str, **options: Any) -> float:
        """The seconds of the rank that took longest."""
        return max(map(float, self.every(what, **options)))

    def close(self) -> None:
        """Tell all that it is over."""
        for lines in self._lines.values():
            with contextlib.suppress(OSError):
                lines.close()

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)  # it may have more to say
        self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().splitlines()
        said = [line for line in lines if line.strip() and not line.startswith(OF_MPI)]
        return said[-1] if said else f"the processes ended with exit code {code}"


@contextlib.contextmanager
def ranks(
    size: int, threads: int, launcher: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Ranks]:
    """So many processes of so many threads each, by ``launcher``, or one without; they end with the block."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        socket.socket(socket.AF_UNIX) as listening,
    ):
        path = str(Path(folder, "socket"))
        listening.bind(path)
        listening.listen()
        words = [*launcher, sys.executable, "-m", WORKER, "--socket", path]
        command = leashed([str(shutil.which(words[0])), *words[1:]])
        variables = {**os.environ, **(environment or {}), "NUMBA_NUM_THREADS": f"{threads}"}
        with subprocess.Popen(
            command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
        ) as process:
            try:
                started = Ranks(process, errors, listening, size)
                try:
                    yield started
                finally:
                    started.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LEAVING)
            finally:
                process.kill()
