"""Every kernel compiles for GPUs that are not here, without spills and with few enough registers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CAPABILITIES = (80, 90)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason='needs the CUDA toolkit: pip install "numbacnn[cuda]"'
)

# Sums that are worked out in float64 whatever the arrays are.
SUMS = ("loss", "normalization", "reduce", "pooling._plane_means", "_backward_weight_elements")
SUMS += ("gemm._sum_of_many_parts", "pooling.avg_pool-")
SUMS += ("optim._sgd", "optim._momentum")  # which read settings in float64
SUMS += tuple(f"optim._{name}_factors" for name in ("adam", "nadam", "rmsprop", "adagrad", "lion"))
SUMS += ("response_norm",)  # whose powers are, but for those that are roots
SUMS += ("cuda.softmaxes.", "elementwise._row_products")
SUMS += ("augment._adjust",)  # whose mean gray is
SUMS += ("optim._square_chunks", "optim._finish_norm", "optim._clip_factor")


# What has little time for anything beside its memory traffic: no division, and 16 bytes at a time where sizes allow it.
WITHOUT_DIVISIONS = ("pooling.max_pool", "pooling.avg_pool", "pooling._shares", "elementwise._put_columns")
WITHOUT_DIVISIONS += ("cuda.normalization.", "group_normalization._normalized", "group_normalization._gradient")
WITHOUT_DIVISIONS += ("group_normalization._x_hat", "reduce.rows-")
WIDE = ("max_pool_backward-1x2x4", "avg_pool_backward-1x2x4", "normalize-by-4", "train_gradient-by-4", "._dropout")
WIDE += ("eval_gradient-by-4", "rows-moments-by-4", "rows-batch_norm_backward-by-4")


@pytest.fixture(scope="module")
def reports() -> dict[int, str]:
    """What is said of each capability; they are compiled side by side, each in minutes."""
    # What they run is measured in the simulator, and measuring the compiler takes long.
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0", "COVERAGE_PROCESS_CONFIG": ""}
    running = {
        capability: subprocess.Popen(
            [sys.executable, "-m", "tests.backends.cuda.compile_only", str(capability)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for capability in CAPABILITIES
    }
    found = {}
    for capability, process in running.items():
        found[capability], errors = process.communicate()
        assert process.returncode == 0, errors[-4000:]
    return found


@pytest.fixture(params=CAPABILITIES)
def kernels(reports: dict[int, str], request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return json.loads(reports[request.param])


def test_nothing_is_spilled(kernels: list[dict[str, Any]]) -> None:
    assert [k for k in kernels if k["stack"] or k["spilled"] or k["local"]] == []


def test_two_blocks_fit_a_multiprocessor(kernels: list[dict[str, Any]]) -> None:
    assert [k for k in kernels if 2 * k["registers"] * k["threads"] > 65536] == []
    assert [k for k in kernels if k["shared"] > 48 * 1024] == []


def test_float32_kernels_compute_in_float32(kernels: list[dict[str, Any]]) -> None:
    single = [k for k in kernels if "float64" not in k["types"]]
    assert [k["kernel"] for k in single if k["double"] and not any(name in k["kernel"] for name in SUMS)] == []


def test_no_kernel_divides_in_64_bits(kernels: list[dict[str, Any]]) -> None:
    assert [k["kernel"] for k in kernels if k["slow_divisions"]] == []


def test_kernels_bound_by_memory(reports: dict[int, str]) -> None:
    kernels = json.loads(reports[90])
    dividing = {k["kernel"] for k in kernels if k["divisions"] and "adaptive" not in k["kernel"]}
    assert [name for name in dividing if any(part in name for part in WITHOUT_DIVISIONS)] == []
    narrow = {k["kernel"] for k in kernels if not k["wide"]}
    for part in WIDE:
        named = {k["kernel"] for k in kernels if part in k["kernel"]}
        assert named and not named & narrow, part


def test_there_are_many(reports: dict[int, str]) -> None:
    assert len(json.loads(reports[80])) > 5
    assert len(json.loads(reports[90])) > 250
