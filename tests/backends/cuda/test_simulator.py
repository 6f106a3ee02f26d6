"""Every kernel's index arithmetic in the simulator, on tiny shapes, and a LeNet that trains there.

A process of its own, because Numba decides on the simulator when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config

from numbacnn import backends

ROOT = Path(__file__).parents[3]
FILES = {
    # Every function is called here, so that these say what is covered; measuring makes the others twice as long.
    "measured": (
        "backends/cuda/test_arrays.py",
        "backends/cuda/test_turns.py",
        "backends/cuda/test_ptx.py",
        "backends/cuda/test_fragments.py",
        "backends/cuda/test_tensor_gemm.py",
        "backends/cuda/test_division.py",
        "backends/test_contract.py",
        "backends/test_contract_capture.py",
        "training/test_capture.py",
    ),
    "unmeasured": (
        "backends/test_parity_conv.py",
        "backends/test_parity.py",
        "backends/test_parity_augment.py",
        "ops/test_contracts.py",
        "nn/test_densenet_block.py::test_the_same_bits_as_written_out",
        "nn/test_session.py",
        "registry/test_layers.py",
    ),
}

pytestmark = [
    pytest.mark.skipif(bool(config.ENABLE_CUDASIM), reason="this is the simulator"),
    pytest.mark.skipif(backends.available()["cuda"] is None, reason="there is a GPU, on which everything else runs"),
]


# What converts the arguments of operations is no kernel and is tried by itself in test_arrays.py.
LEFT_OUT = "not memory_layout and not other_real_dtypes and not nested_lists"
# Of the calls that several chunks share, test_parity.py has those that a simulated thread gets through.
LEFT_OUT += " and not large"
# Of the registry each layer's passes and captures, which are its kernels; what it is beside them is no kernel's.
LEFT_OUT += " and not another_order and not predicts_the_same and not copied_pickled and not pytorch and not central"


def run(*command: str, simulated: bool = True, measured: bool = False) -> str:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": str(int(simulated))}
    if not measured:
        environment["COVERAGE_PROCESS_CONFIG"] = ""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.mark.parametrize("part", FILES)
def test_in_the_simulator(part: str) -> None:
    options = ["--backend", "cuda", "-q", "--no-cov", "-p", "no:cacheprovider", "-k", LEFT_OUT]
    out = run("-m", "pytest", *options, *(f"tests/{file}" for file in FILES[part]), measured=part == "measured")
    assert " passed" in out


def test_lenet_trains_as_on_the_cpu(tmp_path: Path) -> None:
    losses = {}
    for backend in ("cuda", "cpu"):
        folder = tmp_path / backend
        options = ["--dataset", "shapes", "--limit", "1", "--batch-size", "1", "--epochs", "1"]
        options += ["--output-dir", str(folder)]
        out = run("-m", "examples.train_lenet", "--backend", backend, *options, simulated=backend == "cuda")
        assert out.splitlines()[-1].endswith({"cuda": "cuda:simulator", "cpu": "cpu"}[backend])
        (record,) = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
        losses[backend] = record["train_loss"], record["test_loss"]
    assert losses["cuda"] == pytest.approx(losses["cpu"], abs=1e-5)
