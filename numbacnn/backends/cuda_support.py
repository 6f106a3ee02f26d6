"""Whether this machine can run the backend ``cuda``, found out without importing it, and how the driver answers."""

from __future__ import annotations

import ctypes
import re
import warnings
from typing import Any

import numpy as np

from .forks import in_forked_children

__all__ = ["DriverError", "capability", "choose_device", "chosen_device", "initialize", "missing", "value"]

MIN_CAPABILITY = (8, 0)
MIN_DRIVER = 13_000
REMEDY = 'pip install "numbacnn[cuda]"'
FORKED = (
    "CUDA cannot be used after fork: this process was forked from one that had used it; "
    "start processes with multiprocessing's method 'spawn', or use the backend cpu"
)


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
    if _use.is_inherited:
        return FORKED
    try:
        initialize(driver)
        version = value(driver.cuDriverGetVersion())
        count = value(driver.cuDeviceGetCount())
    except DriverError as error:
        return f"the NVIDIA driver cannot be used ({error}): look at what nvidia-smi says, or use the backend cpu"
    if version < MIN_DRIVER:
        return (
            f"the NVIDIA driver knows CUDA {_cuda_version(version)}, {_cuda_version(MIN_DRIVER)} is needed: update it"
        )
    if not count:
        return "the NVIDIA driver finds no GPU: use the backend cpu"
    found = capability(driver, value(driver.cuDeviceGet(chosen_device(driver))))
    if found < MIN_CAPABILITY:
        return f"the GPU has compute capability {found}, {MIN_CAPABILITY} is needed: use the backend cpu"
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


class _Use:
    """What the driver has been told of in this process, and in the one that it was forked from."""

    has_begun = False
    is_inherited = False


_use = _Use()


def initialize(driver: Any) -> None:
    """Begin to use the driver; DriverError in a forked child whose parent had begun, where calls fail or hang."""
    if _use.is_inherited:
        raise DriverError(FORKED)
    _use.has_begun = True
    value(driver.cuInit(0))


_number = 0


def choose_device(number: int) -> None:
    """Use this GPU, counted from 0 and around where there are fewer, instead of the first; before it is used."""
    global _number
    _number = number


def chosen_device(driver: Any) -> int:
    """The number of the GPU to use."""
    return _number % int(value(driver.cuDeviceGetCount()))


def _note_fork() -> None:
    _use.is_inherited = _use.has_begun


in_forked_children(_note_fork)


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
