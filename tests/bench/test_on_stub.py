"""The commands that measure on a GPU, from options to files, beside a driver that has none: see stub_driver.c.

Kernels are neither compiled nor run, and nothing is compared: what is tested is that all of the way is walked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.backends.cuda.conftest import library, run  # noqa: F401 - fixtures

PREPARED = """
import sys
from tests.bench import cudnn_stub as stub
sys.modules["cudnn"] = stub
from bench import conv, conv_rows, cudnn_conv, gpu, model_rows, models, report, train, train_contenders
from numbacnn.backends.cuda.runtime import kernel
kernel.Kernel._machine_code = lambda self, key, device: 0x7000
gpu.describe = lambda: {"gpu": "none", "multiprocessors": 132, "capability": [9, 0], "clock_mhz": 2000.0,
                        "driver": None, "cuda": "13.0"}
report.impossible = lambda content: []
def check(judges, g, pass_):
    return {name: 0.0 * (judge.run() is None) for name, judge in judges.items()}, {}
conv_rows.check = check
gpu.copy_bandwidth = lambda: 4000.0
model_rows.largest_difference = lambda result, ours: 0.0
train_contenders.Ours.mean_loss = lambda self: 1.0
"""


def test_commands_on_a_gpu(run: Callable[..., list[str]], tmp_path: Path) -> None:  # noqa: F811
    run(
        PREPARED
        + f"""
warnings.simplefilter("error", RuntimeWarning)  # nothing keeps a step from being captured
written = conv.write_results
lengths = []
def noted(*arguments, **tables):
    lengths.append(len(tables["rows"]))
    written(*arguments, **tables)
conv.write_results = models.write_results = noted
usual = ["--backend", "cuda", "--output-dir", {str(tmp_path)!r}]
problems = ["--problem", "n2c4h5k6r3p1", "n1c4h5k6r1", "--peer", "cudnn", "--algorithm", "loops", "implicit_gemm"]
assert conv.main([*usual, *problems, "--rounds", "1"]) == 0
per_problem = 3 * (2 + 3)  # passes; both algorithms in float32, one in each other precision
assert lengths == [per_problem, 2 * per_problem, 2 * per_problem]
lengths.clear()
assert models.main([*usual, "--models", "lenet", "--batch-size", "4", "--rounds", "1"]) == 0
assert lengths == [4, 12, 20, 20]  # a step in each precision, inference in two ways of two batches
options = ["--epochs", "3", "--examples", "12", "--batch-size", "4", "--precision", "float32", "bf16"]
assert train.main([*usual, *options]) == 0
        """
    )
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")}
    content = found["conv-cuda"]
    assert content["versions"]["cuDNN"] == "9.28.1"
    assert content["settings"]["precisions"] == ["float32", "tf32", "tf32x3", "bf16"]
    peaks = {"float32": 67584.0, "tf32": 540672.0, "tf32x3": 180224.0, "bf16": 1081344.0}
    for row in content["rows"]:
        # Ours in three products is beside peers in float32, whose accuracy it has.
        expected = "float32" if row["precision"] == "tf32x3" else row["precision"]
        assert row["peer_precision"] == expected
        assert row["peer"].startswith("cudnn" + f"-{expected}" * (expected != "float32"))
        assert row["share_of_peak"] == row["gflops"] / peaks[row["precision"]]
        assert {other["precision"] for other in row["others"].values()} == {"float32", "tf32", "bf16"}
        assert row["layout"] == "nchw" and row["peer_algorithm"].startswith("eng")
    means = [entry["name"] for entry in content["summary"]]
    assert [name for name in means if name.startswith("implicit_gemm")] == [
        "implicit_gemm", "implicit_gemm-tf32", "implicit_gemm-tf32x3", "implicit_gemm-bf16"
    ]  # fmt: skip
    assert "the best peer-bf16" in means
    steps = [row for row in found["models-cuda"]["rows"] if row["task"] == "train"]
    assert [row["contender"] for row in steps[:4]] == [
        "numbacnn", "numbacnn-tf32", "numbacnn-tf32x3", "numbacnn-bf16"
    ]  # fmt: skip
    for row in found["train-lenet-cuda"]["rows"]:
        assert row["mode"] == "captured" and row["launches_per_step"] == 1 < row["launches_plain_step"]
