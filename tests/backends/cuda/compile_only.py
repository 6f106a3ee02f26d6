"""Compiles kernels for one compute capability, without a GPU, and prints what the linker says of each, as JSON.

``python -m tests.backends.cuda.compile_only 90``. It calls functions of the backend on a device that runs nothing: from
compute capability 9.0 on every one, and for older GPUs the convolution whose kernels take most registers. It is a
process of its own because the tables and arrays that it leaves behind are nowhere.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any
from unittest import mock

import numpy as np

import numbacnn as nc
from numbacnn.backends import cuda
from numbacnn.backends.contract import Activation
from numbacnn.backends.cuda import memory
from numbacnn.backends.cuda.block import gemm, gemm_plan
from numbacnn.backends.cuda.runtime import device_array, target
from numbacnn.backends.cuda.runtime import kernel as kernels
from numbacnn.backends.geometry import Conv2dGeometry, Pool2dGeometry
from numbacnn.backends.shared.activations import ACTIVATIONS
from tests.backends.cuda import ptx_kernels
from tests.backends.test_contract import calls

STRIDED = "n64c64h14k64r3s2p1"
EVERY_TILE = "n2c8h8k8r3s1p1"
SPECIAL = re.compile(
    r"\b(mma\.sync[\w.]*|ldmatrix[\w.]*|cp\.async[\w.]*|cvt\.rna[\w.]*|cvt\.rn\.bf16x2[\w.]*|(?:ld|st)\.\w+\.v4\.f32)"
)
HUNGRIEST: tuple[Activation, ...] = ("tanh",)  # which takes more registers than another activation, or none
POOLS = (
    Pool2dGeometry(2, 3, 20, 20, 2, 2, 2, 2),
    Pool2dGeometry(2, 3, 20, 20, 3, 3, 2, 2, 1, 1, 1, 1),
    Pool2dGeometry(2, 3, 20, 20, 7, 5, 1, 2, 1, 1, 1, 1),
    Pool2dGeometry(2, 3, 20, 20, 20, 20, 1, 1),
)


class NoDevice:
    """Memory without contents, kernels that are loaded and never run."""

    name, multiprocessors, capturing, launches, stream = "cuda:0", 132, False, 0, 1

    def __init__(self, capability: tuple[int, int]) -> None:
        self.capability = capability

    def allocate(self, size: int) -> int:
        return 1 << 40

    @staticmethod
    def place(slab: int, start: int, size: int) -> int:
        return slab + start

    def load(self, image: bytes, entry: str) -> str:
        return entry

    def download(self, target: np.ndarray, place: int) -> None:
        target.fill(0)

    def nothing(self, *arguments: Any) -> None:
        pass

    release = upload = copy = clear = launch = synchronize = nothing


def run_every_tile(dtype: Any, newer: bool) -> None:
    """The convolution whose kernels take most registers, by every tile, and what may take more for newer GPUs."""
    g = Conv2dGeometry.parse(EVERY_TILE)
    x, weight, bias, dy = (device_array.new(shape, dtype) for shape in (g.x_shape, g.weight_shape, (g.k,), g.y_shape))
    for tile in gemm_plan.tiles(np.dtype(dtype)):
        with mock.patch.object(gemm, "plan_of", lambda m, n, k, *_, tile=tile: gemm_plan.Plan(tile, 1, max(k, 1))):
            cuda.conv2d(x, weight, bias, g, "implicit_gemm", *HUNGRIEST)
            # A weight gradient takes as many registers, a product of matrices fewer: of those the plans' own tiles do.
            if newer:
                cuda.conv2d_backward_input(dy, weight, g, "implicit_gemm")


def run_tensor_cores(newer: bool) -> None:
    """Every instruction of ``block/ptx.py``, and the convolutions that are built of them, as :func:`run_every_tile`."""
    g = Conv2dGeometry.parse(STRIDED)
    x, weight, bias, dy = (device_array.new(s, np.float32) for s in (g.x_shape, g.weight_shape, (g.k,), g.y_shape))
    ptx_kernels.run_all(device_array.new)

    def convolve(mode: str, activation: Activation, backward: bool = False, number: int = 0) -> None:
        tile = gemm_plan.tiles(np.dtype(np.float32), mode)[number]
        plan = mock.patch.object(gemm, "plan_of", lambda m, n, k, *_: gemm_plan.Plan(tile, 1, max(k, 1)))
        with nc.precision(mode), plan:
            cuda.conv2d(x, weight, bias, g, "implicit_gemm", activation)
            if backward:
                cuda.conv2d_backward_input(dy, weight, g, "implicit_gemm")
                cuda.conv2d_backward_weight(dy, x, g, "implicit_gemm")

    convolve("tf32", *HUNGRIEST, backward=newer)
    convolve("tf32x3", None)
    if newer:
        convolve("bf16", None)
        for number in range(1, len(gemm_plan.WARP_RATES)):
            convolve("tf32", None, number=number)


def run_tiles(dtype: Any, activations: Iterable[Activation]) -> None:
    """Every product of the backend on arrays of ``dtype``: the kernels that take many registers."""

    def new(*shape: int) -> Any:
        return device_array.new(shape, dtype)

    def convolve(descriptor: str, algorithm: str, activations: Iterable[Activation]) -> None:
        g = Conv2dGeometry.parse(descriptor)
        x, weight, bias, dy = new(*g.x_shape), new(*g.weight_shape), new(g.k), new(*g.y_shape)
        for activation in activations:
            cuda.conv2d(x, weight, bias, g, algorithm, activation)
        cuda.conv2d_backward_input(dy, weight, g, algorithm)
        cuda.conv2d_backward_weight(dy, x, g, algorithm)

    for algorithm in cuda.conv2d_algorithms():
        convolve(STRIDED, algorithm, activations)
    run_every_tile(dtype, newer=True)
    for m, n, k in ((4096, 4096, 64), (10, 10, 10), (16, 4096, 64), (256, 2048, 64)):
        x, weight, bias, dy = new(m, k), new(n, k), new(n), new(m, n)
        for activation in (None, *HUNGRIEST):
            cuda.linear(x, weight, bias, activation)
        cuda.linear_backward_input(dy, weight)
        cuda.linear_backward_weight(dy, x)
        cuda.linear_backward_bias(dy)
    for activation in activations:
        cuda.linear(new(10, 10), new(10, 10), new(10), activation)
    cuda.linear_backward_weight(new(100_000, 10), new(100_000, 20))  # so long a sum that it has many parts


def run_the_rest(dtype: Any) -> None:
    """Every other function of the backend on arrays of ``dtype``."""

    def given(argument: Any) -> Any:
        if isinstance(argument, np.ndarray):
            return memory.asarray(argument)
        return [given(item) for item in argument] if isinstance(argument, list) else argument

    def new(*shape: int, kind: Any = dtype) -> Any:
        return device_array.new(shape, kind)

    for name, arguments in calls(dtype):
        getattr(cuda, name)(*map(given, arguments))
    for pool in POOLS:
        cuda.max_pool2d(new(*pool.x_shape), pool)
        y, indices = cuda.max_pool2d_with_indices(new(*pool.x_shape), pool)
        cuda.max_pool2d_backward(y, indices, pool)
        cuda.avg_pool2d_backward(cuda.avg_pool2d(new(*pool.x_shape), pool, True), pool, True)
    for n, c, length in ((64, 100, 1), (4, 3, 10000)):
        x, channel = new(n, c, length), new(c)
        cuda.batch_norm_train(x, channel, channel, 1e-5)
        cuda.batch_norm_train_backward(x, x, channel, channel, channel)
        cuda.batch_norm_eval_backward(x, x, channel, channel, channel)
        cuda.update_running_average(channel, channel, 0.1, 1.0)
        of_samples = new(n, 1)
        cuda.group_norm_backward(x, x, channel, of_samples, of_samples, 1)
    step, settings, value = new(kind=np.int64), new(6, kind=np.float64), new(100)
    cuda.sgd_step(value, value, None, settings, False)
    cuda.sgd_step(value, value, value, settings, True)
    cuda.adam_step(value, value, value, value, step, settings, True)
    cuda.nadam_step(value, value, value, value, new(kind=np.float64), step, settings, True)
    cuda.rmsprop_step(value, value, value, value, value, settings)
    cuda.adagrad_step(value, value, value, step, settings)
    cuda.lion_step(value, value, value, settings)
    cuda.clip_scale(value, new(kind=np.float64), 1.0)
    cuda.divide(value, new(kind=np.float64))
    cuda.accumulate(value, value)
    cuda.add_bias(new(2, 3, 4, 4), new(3), "relu")
    cuda.put_channels(new(2, 5, 3), new(2, 2, 3), 3)
    cuda.add_channels(new(2, 5, 3), new(2, 2, 3))
    cuda.accumulate(value, value, 0.5)
    cuda.accumulate(step, step)
    cuda.increment(step)
    images, index = new(10, 1, 4, 4, kind=np.uint8), new(3, kind=np.int64)
    cuda.gather_images(images, index)
    cuda.gather_images(new(10, 1, 4, 4), index)
    for kind in (np.int64, np.uint8, np.bool_, np.float32, np.float64):
        cuda.gather_samples(new(10, 3, kind=kind), index)
    for kind in (np.uint8, np.int64, np.float16, np.bool_, np.float32, np.float64):
        memory.asarray(new(10, kind=kind), dtype)
    memory._copy_strided(10, value, value, new(2, 1, kind=np.int64), 1, 0)


def main(capability: tuple[int, int]) -> list[dict[str, Any]]:
    """Registers, stack, and what of the PTX is worth knowing, of every kernel that is compiled on the way."""
    found: list[dict[str, Any]] = []
    compile_, link = kernels.Kernel.compile, kernels.link

    def noted_compile(self: kernels.Kernel, key: Any, capability: tuple[int, int]) -> tuple[str, str]:
        ptx, entry = compile_(self, key, capability)
        found.append(
            {
                "kernel": self.name,
                "threads": self.threads,
                "types": [str(item) for item in key],
                "double": bool(re.search(r"\.f64\b", ptx)),
                "slow_divisions": len(re.findall(r"\b(?:div|rem)\.s64\b", ptx)),
                "divisions": len(re.findall(r"\b(?:div|rem)\.[su]\d+\b", ptx)),
                "wide": len(re.findall(r"\b(?:ld|st)(?:\.global)?\.v(?:4\.[bfu]32|2\.[bfu]64)\b", ptx)),
                "local": bool(re.search(r"\.local\s", ptx)),
                "special": Counter(SPECIAL.findall(ptx)),
            }
        )
        return ptx, entry

    def noted_link(ptx: str, capability: tuple[int, int]) -> tuple[bytes, str]:
        image, log = link(ptx, capability)
        used = re.search(r"used (\d+) registers.*?(\d+) stack, (\d+) bytes smem.*?(\d+) bytes lmem", log, re.DOTALL)
        if used is None:
            raise RuntimeError(f"the linker says something new: {log}")
        found[-1].update(zip(("registers", "stack", "shared", "spilled"), map(int, used.groups()), strict=True))
        return image, log

    kernels.Kernel.compile, kernels.link, kernels.cache_folder = noted_compile, noted_link, lambda: None  # type: ignore[method-assign]
    device_array._device = NoDevice(capability)
    vars(np).pop(target.REMOVED_NAME, None)  # as it is with the newest NumPy
    # All of it once, for the newer GPU, and else what may not fit the registers: most of the minutes.
    if capability < (9, 0):
        run_every_tile(np.float32, newer=False)
        run_tensor_cores(newer=False)
    else:
        run_tiles(np.float32, ACTIVATIONS)
        run_the_rest(np.float32)
        run_tiles(np.float64, HUNGRIEST)
        run_the_rest(np.float64)
        run_tensor_cores(newer=True)
        declared = {kernel.name for kernel in kernels.every_kernel()}
        missed = declared - {entry["kernel"] for entry in found}
        if missed:
            raise RuntimeError(f"never compiled: {', '.join(sorted(missed))}")
    return found


if __name__ == "__main__":
    major, minor = divmod(int(sys.argv[1]), 10)
    json.dump(main((major, minor)), sys.stdout)
