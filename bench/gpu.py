"""The GPU that a benchmark ran on: what it is, and the two rates that no kernel can pass."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import Any

import numpy as np

from numbacnn.backends.contract import ConvPass
from numbacnn.backends.geometry import Conv2dGeometry
from numbacnn.info import gpus

from .command import UserError

__all__ = ["ROUNDED_BOUNDS", "ceilings", "copy_bandwidth", "describe", "operands", "peak_over_float32", "title"]

# Each multiprocessor has 128 float32 units since capability 8.6, and on 9.0; an older 8.0 has 64.
LANES = 128
LANES_OF = {(8, 0): 64}
# What tensor cores do at most over what float32 units do, on 8.0 and 9.0, and on the others, which have fewer.
TENSOR_CORES = {"float32": 1.0, "tf32": 8.0, "tf32x3": 8 / 3, "bf16": 16.0}
FEWER_TENSOR_CORES = {"float32": 1.0, "tf32": 1.0, "tf32x3": 1 / 3, "bf16": 2.0}
FULL = ((8, 0), (9, 0))
ROUNDED_BOUNDS = {"tf32": 1e-2, "bf16": 1e-1}
"""How far results of rounded factors may be from float32's, relative to the largest; of tf32x3, as far as float32's."""
COPY_BYTES = 1 << 29
COPIES = 8
VERSIONS = ("numba-cuda", "cuda-bindings", "cuda-core")
"""Distributions that the backend stands on."""


def describe() -> dict[str, Any]:
    """Name, multiprocessors, maximum clock, memory, driver; UserError in the simulator, whose times mean nothing."""
    from numbacnn.backends.cuda.runtime import device_array, target

    if target.SIMULATED:
        raise UserError("the cuda backend is a simulator here: benchmarks need a GPU")
    from cuda.bindings import driver

    from numbacnn.backends.cuda_support import value

    device = device_array.device()
    handle = value(driver.cuDeviceGet(0))
    clock = value(driver.cuDeviceGetAttribute(driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CLOCK_RATE, handle))
    cuda = value(driver.cuDriverGetVersion())
    return {
        "gpu": value(driver.cuDeviceGetName(128, handle)).split(b"\0")[0].decode(),
        "multiprocessors": device.multiprocessors,
        "capability": list(device.capability),
        "clock_mhz": clock / 1e3,
        "memory_bytes": int(value(driver.cuDeviceTotalMem(handle))),
        "driver": _driver_version(),
        "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
    }


def _driver_version() -> str | None:
    """What nvidia-smi says: the driver's own interface tells the version of CUDA only."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, IndexError):
        return gpus()[0]["driver"]
    return None


def title(facts: dict[str, Any]) -> str:
    """What :func:`describe` found, in a line."""
    return (
        f"{facts['gpu']}, {facts['multiprocessors']} multiprocessors at up to {facts['clock_mhz']:.0f} MHz, "
        f"driver {facts['driver'] or 'unknown'} (CUDA {facts['cuda']})"
    )


def ceilings(facts: dict[str, Any]) -> dict[str, Any]:
    """The float32 peak, worked out from what :func:`describe` found, and the measured bandwidth; takes a second."""
    lanes = LANES_OF.get(tuple(facts["capability"]), LANES)
    return {
        "peak_gflops": 2e-3 * lanes * facts["multiprocessors"] * facts["clock_mhz"],
        "peak_origin": f"computed: {facts['multiprocessors']} multiprocessors x {lanes} x 2 x the maximum clock",
        "copy_gb_per_second": copy_bandwidth(),
    }


def peak_over_float32(facts: dict[str, Any], precision: str) -> float:
    """How many times the float32 peak of what :func:`describe` found is the peak of ``precision``."""
    return (TENSOR_CORES if tuple(facts["capability"]) in FULL else FEWER_TENSOR_CORES)[precision]


def operands(g: Conv2dGeometry, pass_: ConvPass, algorithm: str) -> str:
    """What an algorithm of the cuda backend multiplies as ``numbacnn.precision`` is set."""
    from numbacnn.backends.cuda.block.gemm_plan import operands_of
    from numbacnn.backends.cuda.convolution.implicit_gemm import sizes

    m, n, _ = sizes(g, pass_)
    if algorithm == "im2col" and pass_ == "backward_input":
        m = g.taps
    return "float32" if algorithm == "loops" else operands_of(m, n, np.dtype(np.float32))


def copy_bandwidth(size: int = COPY_BYTES, seconds: float = 0.5) -> float:
    """GB/s of copying ``size`` bytes on the device, read and written bytes counted: the best of ``seconds``."""
    from numbacnn.backends import cuda

    source, target = cuda.zeros((size,), np.uint8), cuda.empty((size,), np.uint8)
    best, begin = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - begin < seconds:
        cuda.synchronize()
        start = time.perf_counter()
        for _ in range(COPIES):
            cuda.assign(target, source)
        cuda.synchronize()
        best = min(best, (time.perf_counter() - start) / COPIES)
    return 2e-9 * size / best
