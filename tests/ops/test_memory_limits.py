"""Every operation where memory is scarce: it gives the right answer or raises MemoryError."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from numba.core import config

from tests.ops.test_contracts import CALLS

pytest.importorskip("resource", reason="limits of POSIX")
pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of address space is Linux's"),
]

SCRIPT = """
import gc, resource, sys
import numpy as np
from numbacnn import backends, ops
from numbacnn.backends.cpu.runtime import allocator
from tests.ops.test_contracts import CALLS

BATCH = 500
rng = np.random.default_rng(0)


def calls():
    for name, call in CALLS.items():
        large = [np.concatenate([x] * BATCH) if i in call.batched else x for i, x in enumerate(call.arrays)]
        yield name, lambda call=call, large=large: call(large)
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((1, 256, 3, 600), (4, 256, 3, 3)))
    for name in backends.get("cpu").conv2d_algorithms():
        y = ops.conv2d(x, weight, algorithm=name)
        yield f"conv2d by {name}", lambda name=name: [ops.conv2d(x, weight, algorithm=name)]
        yield (
            f"conv2d_backward by {name}", lambda name=name, y=y: list(ops.conv2d_backward(y, x, weight, algorithm=name))
        )


def used():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmSize"))


no_limit = resource.getrlimit(resource.RLIMIT_AS)[1]
refused = right = 0
gc.freeze()  # what was imported need not be looked through each time
with backends.use_backend("cpu"):
    for name, call in calls():
        expected = [np.array(result) for result in call()]
        for more in (1 << 12, 1 << 21, 1 << 23, 1 << 26):
            allocator.release()
            gc.collect()
            resource.setrlimit(resource.RLIMIT_AS, (used() + more, no_limit))
            try:
                results = call()
            except MemoryError:
                refused += 1
                continue
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (no_limit, no_limit))
            right += 1
            for result, other in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result, other, f"{name} with {more} bytes")
            del results, result
print(refused, right)
"""


def test_every_operation_under_a_memory_limit_is_right_or_raises_memory_error():
    # The C library gives back what is free, so that the limit is one.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    refused, right = map(int, done.stdout.split())
    # Both happen, or the limits would say nothing.
    assert refused > len(CALLS)
    assert right > len(CALLS)
