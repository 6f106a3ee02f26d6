"""The command that trains any of the models: recipes, optimizers, schedules, resuming."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples import pictures
from numbacnn import backends, data, nn
from numbacnn.cli import train
from numbacnn.cli.recipes import RECIPES
from numbacnn.command_line import UserError
from numbacnn.io.arrays import read_arrays, write_arrays
from numbacnn.training import Callback, History, fit
from tests.strategies import SIMULATED

Run = Callable[..., list[dict[str, float]]]
ROOT = Path(__file__).parents[2]

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


def learning(records: list[dict[str, float]]) -> list[dict[str, float]]:
    """The history without what depends on time."""
    return [{name: value for name, value in record.items() if "second" not in name} for record in records]


@pytest.mark.parametrize("name", RECIPES)
def test_every_model_trains(run: Run, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with backends.use_backend("cpu"):
        (record,) = run(f"--model={name}", "--epochs=1", "--limit=4")
    assert record["train_loss"] > 0
    assert record["lr"] == RECIPES[name].lr or "schedule" in RECIPES[name].options
    out = capsys.readouterr().out
    size = RECIPES[name].size
    built = RECIPES[name].build(1, 10)
    assert f"output shape:\t{built[0].output_shape((1, 1, size, size))}" in out
    assert out.splitlines()[-1].endswith("examples/sec on cpu")


RATES = {"sgd": 0.9, "momentum": 0.09, "rmsprop": 1e-3, "adagrad": 1e-2, "adam": 1e-3, "adamw": 1e-3, "nadam": 2e-3,
         "lion": 3e-4}  # fmt: skip
"""For LeNet."""


@pytest.mark.parametrize("optimizer", train.OPTIMIZERS)
def test_optimizers_have_rates_of_their_own(run: Run, optimizer: str) -> None:
    with backends.use_backend("reference"):
        (record,) = run("--model=lenet", "--epochs=1", f"--optimizer={optimizer}")
    assert record["lr"] == pytest.approx(RATES[optimizer])


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


@pytest.mark.parametrize(("epochs", "rates"), [(1, [0.5]), (2, [0.5, 0.05]), (3, [0.5, 0.05, 0.005])])
def test_a_rate_is_not_divided_before_it_was_used(run: Run, epochs: int, rates: list[float]) -> None:
    with backends.use_backend("reference"):
        records = run("--model=lenet", "--lr=0.5", "--schedule=step", f"--epochs={epochs}")
    assert [record["lr"] for record in records] == pytest.approx(rates)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run["settings"].pop("schedule"), "has the state None of the schedule"),
        (lambda run: run["settings"].update(schedule=[1]), r"has the state \[1\] of the schedule"),
        (lambda run: run["settings"]["schedule"].update(count=0), "must have {'count': "),
        (lambda run: run["settings"]["schedule"].update(count=10**400), "must have {'count': "),
        (lambda run: run["settings"]["schedule"].update(base_lr=-1), "must have {'count': "),
        (lambda run: run.update(history=[]), "is of epoch 1, its history of 0"),
        (lambda run: run.update(epoch=2), "`history` has 1 records"),
        (lambda run: run["history"][0].update(epoch=2), "record 1 of the history must be of epoch 1"),
        (lambda run: run["history"][0].update(seconds=0), "record 1 of the history must have rates and seconds"),
        (lambda run: run.update(settings={}), "cannot resume: .* was made with"),
    ],
)
def test_a_tampered_checkpoint_is_one_line(
    run: Run, tmp_path: Path, schedule: str, change: Callable[[dict], object], message: str, capsys
) -> None:
    path = tmp_path / "out" / "checkpoint.safetensors"
    options = ["--model=lenet", f"--schedule={schedule}", "--epochs=2"]
    fixed = ["--dataset=shapes", "--limit=6", "--batch-size=4", f"--output-dir={tmp_path / 'out'}", "--resume"]
    with backends.use_backend("reference"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "fit", one_epoch)
            run(*options)
        arrays, metadata = read_arrays(path)
        checkpoint = json.loads(metadata["numbacnn.checkpoint"])
        change(checkpoint)
        write_arrays(path, arrays, {"numbacnn.checkpoint": json.dumps(checkpoint)})
        assert train.main([*fixed, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and re.search(message, line)


def one_epoch(*arguments: Any, callbacks: list[Callback], **options: Any) -> History:
    """``fit`` as of a run that ends after the first of its epochs."""
    return fit(*arguments, callbacks=[*callbacks, EarlyEnd()], **options)


class EarlyEnd(Callback):
    def on_epoch_end(self, run: Any) -> None:
        run.stop = True


def test_one_cycle_goes_up_and_down(run: Run) -> None:
    with backends.use_backend("reference"):
        records = run("--model=lenet", "--epochs=5", "--schedule=one-cycle", "--lr=0.5")
    rates = [record["lr"] for record in records]
    assert rates[0] == pytest.approx(0.5 / 25)
    assert max(rates) > 0.4 and rates[-1] < 0.1


@pytest.mark.parametrize(
    "options",
    [
        ["--schedule=cosine"],
        ["--optimizer=adam"],
        ["--lr=0.4"],
        ["--weight-decay=0.1"],
        ["--clip-norm=1"],
        ["--label-smoothing=0.1"],
        ["--average=0.9"],
        ["--patience=3"],
        ["--accumulate=2"],
        ["--micro-batch=2"],
    ],
)
def test_other_settings_are_not_resumed(run: Run, tmp_path: Path, options: list[str], capsys) -> None:
    with backends.use_backend("reference"):
        run("--model=lenet", "--epochs=1")
        fixed = ["--model=lenet", "--dataset=shapes", "--limit=6", "--batch-size=4", "--resume"]
        assert train.main([*fixed, f"--output-dir={tmp_path / 'out'}", "--epochs=2", *options]) == 2
    errors = capsys.readouterr().err.splitlines()
    refusals = ("cannot resume: ", "is a checkpoint of SGD", "has no averages of the weights")
    assert len(errors) == 1 and any(refusal in errors[0] for refusal in refusals)


def test_checkpoints_that_do_not_tell_of_later_options_resume(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "out" / "checkpoint.safetensors"
    with backends.use_backend("reference"):
        run("--model=lenet", "--epochs=1")
        arrays, metadata = read_arrays(path)
        checkpoint = json.loads(metadata["numbacnn.checkpoint"])
        for name in train.DEFAULTS:
            del checkpoint["settings"][name]
        write_arrays(path, arrays, {"numbacnn.checkpoint": json.dumps(checkpoint)})
        assert len(run("--model=lenet", "--epochs=2", "--resume")) == 2


def test_the_averages_are_evaluated_and_saved(run: Run, tmp_path: Path) -> None:
    options = ["--model=lenet", "--lr=0.5"]
    with backends.use_backend("reference"):
        whole = run(*options, "--epochs=3", "--average=0.5", folder="whole")
        run(*options, "--epochs=1", "--average=0.5")
        assert learning(run(*options, "--epochs=3", "--average=0.5", "--resume")) == learning(whole)
        plain = run(*options, "--epochs=3", folder="plain")
    assert [r["train_loss"] for r in plain] == [r["train_loss"] for r in whole]
    assert [r["test_loss"] for r in plain] != [r["test_loss"] for r in whole]
    whole_weights, weights, plain_weights = (
        (tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "out", "plain")
    )
    assert whole_weights == weights != plain_weights
    arrays, _ = read_arrays(tmp_path / "out" / "checkpoint.safetensors")
    saved, _ = read_arrays(tmp_path / "out" / "model.safetensors")
    for name, array in saved.items():
        np.testing.assert_array_equal(array, arrays[f"average.{name}"], err_msg=name)


def test_what_is_cut_at_the_same_places_has_the_same_bits(run: Run, tmp_path: Path) -> None:
    fixed = ["--model=lenet", "--lr=0.1", "--schedule=one-cycle"]
    with backends.use_backend("reference"):
        whole = run(*fixed, "--epochs=2", "--batch-size=4", "--micro-batch=2", folder="whole")
        run(*fixed, "--epochs=2", "--batch-size=2", "--accumulate=2")
    assert len(whole) == 2
    first, second = ((tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "out"))
    assert first == second


@pytest.mark.parametrize(
    "option", ["--weight-decay=0.5", "--clip-norm=0.01", "--label-smoothing=0.5", "--accumulate=2", "--micro-batch=2"]
)
def test_options_of_the_steps_change_the_bits(run: Run, option: str) -> None:
    with backends.use_backend("reference"):
        plain = run("--model=lenet", "--epochs=1", "--lr=0.1")
        other = run("--model=lenet", "--epochs=1", "--lr=0.1", option, folder="other")
    assert learning(plain) != learning(other)


@pytest.mark.parametrize("optimizer", train.OPTIMIZERS)
def test_weight_decay_leaves_norms_and_biases_alone(optimizer: str) -> None:
    images, decay = data.shapes("train", size=1), {"adamw": 0.01, "lion": 0.1}.get(optimizer, 0)
    for options, expected in ([], decay), (["--weight-decay=0.25"], 0.25), (["--weight-decay=0"], 0):
        argv = ["--model=lenet-bn", f"--optimizer={optimizer}", *options]
        model, made = train.new_model(train.parse_arguments(argv, None, "train"), images)
        assert made.weight_decay == expected
        before = model.state_dict()
        made.zero_grad()
        made.step()
        parameters = dict(model.named_parameters())
        changed = {name for name, value in model.state_dict().items() if not np.array_equal(value, before[name])}
        assert changed == ({name for name, p in parameters.items() if len(p.shape) > 1} if expected else set())


def test_paths_may_begin_at_home(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with backends.use_backend("reference"):
        run("--model=lenet", "--epochs=1", "--output-dir=~/out")
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert train.parse_arguments(["--model=lenet", "--data-dir=~/x"], None, "train").data_dir == tmp_path / "x"


def test_patience_ends_the_run(run: Run) -> None:
    with backends.use_backend("reference"):
        options = ["--model=lenet", "--lr=1e-12", "--patience=2"]
        records = run(*options, "--epochs=9")
        assert len(records) == 3
        assert learning(run(*options, "--epochs=9", "--resume")) == learning(records)


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("--average=1.5", "'1.5' must be a number, in 0..1"),
        ("--label-smoothing=-0.1", "'-0.1' must be a number, in 0..1"),
        ("--weight-decay=inf", "'inf' must be a number, 0 or more"),
        ("--clip-norm=0", "'0' must be a number above 0"),
        *(
            (f"--{name}=0", "'0' must be a whole number, 1 or more")
            for name in ("patience", "accumulate", "micro-batch")
        ),
    ],
)
def test_values_out_of_range(option: str, rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train.main(["--model=lenet", option])
    assert stop.value.code == 2
    assert f"argument {option.split('=')[0]}: {rule}" in capsys.readouterr().err


@pytest.mark.parametrize("augment", ["flip", "crop", "randaugment", "imagenet", "mixup", "cutmix"])
def test_augmented_images_are_other_images(run: Run, augment: str) -> None:
    with backends.use_backend("reference"):
        (plain,) = run("--model=lenet", "--epochs=1", "--lr=0.01")
        (augmented,) = run("--model=lenet", "--epochs=1", "--lr=0.01", f"--augment={augment}", folder="augmented")
    assert plain["train_loss"] != augmented["train_loss"]


def test_each_augmentation_adds_to_the_one_before() -> None:
    kinds = [[type(step).__name__ for step in train.augmenting(name, 32, 3)] for name in train.NESTED]
    assert kinds == [
        [],
        ["RandomHorizontalFlip"],
        ["RandomHorizontalFlip", "RandomCrop"],
        ["RandomHorizontalFlip", "RandomCrop", "ColorJitter"],
    ]
    assert [type(step).__name__ for step in train.augmenting("randaugment", 32, 1)][2:] == ["RandAugment"]
    assert [type(step).__name__ for step in train.augmenting("imagenet", 32, 1)] == [
        "RandomResizedCrop",
        "RandomHorizontalFlip",
    ]
    for name in ("mixup", "cutmix"):
        assert len(train.augmenting(name, 32, 1)) == 2 and type(train.mixing(name)).__name__.lower() == name
    assert train.mixing("crop") is None
    with pytest.raises(UserError, match="--augment randaugment changes images of 1 or 3 channels, not 2"):
        train.augmenting("randaugment", 32, 2)


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


def test_a_recipe_s_options_hold_unless_others_are_given() -> None:
    arguments = train.parse_arguments(["--model=fast"], None, "train")
    for name, value in RECIPES["fast"].options.items():
        assert getattr(arguments, name) == value
    assert (arguments.lr, arguments.batch_size) == (RECIPES["fast"].lr, RECIPES["fast"].batch_size)
    arguments = train.parse_arguments(["--model", "fast", "--optimizer=momentum", "--epochs=3"], None, "train")
    assert (arguments.optimizer, arguments.epochs, arguments.lr) == ("momentum", 3, 0.01)
    assert arguments.schedule == RECIPES["fast"].options["schedule"]
    assert train.parse_arguments(["--model=lenet"], None, "train").schedule == "constant"


def test_the_recipe_of_a_resnet_for_cifar10(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = train.parse_arguments(["--model=resnet20", "--augment=flip", "--batch-size=64"], None, "train")
    assert (arguments.optimizer, arguments.lr, arguments.schedule) == ("momentum", 0.1, "cosine")
    assert (arguments.epochs, arguments.weight_decay) == (164, 1e-4)
    assert (arguments.augment, arguments.batch_size) == ("flip", 64)
    with pytest.raises(SystemExit):
        train.parse_arguments(["--model=resnet56", "--help"], None, "train")
    shown = " ".join(capsys.readouterr().out.split())
    for what in ("(default: 164)", "(default: 128)", "(default: momentum)", "(default: 0.0001)", "(default: crop)"):
        assert what in shown


def test_a_last_batch_of_one_image_is_left_out_where_it_must_be(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def small(in_channels: int, num_classes: int) -> nn.Sequential:
        hidden = [nn.Linear(784 * in_channels, 4), nn.BatchNorm1d(4)]
        return nn.Sequential(nn.Flatten(), nn.Sequential(*hidden), nn.Linear(4, num_classes))

    monkeypatch.setitem(RECIPES, "lenet", dataclasses.replace(RECIPES["lenet"], build=small))
    said = "each epoch leaves one image out: batch normalisation cannot do with a last batch of one"
    with backends.use_backend("reference"):
        assert len(run("--model=lenet", "--epochs=2", "--limit=9")) == 2
        assert said in capsys.readouterr().out.splitlines()
        assert len(run("--model=lenet", "--epochs=1", "--limit=10")) == 1
        assert said not in capsys.readouterr().out
        for options, which in (["--batch-size=1"], "--batch-size 1"), (["--limit=1"], "a single training image"):
            fixed = ["--model=lenet", "--dataset=shapes", "--limit=3", f"--output-dir={tmp_path}"]
            assert train.main([*fixed, *options]) == 2
            errors = capsys.readouterr().err
            assert errors == f"error: {which}: batch normalisation needs batches of at least two images\n"
        for options, size in (
            (["--micro-batch=3", "--limit=8"], 4),
            (["--batch-size=6", "--micro-batch=4", "--limit=11"], 5),
        ):
            assert (
                train.main(
                    ["--model=lenet", "--dataset=shapes", "--batch-size=4", f"--output-dir={tmp_path}", *options]
                )
                == 2
            )
            assert f"pieces of at least two images, and a batch of {size} has one" in capsys.readouterr().err


def test_batch_normalisation_of_whole_batches(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the parts that batches are cut into have a single image, and after a resume."""
    model = ["--model=lenet-bn", "--lr=0.01"]
    options = [*model, "--shards=4", "--sync-batch-norm"]
    with backends.use_backend("reference"):
        run(*options, "--epochs=1")
        resumed = run(*options, "--epochs=2", "--resume")
        whole = run(*model, "--epochs=2", folder="whole")
        for of_shards, of_batches in zip(resumed, whole, strict=True):
            for name in ("train_loss", "test_loss"):
                assert of_shards[name] == pytest.approx(of_batches[name], rel=1e-3)
        capsys.readouterr()
        folder = ["--dataset=shapes", "--limit=6", "--batch-size=4", f"--output-dir={tmp_path / 'whole'}"]
        for others, said in (
            ([*model, "--sync-batch-norm", "--resume"], "made with --sync-batch-norm False, this run has True"),
            (["--model=lenet", "--sync-batch-norm"], "--sync-batch-norm: lenet has no batch normalisation"),
            ([*options, "--micro-batch=2"], "--sync-batch-norm: --micro-batch computes a part of a batch before"),
        ):
            assert train.main([*folder, *others]) == 2
            assert said in capsys.readouterr().err


def test_batch_normalisation_of_images_does_with_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with backends.use_backend("reference"):
        run("--model=fast", "--epochs=1", "--limit=5")
    assert "leaves one image out" not in capsys.readouterr().out


def test_paths_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    options = ["--model=lenet", "--output-dir=~/out", "--data-dir=~"]
    parsed = train.parse_arguments(options, None, "train")
    assert (parsed.output_dir, parsed.data_dir) == (tmp_path / "out", tmp_path)
    drawn = pictures.new_parser("draw", "Draw.", "any").parse_args([*options, "--weights=~/out/model.safetensors"])
    assert (drawn.output_dir, drawn.weights) == (tmp_path / "out", tmp_path / "out" / "model.safetensors")


def test_the_home_of_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train.main(["--model=lenet", "--output-dir=~no-such-user/out"])
    assert stop.value.code == 2
    assert "argument --output-dir: '~no-such-user/out': " in capsys.readouterr().err.splitlines()[-1]


def test_steps_need_not_be_captured(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with backends.use_backend("cpu"):
        captured = run("--model=lenet", "--epochs=1")
        monkeypatch.setattr(backends.get("cpu"), "capture", None)
        assert learning(run("--model=lenet", "--epochs=1", "--no-capture", folder="plain")) == learning(captured)


@pytest.mark.skipif(os.name != "posix", reason="no exit by a signal here")
def test_control_c_amid_an_executed_text_has_the_usual_exit_code(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from numbacnn.command_line import run_command\n"
        "interrupting = 'import signal; signal.raise_signal(signal.SIGINT)'\n"
        "sys.exit(run_command(lambda: exec(interrupting)))\n"
    )
    (tmp_path / "interrupted.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_an_error_that_control_c_was_turned_into_is_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted_import(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    monkeypatch.setattr(train, "fit", interrupted_import)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert train.main(["--model=lenet", "--dataset=shapes", "--limit=6", f"--output-dir={tmp_path}"]) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, former)
    assert capsys.readouterr().err.splitlines()[-1].startswith("interrupted; to go on: ")
    monkeypatch.setattr(train, "fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train.main(["--model=lenet", "--dataset=shapes", "--limit=6", f"--output-dir={tmp_path}"])
