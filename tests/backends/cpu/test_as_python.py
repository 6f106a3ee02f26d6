"""The kernels as the plain Python that they are written in, which is also how their lines are counted as covered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="this is the run without the compiler")
def test_kernels_give_the_same_results_without_the_compiler():
    files = [HERE.parent / "test_parity.py", HERE.parent / "test_parity_conv.py", HERE]
    # What is said of the compiler needs one, and every place of a tile takes a minute.
    left_out = [f"--ignore={HERE / 'test_kernel.py'}", "-k", "not every_place"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--backend",
            "cpu",
            "-q",
            "--no-cov",
            "-p",
            "no:cacheprovider",
            *left_out,
            *map(str, files),
        ],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=HERE.parent.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
