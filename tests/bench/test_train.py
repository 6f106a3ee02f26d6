"""The benchmark of training, on a network that takes a moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import config

from bench import gpu, machine, peers, train
from bench.train_contenders import MODELS, Model, Ours, Task
from numbacnn import backends, nn
from numbacnn.backends import Backend

pytestmark = pytest.mark.skipif(backends.available()["cpu"] is not None, reason="the cpu backend cannot be used")


def tiny_torch() -> Any:
    import torch

    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))


TINY = Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), tiny_torch, (1, 2, 2), 3, lr=0.5)


@pytest.fixture(autouse=True)
def known_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ceilings", lambda: {"peak_gflops": 100.0, "copy_gb_per_second": 10.0})
    monkeypatch.setitem(MODELS, "tiny", TINY)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    options = ("--model", "tiny", "--batch-size", "4", "--examples", "14", "--epochs", "3")
    return lambda *more: train.main([*options, "--output-dir", str(tmp_path), *more])


class Fake:
    """A contender that trains nothing and has the loss that it is given."""

    mode = "fake"

    def __init__(self, name: str, loss: float, precision: str = "float32") -> None:
        self.name, self.loss, self.precision = name, loss, precision
        self.calls: list[str] = []

    def batches(self, epoch: int) -> Iterator[tuple[int, int]]:
        self.calls.append(f"epoch {epoch}")
        return iter([(0, 0)] * 2)

    def step(self, x: int, y: int) -> None:
        self.calls.append("step")

    def wait(self) -> None:
        self.calls.append("wait")

    def mean_loss(self) -> float:
        return self.loss


def test_table_and_json(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "tiny on cpu: epochs of 3 steps of 4 examples"
    assert lines[2].split()[:3] == ["contender", "mode", "examples/s"]
    assert lines[3].split()[:2] == ["numbacnn", "plain" if config.DISABLE_JIT else "captured"]
    content = json.loads((tmp_path / "train-tiny-cpu.json").read_text(encoding="utf-8"))
    assert (content["settings"]["steps"], content["settings"]["peers"], content["missing"]) == (3, [], {})
    (row,) = content["rows"]
    median = sorted(row["epoch_seconds"])[1]
    assert len(row["epoch_seconds"]) == 3
    assert row["examples_per_second"] == pytest.approx(12 / median)
    assert row["milliseconds_per_step"] == pytest.approx(1e3 * median / 3)
    assert row["host_milliseconds_per_step"] > 0
    assert (row["threads"], row["layer"]) == (content["machine"]["threads"], content["machine"]["threading_layer"])
    assert row["algorithm"] == ""  # it has no convolution
    assert row["launches_per_step"] is row["launches_plain_step"] is None
    assert 0.5 < row["first_epoch_loss"] < 2


def test_ours_trains_as_the_definition_on_every_backend(backend: Backend) -> None:
    task = Task(TINY, examples=14, batch_size=4)
    ours, definition = Ours(task, backend), Ours(task, backends.get("reference"))
    losses = [train.one_epoch(ours, epoch)[1] for epoch in range(2)]
    assert losses == pytest.approx([train.one_epoch(definition, epoch)[1] for epoch in range(2)], rel=1e-4)
    assert train.host_seconds(ours) > 0
    if backend.name == "cuda":
        assert (ours.mode, ours.last_launches) == ("captured", 1)
        assert ours.first_launches is not None and ours.first_launches > 1
        row = train.measure([ours], task, 3)[0]
        assert f"1 (graph of {ours.first_launches})" in train.cells_of(row)
    else:
        plain = backend.name == "reference" or config.DISABLE_JIT
        assert (ours.mode, ours.last_launches) == ("plain" if plain else "captured", None)


def test_contenders_train_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "PAUSE", 0.0)
    log: list[str] = []
    fakes = [Fake("a", 1.0), Fake("b", 1.0)]
    for fake in fakes:
        fake.calls = log
    rows = train.measure(fakes, Task(TINY, 8, 4), 3)
    epochs = [call for call in log if call.startswith("epoch")]
    assert epochs == ["epoch 1", "epoch 1", "epoch 2", "epoch 2", "epoch 3", "epoch 3", "epoch 0", "epoch 0"]
    assert log[:4] == ["epoch 1", "step", "step", "wait"]
    # the host's time: nothing is left to do before a step
    assert log[-6:] == ["epoch 0", "wait", "step", "wait", "step", "wait"]
    assert rows[0]["time_over_ours"] == 1.0


def test_who_cannot_take_part_is_reported(run: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    def refuse() -> Any:
        raise RuntimeError("no compiler\nwas found")

    fakes = {"numbacnn": lambda: Fake("numbacnn", 2.0), "torch": lambda: Fake("torch", 2.01), "torch.compile": refuse}
    monkeypatch.setattr(train, "makers", lambda *_: fakes)
    assert run() == 0
    assert "torch.compile: missing: no compiler was found" in capsys.readouterr().out.splitlines()
    content = json.loads((tmp_path / "train-tiny-cpu.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in content["rows"]] == ["numbacnn", "torch"]
    assert content["missing"] == {"torch.compile": "no compiler was found"}


@pytest.mark.parametrize("loss", [2.1, float("nan")])
def test_another_loss_stops_the_run(loss: float, run: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    fakes = {"numbacnn": lambda: Fake("numbacnn", 2.0), "torch": lambda: Fake("torch", loss)}
    monkeypatch.setattr(train, "makers", lambda *_: fakes)
    assert run() == 1
    error = capsys.readouterr().err
    assert error == f"error: after the same epoch torch has the loss {loss:.4f}, ours is 2.0000\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "2"], "2 must be at least 3"),
        (["--batch-size", "0"], "'0' must be a whole number"),
        (["--model", "none"], "invalid choice: 'none'"),
    ],
)
def test_bad_options(options: list[str], message: str, run: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_too_few_examples(run: Any, capsys: Any) -> None:
    assert run("--examples", "3") == 2
    assert capsys.readouterr().err == "error: --examples 3 are fewer than the 4 of a batch\n"


@pytest.mark.skipif(backends.available()["cuda"] is None, reason="the cuda backend can be used")
def test_without_a_gpu_the_reason_is_given(run: Any, tmp_path: Path, capsys: Any) -> None:
    assert run("--backend", "cuda") == 2
    assert capsys.readouterr().err == f"error: backend 'cuda' cannot be used: {backends.available()['cuda']}\n"
    assert not list(tmp_path.iterdir())


def test_the_gpu_s_figures_are_those_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "describe", lambda: {"gpu": "one", "multiprocessors": 2, "capability": [9, 0],
                                                  "clock_mhz": 500.0, "driver": None, "cuda": "13.0"})  # fmt: skip
    monkeypatch.setattr(gpu, "copy_bandwidth", lambda: 7.0)

    class Cuda:
        name = "cuda"

    found: Any = machine.examine(Cuda())  # type: ignore[arg-type]
    assert (found.peak, found.bandwidth) == (256.0, 7.0)
    assert found.title.startswith("one, 2 multiprocessors")
    assert found.facts["host"]["cpu"]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_torch_trains_the_same(name: str) -> None:
    import torch

    if name == "cuda" and (not torch.cuda.is_available() or backends.available()["cuda"] is not None):
        pytest.skip("no GPU for both")
    threads = torch.get_num_threads()
    try:
        rivals = peers.load(["torch"], 1, name)
        for model in (TINY, MODELS["lenet"]):
            makers = train.makers(Task(model, examples=9, batch_size=4), backends.get(name), rivals)
            assert list(makers) == [
                *("numbacnn", "torch", "torch channels_last", "torch.compile"),
                *["torch.compile channels_last", "torch CUDA graph", "torch CUDA graph channels_last"]
                * (name == "cuda"),
            ]
            for compiled in [name for name in makers if "compile" in name]:
                del makers[compiled]
            contenders = [make() for make in makers.values()]
            losses = [[train.one_epoch(contender, epoch)[1] for epoch in range(2)] for contender in contenders]
            for other in losses[1:]:
                assert losses[0] == pytest.approx(other, rel=1e-3)
            assert not np.isclose(losses[0][0], losses[0][1], rtol=1e-6)
    finally:
        torch.set_num_threads(threads)
