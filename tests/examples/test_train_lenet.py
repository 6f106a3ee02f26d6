"""The command that trains LeNet: what it prints, keeps, resumes and refuses."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from examples import train_lenet
from numbacnn import backends, data, models
from numbacnn.cli import train
from numbacnn.io import load
from tests.strategies import SIMULATED

ROOT = Path(__file__).parents[2]
ENDS_WITH = ["checkpoint.safetensors", "curves.png", "history.jsonl", "model.safetensors"]
"""What a run that is resumed at its end writes again."""
FILES = sorted([*ENDS_WITH, "mistakes.safetensors", "progress.json"])
SMALL = ["--dataset=shapes", "--limit=40", "--batch-size=16", "--epochs=2"]

Main = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(autouse=True)
def _reference_without_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("NUMBACNN_DATA", raising=False)
    with backends.use_backend("reference"):
        yield


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Main:
    """Run the command with an output folder in tmp_path: exit code, lines of standard output, lines of errors."""

    def main(*options: str) -> tuple[int, list[str], list[str]]:
        try:
            code = train_lenet.main([f"--output-dir={tmp_path / 'out'}", *options])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return main


def refused(result: tuple[int, list[str], list[str]]) -> str:
    """The one line in which the command says why it does not run."""
    code, _, errors = result
    assert code == 2
    assert len(errors) == 1, errors
    return errors[0].removeprefix("error: ")


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """A folder with a small data set in files named like Fashion-MNIST's and MNIST's."""
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, size in (("train", 50), ("t10k", 20)):
        data.write_idx(folder / f"{name}-images-idx3-ubyte.gz", generator.integers(0, 256, (size, 28, 28), np.uint8))
        data.write_idx(folder / f"{name}-labels-idx1-ubyte.gz", (np.arange(size) % 10).astype(np.uint8))
    return folder


def needs_speed(backend: backends.Backend) -> None:
    """Skip in the simulator."""
    if SIMULATED and backend.name == "cuda":
        pytest.skip("LeNet takes ten seconds an image in the simulator")


def test_what_is_printed(run: Main, backend: backends.Backend) -> None:
    needs_speed(backend)
    code, lines, errors = run(*SMALL, f"--backend={backend.name}")
    assert (code, errors) == (0, [])
    assert lines[0] == "shapes: 40 training and 40 test images of 1x28x28 pixels in 10 classes"
    assert lines[1:13] == [
        "Conv2d output shape:\t(1, 6, 28, 28)",
        "Sigmoid output shape:\t(1, 6, 28, 28)",
        "AvgPool2d output shape:\t(1, 6, 14, 14)",
        "Conv2d output shape:\t(1, 16, 10, 10)",
        "Sigmoid output shape:\t(1, 16, 10, 10)",
        "AvgPool2d output shape:\t(1, 16, 5, 5)",
        "Flatten output shape:\t(1, 400)",
        "Linear output shape:\t(1, 120)",
        "Sigmoid output shape:\t(1, 120)",
        "Linear output shape:\t(1, 84)",
        "Sigmoid output shape:\t(1, 84)",
        "Linear output shape:\t(1, 10)",
    ]
    for line, start in zip(lines[13:15], ("epoch 1/2: loss ", "epoch 2/2: loss "), strict=True):
        assert line.startswith(start)
    assert re.fullmatch(r"\d+\.\d s with loading and evaluation: \d+\.\d examples/sec", lines[15])
    assert re.fullmatch(r"loss \d+\.\d{3}, train acc [01]\.\d{3}, test acc [01]\.\d{3}", lines[16])
    assert re.fullmatch(rf"\d+\.\d examples/sec on {backend.device_name()}", lines[17])
    assert len(lines) == 18


def test_what_is_kept(run: Main, tmp_path: Path) -> None:
    _, lines, _ = run(*SMALL)
    assert sorted(os.listdir(tmp_path / "out")) == FILES
    records = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    last = records[-1]
    assert [record["epoch"] for record in records] == [1, 2]
    assert lines[-2] == (
        f"loss {last['train_loss']:.3f}, train acc {last['train_accuracy']:.3f}, test acc {last['test_accuracy']:.3f}"
    )
    load(tmp_path / "out" / "model.safetensors", models.lenet())


@pytest.mark.parametrize("change", [None, "--seed=1", "--batch-size=8", "--lr=0.5", "--epochs=1"])
def test_the_same_options_give_the_same_bits_and_others_do_not(run: Main, tmp_path: Path, change: str | None) -> None:
    weights = []
    for options in ([], [change] if change else []):
        assert run(*SMALL, *options)[0] == 0
        weights.append((tmp_path / "out" / "model.safetensors").read_bytes())
    assert (weights[0] == weights[1]) == (change is None)


@pytest.mark.parametrize("dataset", ["auto", "fashion-mnist", "mnist"])
def test_files_in_a_folder(run: Main, idx_folder: Path, dataset: str) -> None:
    options = [f"--dataset={dataset}", f"--data-dir={idx_folder}", "--epochs=1"]
    name = "fashion-mnist" if dataset == "auto" else dataset
    _, lines, _ = run(*options)
    assert lines[0] == f"{name}: 50 training and 20 test images of 1x28x28 pixels in 10 classes"
    _, lines, _ = run(*options, "--limit=30")
    assert lines[0] == f"{name}: 30 training and 20 test images of 1x28x28 pixels in 10 classes"


@pytest.mark.parametrize("dataset", ["auto", "fashion-mnist", "mnist"])
def test_a_folder_without_the_files_is_refused(run: Main, tmp_path: Path, dataset: str) -> None:
    message = refused(run(f"--dataset={dataset}", f"--data-dir={tmp_path}"))
    assert str(tmp_path) in message
    assert "train-images-idx3-ubyte" in message
    assert not (tmp_path / "out").exists()


def test_damaged_files_are_refused(run: Main, idx_folder: Path) -> None:
    path = idx_folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert path.name in refused(run(f"--data-dir={idx_folder}"))


def test_a_folder_for_drawn_shapes_is_refused(run: Main, tmp_path: Path) -> None:
    code, _, errors = run(f"--data-dir={tmp_path}", "--dataset=shapes")
    assert code == 2
    assert "argument --data-dir: " in errors[-1]


def test_shapes_take_the_place_of_what_cannot_be_had(
    run: Main, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unavailable(split: str, **_: object) -> None:
        raise data.DatasetUnavailable("no network\nat all")

    monkeypatch.setattr(data, "fashion_mnist", unavailable)
    options = [*SMALL, "--dataset=auto"]
    code, lines, errors = run(*options)
    assert (code, errors) == (0, [])
    assert lines[0] == "Fashion-MNIST cannot be had, using the built-in shapes: no network at all"
    assert lines[1].startswith("shapes: ")
    assert refused(run(*options, "--dataset=fashion-mnist")) == "no network at all"


def test_shapes_take_the_place_of_an_empty_folder_in_the_environment(
    run: Main, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NUMBACNN_DATA", str(tmp_path / "nowhere"))
    options = [*SMALL, "--dataset=auto"]
    _, lines, _ = run(*options)
    assert lines[0].startswith("Fashion-MNIST cannot be had, using the built-in shapes: ")
    assert "nowhere" in lines[0]
    assert "nowhere" in refused(run(*options, "--dataset=fashion-mnist"))


@pytest.mark.parametrize(
    "option",
    [
        *("--epochs=0", "--epochs=-1", "--epochs=1.5", "--epochs=ten", "--batch-size=0", "--limit=0", "--limit=1e3"),
        *("--lr=0", "--lr=-1", "--lr=nan", "--lr=inf", "--lr=fast", "--seed=-1", "--seed=0.5"),
        *("--backend=tpu", "--dataset=cifar", "--algorithm=fft"),
    ],
)
def test_bad_values_are_refused_by_name(run: Main, option: str) -> None:
    code, _, errors = run(option)
    name, value = option.split("=")
    assert code == 2
    assert f"argument {name}: " in errors[-1]
    assert repr(value) in errors[-1]


def test_a_backend_that_cannot_be_used(run: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(name: object = None) -> None:
        raise RuntimeError("backend 'cpu' cannot be used: no numba")

    monkeypatch.setattr(backends, "get", get)
    assert refused(run(*SMALL)) == "backend 'cpu' cannot be used: no numba"


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    real = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    program = "from numbacnn.backends import cuda_support as support; print(support.missing() or '')"
    line = [sys.executable, "-c", program]
    reason = subprocess.run(line, cwd=ROOT, env=real, capture_output=True, text=True, check=True).stdout.strip()
    if not reason:
        pytest.skip("the backend cuda can be used here")
    process = command(*SMALL, "--backend=cuda", output=tmp_path, env=real)
    output, errors = process.communicate()
    assert (process.returncode, output) == (2, "")
    assert errors == f"error: backend 'cuda' cannot be used: {reason}\n"
    assert re.search("pip install|nvidia-smi|update it|use the backend cpu", reason)


def test_the_default_backend_is_as_before(run: Main) -> None:
    run(*SMALL, "--epochs=1", "--backend=reference")
    assert backends.get().name == "reference"


def test_an_output_folder_that_cannot_be_made(run: Main, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    assert str(tmp_path / "out") in refused(run(*SMALL))


def test_resuming_continues_and_epochs_may_grow(run: Main, tmp_path: Path) -> None:
    whole = run(*SMALL, "--epochs=3")[1]
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    run(*SMALL, "--epochs=1")
    _, lines, _ = run(*SMALL, "--epochs=3", "--resume")
    assert lines[13] == "resuming after epoch 1 of 3"
    assert lines[14].startswith("epoch 2/3: ")
    assert lines[-2] == whole[-2]
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights


def test_resuming_a_finished_run_prints_its_end_again(run: Main, tmp_path: Path) -> None:
    _, first, _ = run(*SMALL)
    files = {name: (tmp_path / "out" / name).read_bytes() for name in ENDS_WITH}
    for name in ENDS_WITH[1:]:
        (tmp_path / "out" / name).unlink()
    code, lines, _ = run(*SMALL, "--resume")
    assert code == 0
    assert lines[13] == "resuming after epoch 2 of 2"
    assert lines[14:] == first[-3:]
    assert {name: (tmp_path / "out" / name).read_bytes() for name in ENDS_WITH} == files


def test_resuming_what_never_began(run: Main, tmp_path: Path) -> None:
    code, lines, _ = run(*SMALL, "--resume")
    assert code == 0
    assert lines[13] == f"no checkpoint in {tmp_path / 'out'}: starting from the beginning"
    assert lines[14].startswith("epoch 1/2: ")


@pytest.mark.parametrize(
    ("option", "former", "now"),
    [
        ("--batch-size=8", "16", "8"),
        ("--lr=0.5", "0.9", "0.5"),
        ("--seed=1", "0", "1"),
        ("--limit=39", "40", "39"),
        ("--algorithm=im2col", "auto", "im2col"),
        ("--dataset=mnist", "shapes", "mnist"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    run: Main, idx_folder: Path, tmp_path: Path, option: str, former: str, now: str
) -> None:
    assert run(*SMALL, "--epochs=1")[0] == 0
    options = [option, f"--data-dir={idx_folder}"] if "mnist" in option else [option]
    before = {name: (tmp_path / "out" / name).read_bytes() for name in FILES}
    message = refused(run(*SMALL, *options, "--resume"))
    assert message == (
        f"cannot resume: {tmp_path / 'out' / 'checkpoint.safetensors'} was made with {option.split('=')[0]} {former}, "
        f"this run has {now}"
    )
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == before


def test_resuming_with_fewer_epochs_is_refused(run: Main) -> None:
    run(*SMALL)
    assert refused(run(*SMALL, "--epochs=1", "--resume")).endswith("has 2 epochs, more than --epochs 1")


def test_resuming_from_a_damaged_checkpoint_is_refused(run: Main, tmp_path: Path) -> None:
    run(*SMALL, "--epochs=1")
    path = tmp_path / "out" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{str(path)!r} is no whole .safetensors file" in refused(run(*SMALL, "--resume"))


def test_a_new_run_replaces_the_files_of_the_one_before(run: Main, tmp_path: Path) -> None:
    run(*SMALL)
    leftover = tmp_path / "out" / ".checkpoint.safetensors.0123456789ab.tmp"
    leftover.touch()
    (tmp_path / "out" / "notes.txt").write_text("mine")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "fit", interrupt)
        run(*SMALL)
    assert os.listdir(tmp_path / "out") == ["notes.txt"]


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_an_interrupted_run_says_how_to_go_on(
    run: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: list[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", interrupt)
    code, _, errors = run("--dataset=shapes", "--limit=40", *resume)
    assert code == 130
    assert errors == [
        f"interrupted; to go on: python -m examples.train_lenet --output-dir={tmp_path / 'out'} --dataset=shapes "
        "--limit=40 --resume"
    ]


def test_without_matplotlib_there_is_no_plot(run: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, lines, errors = run(*SMALL)
    assert (code, errors) == (0, [])
    assert lines[13] == 'no curves.png: PlotCurves needs matplotlib: pip install "numbacnn[plot]"'
    assert sorted(os.listdir(tmp_path / "out")) == [name for name in FILES if name != "curves.png"]


def test_curves_and_what_tensorboard_shows(run: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    options = (*SMALL, "--backend=reference", f"--tensorboard={tmp_path / 'events'}", "--live")
    code, lines, errors = run(*options)
    assert (code, errors) == (0, [])
    assert len([line for line in lines if line.startswith("loss ") and "accuracy" in line]) == 2
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "events" / "train")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    assert events.Tags()["images"] == ["images", "filters/0"] and events.Tags()["graph"]
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert refused(run(*options)) == 'TensorBoardFile needs tensorboard: pip install "numbacnn[tensorboard]"'


def test_a_learning_rate_that_is_too_large(run: Main, backend: backends.Backend) -> None:
    needs_speed(backend)
    assert refused(run(*SMALL, "--lr=3e38")).startswith("training loss is nan in epoch 1, after batch 2 of 3; ")


@pytest.mark.parametrize(
    ("name", "algorithms"), [("reference", "auto, loops, im2col"), ("cpu", "auto, loops, im2col, direct, winograd")]
)
def test_an_algorithm_that_the_backend_lacks(run: Main, name: str, algorithms: str) -> None:
    message = refused(run(*SMALL, f"--backend={name}", "--algorithm=implicit_gemm"))
    assert message == f"--algorithm implicit_gemm: {name} has {algorithms}"


@pytest.mark.parametrize("algorithm", ["auto", "loops", "im2col"])
def test_algorithms(run: Main, monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
    seen = []
    monkeypatch.setattr(train, "fit", lambda model, *_, **__: seen.extend((model[0].algorithm, model[3].algorithm)))
    with pytest.raises(IndexError):  # nothing is trained, so there is no last epoch to print
        run(*SMALL, f"--algorithm={algorithm}")
    assert seen == [algorithm] * 2


def command(*options: str, output: Path, **settings: object) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    fixed = ["--backend=reference", f"--output-dir={output}"]
    line = [sys.executable, "-m", "examples.train_lenet", *fixed, *options]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)


def test_a_reader_that_goes_away_does_not_stop_training(tmp_path: Path) -> None:
    process = command(*SMALL, output=tmp_path)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0
    assert sorted(os.listdir(tmp_path)) == FILES


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
@pytest.mark.parametrize(
    "options",
    [["--backend=reference"], ["--backend=cpu"], ["--backend=cpu", "--no-capture"]],
    ids=["reference", "cpu captured", "cpu plain"],
)
def test_control_c(tmp_path: Path, options: list[str]) -> None:
    # Processes of a shell's background job ignore the signal unless they ask for it.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = command(*SMALL, *options, "--epochs=1000000", output=tmp_path, preexec_fn=heed)
    assert any(line.startswith("epoch 1/") for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert re.fullmatch(r"interrupted; to go on: python -m examples\.train_lenet .* --resume\n", errors)
    assert {"checkpoint.safetensors", "history.jsonl"} <= set(os.listdir(tmp_path))
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, examples.train_lenet\n"
        "print([name for name in ('matplotlib', 'tqdm', 'pooch', 'numba.cuda', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
