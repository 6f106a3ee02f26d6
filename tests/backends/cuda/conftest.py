"""Python beside a driver that has no GPU: see stub_driver.c."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stub as the driver's library."""
    if sys.platform != "linux":
        pytest.skip("the stub is built for Linux")
    if COMPILER is None:
        pytest.skip("there is no C compiler to build the stub with")
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip('needs numba-cuda: pip install "numbacnn[cuda]"')
    folder = tmp_path_factory.mktemp("driver")
    target = folder / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", target, HERE / "stub_driver.c", "-ldl"], check=True)
    return target


@pytest.fixture
def run(library: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs Python code beside the stub; what it prints must be true values, what the driver noted is returned."""

    def run(code: str, **settings: int) -> list[str]:
        log = tmp_path / "log"
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(library.parent),
            "STUB_LIBRARY": str(library),
            "STUB_LOG": str(log),
            "NUMBA_CACHE_DIR": str(library.parent / "cache"),
            "NUMBA_ENABLE_CUDASIM": "0",
            **{f"STUB_{name.upper()}": str(value) for name, value in settings.items()},
        }
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
            env=environment,
            cwd=HERE.parents[2],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return log.read_text().splitlines() if log.exists() else []

    return run


PRELUDE = """
import warnings
import numpy as np
from numbacnn import backends
from numbacnn.backends.geometry import Conv2dGeometry
def cuda():
    return backends.get("cuda")
class Foreign:  # an array of another library in the memory of x
    def __init__(self, x, **changes):
        self.__cuda_array_interface__ = {**x.__cuda_array_interface__, **changes}
class Capsule:
    def __init__(self, x, ordinal=0):
        self.x, self.ordinal = x, ordinal
    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)
    def __dlpack_device__(self):
        return 2, self.ordinal
def replace_in_driver(**functions):
    from numbacnn.backends.cuda import memory
    gpu = memory.device()
    real = gpu._driver
    class Driver:
        def __getattr__(self, name):
            return functions.get(name) or getattr(real, name)
    gpu._driver = Driver()
    return real
"""
