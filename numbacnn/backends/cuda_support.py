"""Whether this machine can run the backend ``cuda``, found out without importing it, and how the driver answers."""

from __future__ import annotations

import ctypes
import re
import warnings
from typing import Any

import numpy as np

__all__ = ["DriverError", "capability", "missing", "value"]

LEAST_CAPABILITY = (8, 0)
LEAST_DRIVER = 13_000
REMEDY = 'pip install "numbacnn[cuda]"'


class DriverError(RuntimeError):
    """The driver refused; the message is the name of its error."""


def missing() -> str | None:
    """What keeps this machine from running kernels, with the remedy, in one line; None if nothing does."""
    from numba.core import config

    if config.ENABLE_CUDASIM:
        return None
    try:
        ctypes.CDLL("nvcuda.dll" if hasattr(ctypes, "WinDLL") else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver was found: install one for CUDA 13, or use the backend cpu"
    try:
        import cuda.bindings.nvjitlink
        import numba_cuda
        from cuda.bindings import driver
    except ImportError as error:
        return f"{_one_line(error)}: {REMEDY}"
    if tuple(map(int, re.findall(r"\d+", np.__version__)[:2])) >= (2, 6):
        return f'numba-cuda {numba_cuda.__version__} does not know NumPy {np.__version__}: pip install "numpy<2.6"'
    try:
        value(driver.cuInit(0))
        version = value(driver.cuDriverGetVersion())
        count = value(driver.cuDeviceGetCount())
    except DriverError as error:
        return f"the NVIDIA driver cannot be used ({error}): look at what nvidia-smi says, or use the backend cpu"
    if version < LEAST_DRIVER:
        return (
            f"the NVIDIA driver knows CUDA {_cuda_version(version)}, {_cuda_version(LEAST_DRIVER)} is needed: update it"
        )
    if not count:
        return "the NVIDIA driver finds no GPU: use the backend cpu"
    found = capability(driver, value(driver.cuDeviceGet(0)))
    if found < LEAST_CAPABILITY:
        return f"the GPU has compute capability {found}, {LEAST_CAPABILITY} is needed: use the backend cpu"
    try:
        with warnings.catch_warnings():
            # numba-cuda uses what NumPy 2.5 deprecates, which is no error of the user's.
            warnings.simplefilter("ignore", DeprecationWarning)
            from numba.cuda.cudadrv import nvvm

        nvvm.NVVM()
        cuda.bindings.nvjitlink.version()
    except Exception as error:  # a library that is not there is reported in many ways
        return f"a part of the CUDA toolkit cannot be loaded ({_one_line(error)}): {REMEDY}"
    return None


def value(answer: Any) -> Any:
    """What a driver call returned besides its status; DriverError with the status' name if that is an error."""
    status, *values = answer
    if int(status):
        raise DriverError(getattr(status, "name", str(status)))
    return values[0] if len(values) == 1 else tuple(values)


def capability(driver: Any, handle: Any) -> tuple[int, int]:
    attributes = driver.CUdevice_attribute
    return (
        value(driver.cuDeviceGetAttribute(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, handle)),
        value(driver.cuDeviceGetAttribute(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, handle)),
    )


def _cuda_version(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
