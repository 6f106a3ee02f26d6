"""The GPU that a benchmark ran on: what it is, and the two rates that no kernel can pass."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import Any

import numpy as np

from numbacnn.info import gpus

from .command import UserError

__all__ = ["ceilings", "copy_bandwidth", "describe", "title"]

# Each multiprocessor has 128 float32 units since capability 8.6, and on 9.0; an older 8.0 has 64.
LANES = 128
LANES_OF = {(8, 0): 64}
# Operations of a multiprocessor in a cycle on tensor cores with operands in TF32; in bfloat16 twice as many. Since
# capability 8.6 those for desktops have a quarter or less of the others'.
TENSOR = 256
TENSOR_OF = {(8, 0): 1024, (9, 0): 2048, (10, 0): 4096}
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
    """The peaks, worked out from what :func:`describe` found, and the measured bandwidth; takes a second.

    Those of tensor cores are without sparsity; a product in three TF32 products takes three times as long as one.
    """
    capability = tuple(facts["capability"])
    lanes = LANES_OF.get(capability, LANES)
    gigacycles = 1e-3 * facts["multiprocessors"] * facts["clock_mhz"]
    tensor = TENSOR_OF.get(capability, TENSOR) * gigacycles
    return {
        "peak_gflops": 2 * lanes * gigacycles,
        **(
            {"peak_gflops_tf32": tensor, "peak_gflops_tf32x3": tensor / 3, "peak_gflops_bf16": 2 * tensor}
            if capability >= (8, 0)
            else {}
        ),
        "peak_origin": f"computed: {facts['multiprocessors']} multiprocessors x {lanes} x 2 x the maximum clock",
        "copy_gb_per_second": copy_bandwidth(),
    }


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
