"""The GPU's description and its ceilings."""

from __future__ import annotations

from typing import get_args

import numba
import pytest

from bench import gpu, machine
from bench.command import UserError
from numbacnn import backends, precision
from numbacnn.backends.contract import ConvPass
from numbacnn.backends.geometry import Conv2dGeometry

H200 = {
    "gpu": "NVIDIA H200", "multiprocessors": 132, "capability": [9, 0], "clock_mhz": 1980.0, "memory_bytes": 150 << 30,
    "driver": "580.95", "cuda": "13.0",
}  # fmt: skip
WITH_CUDA = pytest.mark.skipif(backends.available()["cuda"] is not None, reason="the cuda backend cannot be used")


def test_the_peak_is_computed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "copy_bandwidth", lambda: 4000.0)
    ceilings = gpu.ceilings(H200)
    assert ceilings["peak_gflops"] == pytest.approx(66908.16)
    assert ceilings["peak_origin"] == "computed: 132 multiprocessors x 128 x 2 x the maximum clock"
    assert gpu.ceilings({**H200, "capability": [8, 0]})["peak_gflops"] == pytest.approx(66908.16 / 2)
    assert gpu.title(H200) == "NVIDIA H200, 132 multiprocessors at up to 1980 MHz, driver 580.95 (CUDA 13.0)"
    assert "driver unknown" in gpu.title({**H200, "driver": None})
    limits = machine.Machine("", ceilings).limits
    assert limits.startswith("ceilings: 66908.2 GFLOP/s in float32 (computed: 132")
    assert limits.endswith("copying 4000.0 GB/s")


def test_the_peak_of_tensor_cores() -> None:
    facts = {**H200, **{"peak_gflops": 66908.16}}
    peaks = {mode: machine.Machine("", facts).peak_in(mode) for mode in ("float32", "tf32", "tf32x3", "bf16")}
    assert peaks["float32"] == 66908.16
    # 2048 and 4096 operations of a multiprocessor in a cycle
    assert peaks["tf32"] == pytest.approx(132 * 2048 * 1.98) and peaks["bf16"] == pytest.approx(132 * 4096 * 1.98)
    assert peaks["tf32x3"] == pytest.approx(peaks["tf32"] / 3)
    assert gpu.peak_over_float32({"capability": [8, 9]}, "tf32") == 1
    assert machine.Machine("", {"peak_gflops": 100.0}).peak_in("float32") == 100


@WITH_CUDA
@pytest.mark.parametrize(
    ("descriptor", "found"),
    [
        ("n1c16h4k16r3s1p1", ["tf32"] * 3),
        ("n1c3h8k16r3s1p1", ["tf32", "float32", "tf32"]),  # three rows of an input gradient
        ("n1c16h3k16r1s1p0", ["float32", "float32", "tf32"]),  # nine pixels
    ],
)
def test_what_is_multiplied(descriptor: str, found: list[str]) -> None:
    g = Conv2dGeometry.parse(descriptor)
    with precision("tf32"):
        assert [gpu.operands(g, pass_, "implicit_gemm") for pass_ in get_args(ConvPass)] == found
        assert gpu.operands(g, "forward", "loops") == "float32"
    assert gpu.operands(g, "forward", "implicit_gemm") == "float32"


@WITH_CUDA
def test_description() -> None:
    if numba.config.ENABLE_CUDASIM:
        with pytest.raises(UserError, match="benchmarks need a GPU"):
            gpu.describe()
        return
    found = gpu.describe()
    assert found.keys() == H200.keys()
    assert found["gpu"]
    assert 100 < found["clock_mhz"] < 10_000
    assert found["capability"] >= [8, 0]


@WITH_CUDA
def test_bandwidth_is_a_rate() -> None:
    size = 1 << 10 if numba.config.ENABLE_CUDASIM else 1 << 26
    assert gpu.copy_bandwidth(size, seconds=0.01) > 0
