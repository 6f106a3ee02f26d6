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

from .ptx_instructions import INSTRUCTIONS

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
    return [{**entry, "capability": request.param} for entry in json.loads(reports[request.param])]


def test_nothing_is_spilled(kernels: list[dict[str, Any]]) -> None:
    assert [k for k in kernels if k["stack"] or k["spilled"] or k["local"]] == []


def test_two_blocks_fit_a_multiprocessor(kernels: list[dict[str, Any]]) -> None:
    assert [k for k in kernels if 2 * k["registers"] * k["threads"] > 65536] == []
    # From 9.0 on the linker counts a kilobyte that is the system's, in each block.
    assert [k for k in kernels if k["shared"] > (48 + k["capability"] // 90) * 1024] == []


def test_float32_kernels_compute_in_float32(kernels: list[dict[str, Any]]) -> None:
    single = [k for k in kernels if "float64" not in k["types"]]
    assert [k["kernel"] for k in single if k["double"] and not any(name in k["kernel"] for name in SUMS)] == []


def test_no_kernel_divides_in_64_bits(kernels: list[dict[str, Any]]) -> None:
    assert [k["kernel"] for k in kernels if k["slow_divisions"]] == []


def test_instructions_are_there(kernels: list[dict[str, Any]]) -> None:
    found = {k["kernel"].rpartition(".")[2]: set(k["special"]) for k in kernels if "ptx_kernels." in k["kernel"]}
    assert found.keys() == INSTRUCTIONS.keys()
    for name, instructions in INSTRUCTIONS.items():
        assert instructions <= found[name], name


def test_tensor_cores_multiply_a_step_in_one_go(kernels: list[dict[str, Any]]) -> None:
    """Unrolled, each instruction once for each matrix of a warp's part: no number is rounded or fetched twice."""
    found = [k for k in kernels if "tensor_gemm." in k["kernel"]]
    assert len(found) == (9 if kernels[0]["capability"] >= 90 else 2)
    for k in found:
        operands, sizes, at_a_time = k["kernel"].rpartition(".")[2].split("-")[1:4]
        _, _, wm, wn, _ = map(int, sizes.split("x"))
        down, across, special = wm // 16, wn // 8, k["special"]
        products = {"tf32": 2, "tf32x3": 6, "bf16": 1}[operands] * down * across
        assert sum(n for name, n in special.items() if name.startswith("mma.sync")) == products
        assert special["ldmatrix.sync.aligned.m8n8.x4.shared.b16"] == 2 * down
        conversions = 2 * (4 * down + 2 * across) * {"tf32": 1, "tf32x3": 2, "bf16": 0.5}[operands]
        assert special["cvt.rn.bf16x2.f32" if operands == "bf16" else "cvt.rna.tf32.f32"] == conversions
        assert special["cp.async.wait_group"] == 1 and special["cp.async.ca.shared.global"] > 0
        assert ("cp.async.cg.shared.global" in special) == (at_a_time == "4")


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
