"""What subcommands do with models: one that is trained here is evaluated, names images, is profiled."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from numbacnn import data, nn, training
from numbacnn.cli import classifiers
from numbacnn.cli.main import main
from numbacnn.cli.warmup import kernel_name
from tests.strategies import SIMULATED

REFERENCE = "--backend=reference"
SHAPES = ["--dataset=shapes", "--limit=12"]

pytestmark = pytest.mark.skipif(SIMULATED, reason="what is tested is no kernel")
Said = Callable[..., tuple[list[str], list[str]]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run."""
    folder = tmp_path_factory.mktemp("run") / "out"
    options = ["--model=lenet", "--epochs=1", "--lr=0.1", "--batch-size=6", f"--output-dir={folder}"]
    assert main(["train", *options, *SHAPES, REFERENCE]) == 0
    return folder


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a subcommand: lines of its output and of its errors."""

    def said(*argv: str, code: int = 0) -> tuple[list[str], list[str]]:
        capsys.readouterr()
        assert main([*argv, REFERENCE]) == code
        out, err = capsys.readouterr()
        return out.splitlines(), err.splitlines()

    return said


def pictures(folder: Path, *names: str) -> Path:
    """A folder with the first two images of each of these classes, in sub-folders."""
    images = data.shapes("test", size=40)
    for name in names:
        (folder / name).mkdir(parents=True)
        chosen = np.flatnonzero(images.labels == images.classes.index(name))[:2]
        for number in chosen:
            Image.fromarray(images.images[number, 0]).save(folder / name / f"{number}.png")
    return folder


def test_a_run_ends_as_a_classifier(trained: Path) -> None:
    with nc.use_backend("reference"):
        classifier = nc.load_classifier(trained)
        assert classifier.preprocessing.image_shape == (1, 28, 28)
        assert classifier.classes == data.shapes("test", size=1).classes
        record = json.loads((trained / "history.jsonl").read_text())
        loader = data.DataLoader(data.shapes("test", size=12), 6)
        found = training.evaluate(classifier.model, loader, nn.CrossEntropyLoss())
    assert found == pytest.approx((record["test_loss"], record["test_accuracy"]))


def test_a_model_that_only_a_recipe_makes(tmp_path: Path) -> None:
    images = data.shapes("test", size=1)
    with nc.use_backend("reference"):
        model = classifiers.RECIPES["fast"].build(1, 10)
        classifiers.save_classifier(tmp_path, model, "fast", images)
        again = classifiers.saved(tmp_path)
        np.testing.assert_array_equal(again.model[-1].bias.value, model[-1].bias.value)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"fast"', '"slow"'))
    with pytest.raises(ValueError, match="names the recipe 'slow', which is none of lenet, "):
        classifiers.saved(tmp_path)


def test_evaluation(trained: Path, said: Said) -> None:
    lines, _ = said("evaluate", f"--model={trained}", *SHAPES)
    assert lines[0] == "shapes: 12 test images of 1x28x28 pixels in 10 classes"
    assert lines[1].split() == ["class", "accuracy", "right", "labels"] and lines[12].startswith("mean ")
    (text,), _ = said("evaluate", f"--model={trained}", *SHAPES, "--json", "--batch-size=5")
    figures = json.loads(text)
    record = json.loads((trained / "history.jsonl").read_text())
    assert figures["loss"] == pytest.approx(record["test_loss"])
    assert figures["accuracy"] == pytest.approx(record["test_accuracy"])
    assert lines[13] == f"loss {figures['loss']:.3f}, acc {figures['accuracy']:.3f}"
    assert sum(of["images"] for of in figures["classes"].values()) == figures["images"] == 12
    mistakes = training.read_mistakes(trained / "mistakes.safetensors")
    (text,), _ = said("evaluate", f"--model={trained}", *SHAPES, "--json", "--confusion", "--batch-size=5")
    assert json.loads(text) == {**figures, "confusion": mistakes.confusion.tolist()}
    with_table, _ = said("evaluate", f"--model={trained}", *SHAPES, "--confusion")
    assert [*with_table[:13], with_table[24]] == lines
    assert [int(count) for count in with_table[14].split()[2:]] == mistakes.confusion[0].tolist()
    (of_weights,), _ = said(
        "evaluate", "--model=lenet", f"--weights={trained / 'model.safetensors'}", *SHAPES, "--json", "--batch-size=5"
    )
    assert json.loads(of_weights) == {**figures, "model": "lenet"}
    (of_train,), _ = said("evaluate", f"--model={trained}", *SHAPES, "--json", "--split=train")
    assert json.loads(of_train)["loss"] != figures["loss"]


def test_evaluation_on_a_folder_of_some_of_the_classes(trained: Path, tmp_path: Path, said: Said) -> None:
    """Labels go by the names of classes, and what is in train or test is not taken for a class."""
    folder = pictures(tmp_path / "images", "cross", "bars")
    options = ["evaluate", f"--model={trained}", "--dataset=folder", "--json"]
    (text,), _ = said(*options, f"--data-dir={folder}")
    found = json.loads(text)["classes"]
    assert {name for name, of in found.items() if of["images"]} == {"cross", "bars"}
    assert found["circle"] == {"accuracy": None, "images": 0}
    with nc.use_backend("reference"):
        named = nc.load_classifier(trained).predict(sorted(folder.glob("*/*.png")), top=1)
    right = [best[0][0] == path.parent.name for path, best in zip(sorted(folder.glob("*/*.png")), named, strict=True)]
    assert json.loads(text)["accuracy"] == pytest.approx(np.mean(right))
    folder.rename(tmp_path / "test")
    assert said(*options, f"--data-dir={tmp_path}")[0] == [text]
    (tmp_path / "test" / "cross").rename(tmp_path / "test" / "plus")
    _, (error,) = said(*options, f"--data-dir={tmp_path}", code=2)
    assert "of which the model does not know plus; it knows circle, " in error
    _, (error,) = said(*options, f"--data-dir={tmp_path}", "--split=train", code=2)
    assert error.startswith("error: --data-dir: ")


def test_prediction(trained: Path, tmp_path: Path, said: Said) -> None:
    folder = pictures(tmp_path / "images", "arch", "arrow")
    files = sorted(folder.glob("*/*.png"))
    with nc.use_backend("reference"):
        expected = nc.load_classifier(trained).predict(files, top=2)
    options = ["predict", str(folder), f"--model={trained}", "--top=2"]
    lines, _ = said(*options, "--batch-size=3")
    assert lines[::3] == [str(file) for file in files]
    assert [line.split()[0] for line in lines[1::3]] == [best[0][0] for best in expected]
    (folder / "arrow" / "broken.png").write_text("no image")
    texts, (broken, gone) = said(*options, "--json", "gone.png", str(files[0]), "--batch-size=9", code=2)
    found = [json.loads(text) for text in texts]
    assert [each["image"] for each in found] == [str(file) for file in (*files, files[0])]
    for each, best in zip(found, expected, strict=False):
        assert {of["class"]: of["probability"] for of in each["classes"]} == pytest.approx(dict(best))
    assert "broken.png' cannot be read as an image" in broken and gone == "error: there is no file 'gone.png'"
    (tmp_path / "empty").mkdir()
    _, (error,) = said("predict", str(tmp_path / "empty"), f"--model={trained}", code=2)
    assert error.startswith(f"error: IMAGE {tmp_path / 'empty'}: the folder must hold files that end in .jpg, ")


def test_prediction_without_the_weights_of_imagenet(monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    monkeypatch.setattr("numbacnn.models.installed.find_spec", lambda name: None)
    _, (error,) = said("predict", "x.png", "--pretrained", code=2)
    assert error.endswith('which is not installed: pip install "numbacnn[pretrained]"')


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        (["--shape=2,1,28,28"], "for a pass of (2, 1, 28, 28), plain"),
        (["--shape=2,3,28,28", "--classes=4", "--train"], "for a training step of (2, 3, 28, 28), plain"),
    ],
)
def test_profile(options: list[str], ends: str, said: Said) -> None:
    lines, _ = said("profile", "--model=lenet", "--rounds=1", *options)
    assert [re.split(r"[()]", line)[1] for line in lines[2:14]] == [str(i) for i in range(12)]
    assert f"({2}, {4 if '--train' in options else 10})" in lines[13] and lines[-1].endswith(ends)


def test_profile_of_a_saved_model(trained: Path, tmp_path: Path, said: Said) -> None:
    assert said("profile", f"--model={trained}", "--rounds=1")[0][-1].endswith("for a pass of (1, 1, 28, 28), plain")
    with nc.use_backend("reference"):
        nc.save_pretrained(tmp_path, nc.models.lenet())
    _, (error,) = said("profile", f"--model={tmp_path}", code=2)
    assert error.endswith("the folder does not tell the size of images, which --shape must")
    lines, _ = said("profile", f"--model={tmp_path}", "--rounds=1", "--shape=3,1,28,28")
    assert lines[-1].endswith("(3, 1, 28, 28), plain")


def test_there_is_nothing_to_warm_up_in_numpy(said: Said) -> None:
    assert said("warmup", "--model=lenet")[0] == ["reference: here it compiles nothing"]


def test_names_of_kernels_on_the_gpu() -> None:
    assert kernel_name(Path("relu-0123456789abcdef-90.cubin")) == "relu"
