"""The GPU's description and its ceilings."""

from __future__ import annotations

import numba
import pytest

from bench import gpu, machine
from bench.command import UserError
from numbacnn import backends

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
    # NVIDIA's data sheet of the H200 says 989 and 495 TFLOP/s in bfloat16 and TF32, at a lower clock than the highest.
    assert ceilings["peak_gflops_tf32"] == pytest.approx(535265, rel=1e-5)
    assert ceilings["peak_gflops_tf32x3"] == pytest.approx(535265 / 3, rel=1e-5)
    assert ceilings["peak_gflops_bf16"] == pytest.approx(2 * 535265, rel=1e-5)
    assert gpu.ceilings({**H200, "capability": [8, 0]})["peak_gflops"] == pytest.approx(66908.16 / 2)
    assert "peak_gflops_tf32" not in gpu.ceilings({**H200, "capability": [7, 5]})
    assert gpu.title(H200) == "NVIDIA H200, 132 multiprocessors at up to 1980 MHz, driver 580.95 (CUDA 13.0)"
    assert "driver unknown" in gpu.title({**H200, "driver": None})
    limits = machine.Machine("", ceilings).limits
    assert limits.startswith("ceilings: 66908.2 GFLOP/s in float32 (computed: 132")
    assert limits.endswith("copying 4000.0 GB/s")


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
