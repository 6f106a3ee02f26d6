"""Nothing that can go wrong inside machine code: its callers would never be told."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pickle
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numba.core import config
from numba.core.codegen import CPUCodeLibrary
from numba.core.errors import NumbaError

from numbacnn import backends, ops
from numbacnn.backends import cpu, disk_cache
from numbacnn.backends.cpu.runtime import kernel, machine_code
from numbacnn.backends.cpu.vector import pointwise
from numbacnn.backends.geometry import Conv2dGeometry, Pool2dGeometry
from tests.ops.test_contracts import CALLS

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

# A step of zero, but plans have none.
CANNOT_HAPPEN = {"range() arg 3 must not be zero"}
CONVOLUTIONS = (
    "n2c3h6k5r3s1p1",
    "n2c17h7k5r1s1p0",
    "n2c5h9k2r3s2p1",
    "n64c3h6k17r3s1p1",
    "n1c16h33w17k32r3s1p1",
    "n2c16h12k6r5s1p2",
    "n2c4h6k6r3s1p1g2",
    "n2c5h6k10r3s2p1g5",
    "n2c4h20k6r1s1p0",
)
POOLS = (
    Pool2dGeometry(2, 3, 28, 30, 2, 2, 2, 2),
    Pool2dGeometry(1, 17, 13, 13, 3, 3, 2, 2, 1, 1, 1, 1),
    Pool2dGeometry(2, 3, 7, 9, 7, 9, 7, 9),
    Pool2dGeometry(2, 19, 12, 12, 3, 3, 2, 2, 1, 1, 1, 1),
    Pool2dGeometry(1, 9, 7, 5, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2),
)


def every_kernel() -> dict[str, kernel.Kernel]:
    found = {}
    for module in pkgutil.walk_packages(cpu.__path__, cpu.__name__ + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, kernel.Kernel):
                found[f"{value.definition.__module__}.{value.definition.__name__}"] = value
    return found


def test_kernels_take_a_dozen_arguments_at_most() -> None:
    """More than can be checked by eye travel as a named tuple."""
    for name, each in every_kernel().items():
        arguments = list(inspect.signature(each.definition).parameters)[1:]
        assert len(arguments) <= 12, f"{name}: {arguments}"


def call_every_kernel() -> None:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    with backends.use_backend("cpu"):
        for call in CALLS.values():
            call()
        for many in (1, 40):
            x, weight = normal(many, 70), normal(50, 70)
            ops.linear_backward(ops.linear(x, weight), x, weight)
    for descriptor in CONVOLUTIONS:
        g = Conv2dGeometry.parse(descriptor)
        x, weight, dy = normal(*g.x_shape), normal(*g.weight_shape), normal(*g.y_shape)
        for algorithm in cpu.conv2d_algorithms():
            with contextlib.suppress(ValueError):  # not for this problem
                cpu.conv2d(x, weight, None, g, algorithm)
                cpu.conv2d_backward_input(dy, weight, g, algorithm)
                cpu.conv2d_backward_weight(dy, x, g, algorithm)
    for pool in POOLS:
        x, dy = normal(*pool.x_shape), normal(*pool.y_shape)
        cpu.max_pool2d(x, pool)
        cpu.max_pool2d_backward(dy, cpu.max_pool2d_with_indices(x, pool)[1], pool)
        if (pool.dh, pool.dw) == (1, 1):
            cpu.avg_pool2d(x, pool, True)
            cpu.avg_pool2d_backward(dy, pool, True)
    for kind in pointwise.FORMULAS:
        cpu.pointwise(normal(5), kind, (0.5, 2.0))
        cpu.pointwise_backward(normal(5), normal(5), kind, (0.5, 2.0))
    images, ones = normal(2, 3, 8, 9), np.ones(2, np.int64)
    cpu.add_bias(images, normal(3), "relu")
    cpu.flip_and_crop(images, ones, ones, ones, 5, 6)
    cpu.normalize_images(images, normal(3), normal(3))
    cpu.dropout(normal(2, 8, 9, 3).transpose(0, 3, 1, 2), 0.5, 1, np.array(0))
    cpu.jitter_colors(np.abs(images), *(normal(2) for _ in range(4)))
    for bilinear in (False, True):
        cpu.affine_images(images, np.ones((2, 2, 5), np.int64), 5, 6, bilinear, normal(3))
    cpu.mix_images(images, images, ones, np.ones((2, 4), np.int64), normal(2))
    cpu.adjust_images(images, ones, normal(2))
    for data in (images, np.zeros((2, 3, 8, 9), np.uint8)):
        cpu.gather_images(data, ones)
    parameter, gradient, first, second = (normal(100) ** 2 for _ in range(4))
    cpu.sgd_step(parameter, gradient, None, np.array([0.1, 0, 0.1]), False)
    cpu.sgd_step(parameter, gradient, first, np.array([0.1, 0.9, 0.1]), True)
    one, settings = np.array(1), np.array([0.1, 0.9, 0.999, 1e-8, 0.1, 0.004])
    cpu.adam_step(parameter, gradient, first, second, one, settings, True)
    cpu.nadam_step(parameter, gradient, first, second, np.array(1.0), one, settings, True)
    cpu.rmsprop_step(parameter, gradient, first, None, None, settings)
    cpu.rmsprop_step(parameter, gradient, first, second, None, settings)
    cpu.adagrad_step(parameter, gradient, first, one, settings)
    cpu.lion_step(parameter, gradient, first, settings)
    cpu.clip_scale(gradient, cpu.global_norm([gradient]), 0.1)
    cpu.divide(gradient, cpu.global_norm([gradient]))
    cpu.accumulate(parameter, gradient, 0.5)
    cpu.accumulate(parameter, gradient)
    cpu.fill_zero(parameter)
    source, target = normal(100), normal(100)
    cpu.capture(lambda: cpu.assign(target, source))
    cpu.add_channels(normal(2, 5, 3), normal(2, 3, 3))


@pytest.fixture(scope="module")
def texts() -> Iterator[dict[str, list[str]]]:
    """Of every kernel, LLVM's instructions before they are optimised, compiled anew, and kept for the tests to come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_code, "object_file", anew)
        found = noted_texts(patch)
        for each in every_kernel().values():
            patch.setattr(each, "_entries", {})
        call_every_kernel()
        yield found


def anew(name: str, make: Callable[[str], bytes]) -> bytes:
    """As :func:`machine_code.object_file`, of what the disk has or not."""
    code = make(name)
    folder = machine_code.cache_folder()
    if folder is not None:
        disk_cache.write(folder / f"{name}.code", code)
    return code


def noted_texts(patch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What will be compiled from now on, by names of kernels."""
    patch.setattr(machine_code, "_addresses", {})
    texts: dict[str, list[str]] = {}
    compile_function = kernel.compile_function

    def noted_function(name: str, definition: Any, *arguments: Any, **options: Any) -> bytes:
        of_kernel = texts.setdefault(f"{definition.__module__}.{definition.__name__}", [])
        optimize = CPUCodeLibrary._optimize_final_module

        def noted(library: CPUCodeLibrary) -> None:
            text = str(library._final_module)
            if name in text:  # it has what it calls in it, of which there is a library of its own before
                of_kernel.append(text)
            optimize(library)

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(CPUCodeLibrary, "_optimize_final_module", noted)
            return compile_function(name, definition, *arguments, **options)

    patch.setattr(kernel, "compile_function", noted_function)
    return texts


def raised(text: str) -> set[str]:
    """What Numba's exceptions in it say: they are pickles, of a class, its arguments and a place."""
    found = set()
    for constant in re.findall(r'c"(\\80\\04\\95[^"]*)"', text):
        data = re.sub(rb"\\([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), constant.encode("latin-1"))
        kind, arguments, *_ = pickle.loads(data)
        found.add(str(arguments[0]) if arguments else kind.__name__)
    return found


def test_every_kernel_is_called(texts: dict[str, list[str]]) -> None:
    missing = set(every_kernel()) - {name for name, of_kernel in texts.items() if of_kernel}
    assert not missing


def test_no_kernel_raises(texts: dict[str, list[str]]) -> None:
    found = {name: sorted(set().union(*map(raised, each)) - CANNOT_HAPPEN) for name, each in texts.items()}
    assert not {name: said for name, said in found.items() if said}


@kernel.kernel
def raising(chunk, x):
    if x[chunk] > 7:
        raise ValueError("too large")


def test_what_these_tests_look_for_is_what_such_a_kernel_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "object_file", lambda name, make: make(name))
    found = noted_texts(monkeypatch)
    raising(3, np.zeros(3))
    assert "too large" in set().union(*map(raised, found[f"{__name__}.raising"]))


@kernel.kernel
def allocating(chunk, x):
    y = np.empty(x.size, x.dtype)
    y[chunk] = x[chunk]
    x[chunk] = y[chunk]


def test_a_kernel_that_allocates_is_not_compiled() -> None:
    with pytest.raises(NumbaError, match="built-in function empty"):
        allocating(3, np.zeros(3))
