"""The command that trains any of the models: recipes, optimizers, schedules, resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from examples import train
from examples.recipes import RECIPES
from numbacnn import backends
from tests.strategies import SIMULATED

Run = Callable[..., list[dict[str, float]]]

pytestmark = pytest.mark.skipif(SIMULATED, reason="the models are too large for the simulator")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Train on a few of the built-in shapes: the history's records."""

    def run(*options: str, folder: str = "out") -> list[dict[str, float]]:
        output = tmp_path / folder
        fixed = ["--dataset=shapes", "--limit=6", "--batch-size=4", f"--output-dir={output}"]
        assert train.main([*fixed, *options]) == 0
        return [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]

    return run


@pytest.mark.parametrize("name", RECIPES)
def test_every_model_trains(run: Run, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with backends.use_backend("cpu"):
        (record,) = run(f"--model={name}", "--epochs=1")
    assert record["train_loss"] > 0 and record["lr"] == RECIPES[name].lr
    out = capsys.readouterr().out
    size = RECIPES[name].size
    built = RECIPES[name].build(1, 10)
    assert f"output shape:\t{built[0].output_shape((1, 1, size, size))}" in out
    assert out.splitlines()[-1].endswith("examples/sec on cpu")


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.9), ("momentum", 0.09), ("adam", 1e-3), ("adamw", 1e-3)])
def test_optimizers_have_rates_of_their_own(run: Run, optimizer: str, lr: float) -> None:
    with backends.use_backend("reference"):
        (record,) = run("--model=lenet", "--epochs=1", f"--optimizer={optimizer}")
    assert record["lr"] == pytest.approx(lr)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.5, 0.5, 0.5, 0.5]),
        ("step", [0.5, 0.5, 0.05, 0.005]),
        ("cosine", [0.5, 0.5 * 0.8535534, 0.25, 0.5 * 0.1464466]),
    ],
)
def test_schedules_and_resuming(run: Run, tmp_path: Path, schedule: str, rates: list[float]) -> None:
    options = ["--model=lenet", "--lr=0.5", f"--schedule={schedule}"]
    with backends.use_backend("reference"):
        whole = run(*options, "--epochs=4")
        assert [record["lr"] for record in whole] == pytest.approx(rates)
        again = run(*options, "--epochs=4", folder="again")
        assert [record["train_loss"] for record in again] == [record["train_loss"] for record in whole]


def test_one_cycle_goes_up_and_down(run: Run) -> None:
    with backends.use_backend("reference"):
        records = run("--model=lenet", "--epochs=5", "--schedule=one-cycle", "--lr=0.5")
    rates = [record["lr"] for record in records]
    assert rates[0] == pytest.approx(0.5 / 25)
    assert max(rates) > 0.4 and rates[-1] < 0.1


@pytest.mark.parametrize(
    "options",
    [["--schedule=cosine", "--epochs=2"], ["--optimizer=adam", "--epochs=2"], ["--lr=0.4", "--epochs=2"]],
)
def test_other_settings_are_not_resumed(run: Run, tmp_path: Path, options: list[str], capsys) -> None:
    with backends.use_backend("reference"):
        run("--model=lenet", "--epochs=1")
        fixed = ["--model=lenet", "--dataset=shapes", "--limit=6", "--batch-size=4", "--resume"]
        assert train.main([*fixed, f"--output-dir={tmp_path / 'out'}", *options]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and ("cannot resume: " in errors[0] or "is a checkpoint of SGD" in errors[0])


@pytest.mark.parametrize("augment", ["flip", "crop"])
def test_augmented_images_are_other_images(run: Run, augment: str) -> None:
    with backends.use_backend("reference"):
        (plain,) = run("--model=lenet", "--epochs=1", "--lr=0.01")
        (augmented,) = run("--model=lenet", "--epochs=1", "--lr=0.01", f"--augment={augment}", folder="augmented")
    assert plain["train_loss"] != augmented["train_loss"]


def test_a_resumed_run_follows_the_schedule(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = ["--model=lenet", "--epochs=3", "--schedule=one-cycle", "--augment=crop"]
    with backends.use_backend("reference"):
        whole = run(*options)
        run(*options, folder="part")
        stopped = train.fit

        def stop_after_one(*arguments, **named):
            class Stop(train.ProgressBar):
                def on_epoch_end(self, run):
                    raise KeyboardInterrupt

            named["callbacks"] = [*named["callbacks"], Stop()]
            return stopped(*arguments, **named)

        fixed = ["--dataset=shapes", "--limit=6", "--batch-size=4", f"--output-dir={tmp_path / 'part'}"]
        with monkeypatch.context() as patch:
            patch.setattr(train, "fit", stop_after_one)
            assert train.main([*fixed, *options]) == 130
        resumed = run(*options, "--resume", folder="part")
    assert [(r["lr"], r["train_loss"]) for r in resumed] == [(r["lr"], r["train_loss"]) for r in whole]


def test_the_model_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--model=alexanet"]):
        with pytest.raises(SystemExit) as stop:
            train.main(argv)
        assert stop.value.code == 2
    assert "invalid choice: 'alexanet'" in capsys.readouterr().err
