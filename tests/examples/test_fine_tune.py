"""The command that teaches a network the classes of a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from examples import classify, fine_tune
from numbacnn import data
from numbacnn.training import HistoryFile, Run
from tests.models.weights_package import install
from tests.strategies import SIMULATED

pytestmark = pytest.mark.skipif(SIMULATED, reason="training takes minutes in the simulator")

COLOURS = {"fire": (200, 60, 30), "sea": (20, 70, 190)}


def draw(folder: Path, count: int, colours: dict[str, tuple[int, int, int]] = COLOURS) -> Path:
    """Images of noise around a colour for each class."""
    rng = np.random.default_rng(0)
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(rng.normal(colour, 10, (36, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def run(folder: Path, *options: str) -> int:
    with nc.use_backend("cpu"):
        return fine_tune.main([str(folder), f"--save={folder.parent / 'out'}", *options])


def test_a_small_net_learns_what_is_easy_to_tell_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw(tmp_path / "images", 20)
    assert run(folder, "--model=lenet-bn", "--epochs=8", "--batch-size=8") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "32 training and 8 validation images of fire, sea"
    assert lines[1].startswith("epoch 1/8: ") and "val acc" in lines[1] and "test" not in lines[1]
    assert [line.split() for line in lines[-4:-1]] == [
        ["fire", "1.000", "4", "4"],
        ["sea", "1.000", "4", "4"],
        ["mean", "1.000", "8", "8"],
    ]
    out = tmp_path / "out"
    assert lines[-1] == f"wrote {out}: python -m examples.classify --model {out} IMAGE"
    config = json.loads((out / "config.json").read_text())
    assert config["classes"] == ["fire", "sea"] and config["image_size"] == 28 and config["architecture"] == "lenet"
    assert classify.main([str(folder / "sea" / "0.png"), "--top=1", f"--model={out}"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("  sea ")


def test_a_trained_network_gets_a_new_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that are drawn here keep enough of colours for a last layer to tell them apart."""
    with nc.use_backend("cpu"):
        state = install(tmp_path / "site", monkeypatch)
    draw(tmp_path / "images" / "train", 6)
    draw(tmp_path / "images" / "val", 2)
    assert run(tmp_path / "images", "--epochs=0", "--batch-size=12") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "12 training and 4 validation images of fire, sea"
    assert lines[1] == "last layer, 200 epochs: train acc 1.000, val acc 1.000"
    found = nc.from_pretrained(tmp_path / "out").state_dict()
    for name, array in state.items():
        same = array.shape == found[name].shape and np.array_equal(found[name], array)
        assert same != name.startswith("_fc"), name

    assert run(tmp_path / "images", "--epochs=1", "--batch-size=12", "--lr=1e-6") == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert line.startswith("epoch 1/1: ") and "val acc 1.000" in line
    found = nc.from_pretrained(tmp_path / "out").state_dict()
    for name, array in state.items():
        kept = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert kept == (array.shape == found[name].shape and np.array_equal(found[name], array)), name


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    folder = draw(tmp_path / "images", 5)
    states = []
    for seed in (1, 1, 2):
        assert run(folder, "--model=lenet", "--epochs=2", "--batch-size=4", f"--seed={seed}") == 0
        states.append(nc.from_pretrained(tmp_path / "out").state_dict())
    first, same, other = states
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not np.array_equal(first["0.weight"], other["0.weight"])


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    assert run(folder, *options) == 2
    out, err = capsys.readouterr()
    assert "wrote" not in out and not (folder.parent / "out" / "config.json").exists()
    (line,) = err.splitlines()
    return line.removeprefix("error: ")


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = "--model=lenet"
    folder = draw(tmp_path / "images", 1)
    words = "the class fire has 1 sample; it must have at least 2, one for each part"
    assert refused(capsys, folder, small) == f"FOLDER: {words}"
    shutil.rmtree(folder)
    draw(folder, 3)
    assert (
        refused(capsys, folder, small, "--epochs=0") == "--epochs 0: lenet is not trained before, it needs at least 1"
    )
    (folder / "sea").rename(folder / "val")
    assert (
        refused(capsys, folder, small)
        == f"{str(folder)!r} has the folder val; it must have both of train and val, or none"
    )
    shutil.rmtree(folder / "val")
    assert refused(capsys, folder, small) == "there is one class alone, fire: it takes two or more to tell apart"
    (folder / "fire" / "0.png").write_text("no image")
    assert "0.png' cannot be read as an image" in refused(capsys, folder, small)
    assert refused(capsys, folder / "nothing", small).startswith("FOLDER: `root` ")
    shutil.rmtree(folder)
    draw(folder / "train", 2)
    draw(folder / "val", 2, {"fire": (9, 9, 9), "air": (200, 200, 200)})
    assert refused(capsys, folder, small).endswith("must have the same classes; only one of them has air, sea")
    shutil.rmtree(folder)
    draw(folder, 2)
    monkeypatch.setattr("numbacnn.models.installed.find_spec", lambda name: None)
    assert refused(capsys, folder).endswith('which is not installed: pip install "numbacnn[pretrained]"')
    (tmp_path / "out").write_text("a file")
    assert "File exists" in refused(capsys, folder, small)


def press(*arguments: object, **named: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_is_interrupted_early_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw(tmp_path / "images", 2)
    monkeypatch.setattr(fine_tune, "fit", press)
    assert run(folder, "--model=lenet") == 130
    assert capsys.readouterr().err == "interrupted: nothing is saved\n"
    assert not list((tmp_path / "out").iterdir())


class PressLater(HistoryFile):
    """Ctrl-C in the second epoch; keeps what the model was after the first."""

    first: dict[str, np.ndarray]

    def on_epoch_end(self, run: Run) -> None:
        super().on_epoch_end(run)
        type(self).first = run.model.state_dict()

    def on_batch_end(self, run: Run) -> None:
        if run.epoch == 2:
            raise KeyboardInterrupt


def test_what_was_learnt_before_an_interrupt_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = draw(tmp_path / "images", 5), tmp_path / "out"
    monkeypatch.setattr(fine_tune, "HistoryFile", PressLater)
    assert run(folder, "--model=lenet", "--batch-size=4") == 130
    captured = capsys.readouterr()
    assert captured.err == "interrupted; what was learnt so far is saved\n"
    assert captured.out.splitlines()[-1].startswith(f"wrote {out}: ")
    found = nc.load_classifier(out)
    assert found.classes == ("fire", "sea")
    for name, array in found.model.state_dict().items():
        np.testing.assert_array_equal(array, PressLater.first[name])
    assert len((out / "history.jsonl").read_text().splitlines()) == 1


def test_images_may_stay_in_their_files(tmp_path: Path) -> None:
    folder = draw(tmp_path / "images", 4)
    states = []
    for options in ((), ("--lazy",)):
        assert run(folder, "--model=lenet", "--epochs=1", "--batch-size=4", *options) == 0
        states.append(nc.from_pretrained(tmp_path / "out").state_dict())
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_the_best_weights_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a rate that makes the loss rise."""
    folder = draw(tmp_path / "images", 5)
    assert run(folder, "--model=lenet", "--epochs=9", "--batch-size=4", "--lr=0.5", "--patience=2") == 0
    lines = capsys.readouterr().out.splitlines()
    epochs = sum(line.startswith("epoch ") for line in lines)
    (said,) = [line for line in lines if "are kept" in line]
    best = int(said.split()[4])
    assert epochs == best + 2 < 9
    losses = [json.loads(line)["test_loss"] for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert min(losses) == losses[best - 1]


OTHERS = {"fire": (200, 60, 30), "sea": (20, 70, 190), "leaf": (20, 180, 30)}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A model of two classes that was trained with another preprocessing than usual."""
    with nc.use_backend("cpu"):
        nc.manual_seed(1)
        model = nc.models.lenet(3, 2, batch_norm=True)
        nc.Classifier(model, ["fire", "sea"], data.Preprocessing(28, mean=0.5, std=0.5)).save(tmp_path / "trained")
    return tmp_path / "trained"


def test_weights_of_a_folder_with_other_classes(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw(tmp_path / "images", 4, OTHERS)
    assert run(folder, f"--weights={weights}", "--epochs=0", "--batch-size=8") == 0
    lines = capsys.readouterr().out.splitlines()
    former = nc.from_pretrained(weights).state_dict()
    (head,) = {name.rpartition(".")[0] for name, array in former.items() if array.shape == (2,)}
    names = f"{head}.bias, {head}.weight"
    assert lines[1] == f"--weights {weights}: begins anew: {names}; not taken: {names}"
    assert lines[2].startswith("last layer, 100 epochs: ")
    found = nc.load_classifier(tmp_path / "out")
    assert found.classes == ("fire", "leaf", "sea") and found.preprocessing == data.Preprocessing(28, mean=0.5, std=0.5)
    for name, array in former.items():
        same = found.model.state_dict()[name]
        assert (same.shape == array.shape and np.array_equal(same, array)) != name.startswith(f"{head}."), name


def test_weights_of_a_folder_with_as_many_classes_keep_their_head(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw(tmp_path / "images", 4)
    assert run(folder, f"--weights={weights}", "--epochs=0") == 0
    assert not any(line.startswith(("--weights", "last layer")) for line in capsys.readouterr().out.splitlines())
    found, former = (nc.from_pretrained(each).state_dict() for each in (tmp_path / "out", weights))
    assert all(np.array_equal(array, found[name]) for name, array in former.items())


def test_weights_of_a_file(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, path = draw(tmp_path / "images", 4, OTHERS), weights / "model.safetensors"
    assert run(folder, f"--weights={path}", "--model=lenet-bn", "--epochs=1", "--batch-size=8", "--lr=1e-7") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"--weights {path}: begins anew: ") and lines[2].startswith("last layer, ")
    found = nc.from_pretrained(tmp_path / "out").state_dict()
    for name, array in nc.from_pretrained(weights).state_dict().items():
        if array.shape == found[name].shape:
            np.testing.assert_allclose(found[name], array, atol=1e-5)
    assert nc.load_classifier(tmp_path / "out").preprocessing == replace(data.PHOTOGRAPHS, size=28)


def test_weights_that_are_refused(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, path = draw(tmp_path / "images", 2), weights / "model.safetensors"
    gone = tmp_path / "gone.pth"
    assert refused(capsys, folder, f"--weights={gone}") == f"--weights {gone}: there is no such file or folder"
    assert refused(capsys, folder, f"--weights={weights}", "--model=lenet").startswith(
        "--model: the folder of --weights"
    )
    assert "none of its arrays fits the model; it has 0.bias, 0.weight" in refused(
        capsys, folder, f"--weights={path}", "--model=nin"
    )
    path.write_bytes(b"damaged")
    assert "is no whole .safetensors file" in refused(capsys, folder, f"--weights={path}", "--model=lenet")
    assert "is no whole .safetensors file" in refused(capsys, folder, f"--weights={weights}")
