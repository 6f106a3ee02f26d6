"""Programs of several processes, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).parent / "mpiexec"
"""That of the package ``mpich``."""
SECONDS = 120

with_mpi = pytest.mark.skipif(
    find_spec("mpi4py") is None or sys.platform == "win32", reason="needs mpi4py and MPICH, which Windows has not"
)


def start(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program, Python's arguments, with so many processes of one thread; 0 is one process without MPI."""
    launcher = [str(MPIEXEC), "-n", str(ranks)] if ranks else []
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, sys.executable, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip


def lines_of(ranks: int, *arguments: str) -> list[str]:
    """What a program prints that ends well."""
    done = start(ranks, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
