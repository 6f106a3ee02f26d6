"""The command that teaches a network the classes of a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from examples import classify, fine_tune
from numbacnn import data
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
    assert lines[-2].startswith("epoch 8/8: ") and "test acc 1.000" in lines[-2]
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
    line = capsys.readouterr().out.splitlines()[-2]
    assert line.startswith("epoch 1/1: ") and "test acc 1.000" in line
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


def test_every_class_is_divided() -> None:
    labels = np.repeat([0, 1, 2], [10, 4, 2])
    images = data.ArrayDataset(np.arange(16, dtype=np.uint8).reshape(16, 1, 1, 1), labels, ["a", "b", "c"])
    train, val = fine_tune.divide(images, 0.3, seed=0)
    assert np.bincount(val.labels).tolist() == [3, 1, 1] and np.bincount(train.labels).tolist() == [7, 3, 1]
    assert sorted([*train.images.ravel(), *val.images.ravel()]) == list(range(16))
    _, other = fine_tune.divide(images, 0.3, seed=1)
    assert not np.array_equal(val.images, other.images)
    train, val = fine_tune.divide(images, 0.99, seed=0)
    assert np.bincount(train.labels).tolist() == [1, 1, 1]


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    assert run(folder, *options) == 2
    out, err = capsys.readouterr()
    assert "wrote" not in out and not (folder.parent / "out" / "config.json").exists()
    (line,) = err.splitlines()
    return line.removeprefix("error: ")


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = "--model=lenet"
    folder = draw(tmp_path / "images", 1)
    assert refused(capsys, folder, small) == "the class fire has 1 image; it must have at least 2, one for validation"
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


def test_an_interrupted_run_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    folder = draw(tmp_path / "images", 2)
    monkeypatch.setattr(fine_tune, "fit", press)
    assert run(folder, "--model=lenet") == 130
    assert capsys.readouterr().err == "interrupted: nothing is saved\n"
    assert not list((tmp_path / "out").iterdir())
