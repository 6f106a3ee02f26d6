"""The benchmark of whole models, on a network that takes a moment."""

from __future__ import annotations

import ctypes
import gc
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest

from bench import machine, model_contenders, model_rows, models, one_step, peers
from bench.contender import Contender
from bench.timing import Timing
from bench.train_contenders import MODELS, Model, Task
from numbacnn import backends, nn
from numbacnn.backends import autotune
from numbacnn.backends.cpu.runtime import allocator
from numbacnn.info import package_version

pytestmark = pytest.mark.skipif(backends.available()["cpu"] is not None, reason="the cpu backend cannot be used")
needs_linux = pytest.mark.skipif(not one_step.MEMORY_RESET.exists(), reason="Linux alone forgets a peak of memory")


def tiny() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)),
    )


def tiny_torch() -> Any:
    from torch import nn as theirs

    return theirs.Sequential(
        *(theirs.Conv2d(1, 2, 3, padding=1), theirs.BatchNorm2d(2), theirs.Conv2d(2, 4, 3), theirs.ReLU()),
        *(theirs.Flatten(), theirs.Dropout(0.5), theirs.Linear(16, 3)),
    )


TINY = Model(tiny, tiny_torch, (1, 4, 4), 3, lr=0.5, batch_size=6)


@pytest.fixture(autouse=True)
def known_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ceilings", lambda: {"peak_gflops": 100.0, "copy_gb_per_second": 10.0})
    monkeypatch.setitem(MODELS, "tiny", TINY)
    monkeypatch.setattr(autotune, "choice", lambda backend, g, pass_: None)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    options = ("--models", "tiny", "--rounds", "2", "--output-dir", str(tmp_path))
    return lambda *more: models.main([*options, *more])


def content_of(folder: Path, backend: str = "cpu") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"models-{backend}.json").read_text(encoding="utf-8"))
    return content


def fixed_times(functions: dict[str, Any], *_: Any, **__: Any) -> dict[str, Timing]:
    seconds = {"numbacnn": 2e-3, "numbacnn session": 1e-3, "torch": 4e-3, "onnxruntime": 3e-3}
    return {name: Timing((seconds.get(name, 5e-3),) * 3) for name in functions}


def test_table_json_and_plot(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert run("--task", "train", "infer") == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(index for index, line in enumerate(lines) if line.startswith("task"))
    expected = [
        ["train", "tiny", "6", "numbacnn"],
        ["infer", "tiny", "1", "numbacnn"],
        ["infer", "tiny", "1", "numbacnn", "session"],
        ["infer", "tiny", "16", "numbacnn"],
        ["infer", "tiny", "16", "numbacnn", "session"],
    ]
    table = lines[header + 1 : header + 6]
    assert [line.split()[: len(cells)] for line, cells in zip(table, expected, strict=True)] == expected

    content = content_of(tmp_path)
    assert (content["benchmark"], content["start"], content["missing"]) == ("models", [], {})
    assert content["settings"]["tasks"] == ["train", "infer"]
    for row in content["rows"]:
        assert row["rounds"] == 2
        assert row["quartiles"][0] <= row["milliseconds"] <= row["quartiles"][1]
        assert row["threads"] == numba.get_num_threads()
        assert row["layer"] == content["machine"]["threading_layer"]
        assert row["share_of_peak"] == pytest.approx(row["gflops"] / 100)
        assert row["difference"] < 1e-5
        assert row["ratio"] is row["best_peer"] is None
    # products and sums of two convolutions, the first one's products with padding left out, and of a linear layer
    first = 2 * 2 * (3 * 4 - 2) ** 2
    forward = first + 2 * (4 * 4 * 18 + 16 * 3)
    rates = [1e3 * row["gflops"] * row["milliseconds"] for row in content["rows"]]
    per_image = [rate * 1e3 / row["batch_size"] for rate, row in zip(rates, content["rows"], strict=True)]
    others = per_image[1] - forward  # those of norm and activation
    assert -1e-9 * forward < others < 0.5 * forward  # rates are rounded
    assert per_image[1:] == pytest.approx([per_image[1]] * 4)
    assert per_image[0] == pytest.approx(3 * per_image[1] - first)
    assert (tmp_path / "models-cpu.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models-cpu.json", "models-cpu.png"]


def test_rows_tell_the_algorithm_of_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get("cpu")
    task = Task(TINY, 6, 6)
    picks = {"forward": "a", "backward_input": "b", "backward_weight": "c"}
    monkeypatch.setattr(backend, "choose_conv2d_algorithm", lambda g, pass_: picks[pass_])
    assert model_contenders.algorithms_of(task, backend, training=False) == "a 2"
    # the first convolution's input needs no gradient
    assert model_contenders.algorithms_of(task, backend, training=True) == "a 2, c 2, b 1"
    monkeypatch.setattr(backend, "choose_conv2d_algorithm", lambda g, pass_: "loops" if g.c == 1 else "im2col")
    assert model_contenders.algorithms_of(task, backend, training=True) == "im2col 3, loops 2"
    # what numbacnn.tune has found goes before
    monkeypatch.setattr(autotune, "choice", lambda backend, g, pass_: "tuned" if pass_ == "backward_weight" else None)
    assert model_contenders.algorithms_of(task, backend, training=True) == "tuned 2, im2col 2, loops 1"


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
def test_ratios_are_those_of_the_best_peer(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "interleave", fixed_times)
    # Compiling takes a minute and is PyTorch's business.
    monkeypatch.setattr("torch.compile", lambda model, **_: model)
    alone = [name for name in ("onnxruntime", "openvino") if package_version(name)]
    best, best_time = ("onnxruntime", 3.0) if "onnxruntime" in alone else ("torch", 4.0)
    import torch

    threads = torch.get_num_threads()
    try:
        assert run("--task", "train", "infer", "--peer", "torch", *alone) == 0
    finally:
        torch.set_num_threads(threads)
    content = content_of(tmp_path)
    assert content["missing"] == {}
    assert content["versions"]["torch"] == torch.__version__
    rows = {(row["task"], row["batch_size"], row["contender"]): row for row in content["rows"]}
    ways = ["torch", "torch channels_last", "torch.compile"]
    of_inference = ["numbacnn", "numbacnn session", *ways, "torch.compile frozen", *alone]
    assert list(rows) == [
        *(("train", 6, name) for name in ("numbacnn", *ways)),
        *(("infer", batch, name) for batch in (1, 16) for name in of_inference),
    ]
    assert rows["train", 6, "numbacnn"]["ratio"] == pytest.approx(2)
    assert rows["train", 6, "numbacnn"]["best_peer"] == "torch"
    for batch in (1, 16):
        ours, session = (rows["infer", batch, name] for name in of_inference[:2])
        assert ours["best_peer"] == session["best_peer"] == best
        assert (ours["ratio"], session["ratio"]) == pytest.approx((best_time / 2, best_time))
        assert rows["infer", batch, "torch"]["ratio"] is None
        assert rows["infer", batch, "torch"]["algorithm"] == "eager"
    for row in rows.values():
        assert row["difference"] < 1e-4


def wrong(logits: np.ndarray) -> Any:
    return lambda: Contender(lambda: logits)


@pytest.mark.parametrize(
    ("logits", "difference"),
    [(np.full((1, 3), 1e3, np.float32), r"\d"), (np.full((1, 3), np.nan), "nan"), (np.zeros((1, 2)), "inf")],
)
def test_other_logits_stop_the_run(
    logits: np.ndarray, difference: str, run: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers = model_rows.inference_makers
    monkeypatch.setattr(model_rows, "inference_makers", lambda *a: {**makers(*a), "onnxruntime": wrong(logits)})
    assert run("--task", "infer") == 1
    error = capsys.readouterr().err
    start = "error: tiny 1: onnxruntime: its logits differ from ours by "
    assert error.startswith(start) and error.count("\n") == 1
    assert re.match(difference, error.removeprefix(start))
    assert not list(tmp_path.iterdir())


def test_who_cannot_take_part_is_reported(run: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    def refuse() -> Any:
        raise RuntimeError("no such\noperator")

    makers = model_rows.inference_makers
    monkeypatch.setattr(model_rows, "inference_makers", lambda *a: {**makers(*a), "onnxruntime": refuse})
    assert run("--task", "infer") == 0
    assert "infer tiny 16 onnxruntime: missing: no such operator" in capsys.readouterr().out.splitlines()
    assert content_of(tmp_path)["missing"] == dict.fromkeys(
        ("infer tiny 1 onnxruntime", "infer tiny 16 onnxruntime"), "no such operator"
    )


def test_the_time_of_a_peer_with_other_logits_does_not_count(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def makers(task: Task, *more: Any) -> dict[str, Any]:
        found = original(task, *more)
        return {**found, "onnxruntime": found["numbacnn"], "openvino": wrong(np.full((task.batch_size, 3), 1e3))}

    original = model_rows.inference_makers
    monkeypatch.setattr(model_rows, "inference_makers", makers)
    assert run("--task", "infer") == 0
    content = content_of(tmp_path)
    assert {row["contender"] for row in content["rows"]} == {"numbacnn", "numbacnn session", "onnxruntime"}
    assert content["missing"]["infer tiny 1 openvino"].startswith("its logits differ from ours by ")


def test_threads_from_one_to_all(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = numba.get_num_threads()
    for module in (models, model_rows):
        monkeypatch.setattr(module, "SCALED", "tiny")
    monkeypatch.setattr(model_rows, "peak_gflops", lambda threads: 50.0 * threads)
    seen = []

    def time_all(functions: dict[str, Any], **_: Any) -> dict[str, Timing]:
        seen.append(numba.get_num_threads())
        return fixed_times(functions)

    monkeypatch.setattr(models, "interleave", time_all)
    assert run("--task", "threads", "--batch-size", "5") == 0
    rows = content_of(tmp_path)["rows"]
    assert seen == [row["threads"] for row in rows] == list(range(1, most + 1))
    assert {(row["task"], row["batch_size"], row["contender"]) for row in rows} == {("threads", 5, "numbacnn")}
    shares = [row["gflops"] / (50 * row["threads"]) for row in rows]
    assert [row["share_of_peak"] for row in rows] == pytest.approx(shares)
    assert numba.get_num_threads() == most
    assert [path.name for path in tmp_path.iterdir()] == ["models-cpu.json"]


@needs_linux
def test_memory_of_a_step_in_a_process_of_its_own() -> None:
    figures = one_step.measure("memory", "numbacnn", "lenet", 64, "cpu", 1)
    assert figures["bytes"] > 0 and figures["bytes_before"] > 1 << 20
    more = one_step.measure("memory", "numbacnn", "lenet", 1024, "cpu", 1)
    # the first activation alone, of 6 channels of 28x28 pixels
    assert more["bytes"] - figures["bytes"] > 960 * 4 * 6 * 28 * 28


@needs_linux
def test_memory_has_in_it_what_is_built(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Built(SimpleNamespace):
        def __init__(self, *_: Any) -> None:
            weights = np.ones(1 << 25)
            super().__init__(weights=weights, batches=lambda epoch: iter([(0, 0)]), step=max, wait=lambda: None)

    monkeypatch.setattr(one_step, "Ours", Built)
    options = ("--contender", "numbacnn", "--model", "tiny", "--batch-size", "2", "--backend", "cpu")
    # What earlier tests left behind, gigabytes perhaps, is given back before it is measured and not meanwhile.
    gc.collect()
    allocator.release()
    ctypes.CDLL(None).malloc_trim(0)
    assert one_step.main(["memory", *options, "--threads", "1", "--started", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] > 1 << 27  # but for what else is given back meanwhile


@pytest.mark.torch
@needs_linux
def test_memory_of_pytorch_s_step() -> None:
    assert one_step.measure("memory", "torch", "lenet", 64, "cpu", 1)["bytes"] > 0


def test_the_first_start_fills_the_cache_of_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "another"))
    figures = one_step.measure("start", "numbacnn", "lenet", 2, "reference", 1, tmp_path)
    assert figures["seconds"] > 0
    assert not any(path.is_file() for path in tmp_path.rglob("*"))  # the reference backend compiles nothing
    one_step.measure("start", "numbacnn", "lenet", 2, "cpu", 1, tmp_path)
    assert any(path.is_file() for path in tmp_path.glob("numbacnn/**/*"))
    assert not (tmp_path / "another").exists()


def test_a_process_that_fails() -> None:
    with pytest.raises(RuntimeError, match="invalid choice: 'none'"):
        one_step.measure("start", "numbacnn", "none", 2, "cpu", 1)


def test_tables_of_memory_and_start(run: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    folders = []

    def measure(what: str, contender: str, *more: Any) -> dict[str, Any]:
        calls.append((what, contender, *more[:3]))
        if what == "memory":
            if more[0] == "lenet" and contender == "torch":
                raise RuntimeError("Killed")
            return {"bytes": 1 << (20 if contender == "numbacnn" else 22), "bytes_before": 3 << 20}
        folders.append(more[-1])
        return {"seconds": 8.0 if contender == "torch" else 4.0 + len(folders) % 3}

    monkeypatch.setattr(one_step, "measure", measure)
    monkeypatch.setattr(one_step, "MEMORY_RESET", tmp_path)
    monkeypatch.setattr(
        peers, "load", lambda *_: SimpleNamespace(names=("torch",), packages=(), libraries={}, missing={})
    )
    options = ("--models", "tiny", "lenet", "--task", "memory", "start", "--peer", "torch", "--batch-size", "5")
    assert run(*options) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["tiny", "5", "numbacnn", "1.0", "3.0", "4.00"] in lines
    assert ["tiny", "5", "torch", "4.0", "3.0"] in lines
    assert ["lenet", "5", "numbacnn", "1.0", "3.0"] in lines
    content = json.loads((tmp_path / "memory-cpu.json").read_text(encoding="utf-8"))
    assert [(row["model"], row["contender"], row["ratio"]) for row in content["rows"]] == [
        *(("tiny", "numbacnn", 4.0), ("tiny", "torch", None), ("lenet", "numbacnn", None))
    ]
    assert content["missing"] == {"memory lenet 5 torch": "Killed"}
    # kernels are compiled in a process that is not measured
    assert [call[1:3] for call in calls if call[0] == "memory"][:3] == [("numbacnn", "tiny")] * 2 + [("torch", "tiny")]
    assert {call[2:] for call in calls if call[0] == "start"} == {("lenet", 5, "cpu")}
    content = content_of(tmp_path)
    assert content["missing"] == {}
    assert [(row["contender"], row["kernel_cache"], row["samples"]) for row in content["start"]] == [
        *(("numbacnn", "empty", [5.0, 5.0]), ("numbacnn", "full", [6.0, 6.0]), ("torch", None, [8.0, 8.0]))
    ]
    assert folders[0] == folders[1] == folders[2] != folders[3]
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "none"], "invalid choice: 'none'"),
        (["--task", "sleep"], "invalid choice: 'sleep'"),
        (["--peer", "keras"], "invalid choice: 'keras'"),
        (["--batch-size", "0"], "'0' must be a whole number"),
        (["--budget", "1"], "not allowed with argument --rounds"),
    ],
)
def test_bad_options(options: list[str], message: str, run: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("peer", ["torch", "onnxruntime", "openvino"])
def test_without_a_peer_the_extra_is_named(peer: str, run: Any, capsys: Any, monkeypatch: Any) -> None:
    for name in ("torch", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run("--peer", peer) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: peer {peer} cannot be imported")
    assert error.endswith('pip install "numbacnn[bench]"\n')


def test_memory_needs_linux(run: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_step, "MEMORY_RESET", tmp_path / "none")
    assert run("--task", "memory") == 2
    assert capsys.readouterr().err == f"error: --task memory needs {tmp_path / 'none'}, which Linux has\n"


@pytest.mark.parametrize("task", ["memory", "threads"])
def test_tasks_of_the_host_are_not_the_gpu_s(task: str, run: Any, capsys: Any, monkeypatch: Any) -> None:
    backend = backends.get("cpu")
    monkeypatch.setattr(backend, "asynchronous", True)
    assert run("--task", task) == 2
    assert capsys.readouterr().err.startswith(f"error: --task {task} is of backends on the CPU, not of ")


def test_a_gpu_s_usual_tasks() -> None:
    assert models.parse_arguments(["--backend", "cuda"]).task == ["train", "infer"]
    assert models.parse_arguments([]).task == ["train", "infer", "memory"]
