"""The command that names what is in photographs: what it prints and writes, and what it refuses."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from examples import classify
from numbacnn import data
from tests.models.weights_package import install, needs_weights

REFERENCE = "--backend=reference"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as fine_tune writes it: class 0 is likely where an image is red, class 2 less so, class 1 nowhere."""
    with nc.use_backend("reference"):
        model = nc.models.lenet(3, 3)
        for parameter in model.parameters():
            parameter.value[...] = 0
        first, second, *linear = [layer for layer in model if hasattr(layer, "weight")]
        first.weight.value[0, 0, 2, 2], first.bias.value[0] = 10, -5  # of -1..1, what is above 1/2
        second.weight.value[0, 0, 2, 2], second.bias.value[0] = 10, -5
        linear[0].weight.value[0, :25], linear[0].bias.value[0] = 1, -5
        linear[1].weight.value[0, 0], linear[1].bias.value[0] = 10, -5
        linear[2].weight.value[:, 0] = [4, 0, 2]
        nc.Classifier(model, ["red", "blue", "rötlich"], replace(data.PHOTOGRAPHS, size=28)).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "fire.jpg"
    Image.new("RGB", (64, 48), "red").save(path, quality=100)
    return path


def test_the_likeliest_classes_with_bars(folder: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blue = image.with_name("sea.png")
    Image.new("RGB", (20, 90), "blue").save(blue)
    assert classify.main([str(image), str(blue), f"--model={folder}", REFERENCE, "--top=2"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and not list(image.parent.glob("*.gradcam.png"))
    with nc.use_backend("reference"):
        scores = nc.from_pretrained(folder).predict(data.photographs([image, blue], 28)).astype(float)
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert shares[0, 0] > 0.8 and shares[1].max() < 0.4
    assert out.splitlines() == [
        str(image),
        f"  red      {shares[0, 0]:6.1%}  {'█' * round(30 * shares[0, 0])}",
        f"  rötlich  {shares[0, 2]:6.1%}  {'█' * round(30 * shares[0, 2])}",
        str(blue),
        f"  red      {shares[1, 0]:6.1%}  {'█' * round(30 * shares[1, 0])}",
        f"  rötlich  {shares[1, 2]:6.1%}  {'█' * round(30 * shares[1, 2])}",
    ]


def test_a_terminal_without_the_signs(
    folder: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert classify.main([str(image), f"--model={folder}", REFERENCE]) == 0
    assert b"  r\\xf6tlich" in written.getvalue() and b"  ####" in written.getvalue()


def test_where_the_first_class_is_seen(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an image whose left is red, the left is hot."""
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[:, :25, 0] = 255
    path = tmp_path / "half.bmp"
    Image.fromarray(pixels).save(path)
    assert classify.main([str(path), f"--model={folder}", REFERENCE, "--explain"]) == 0
    target = tmp_path / "half.bmp.gradcam.png"
    assert capsys.readouterr().out.splitlines()[-1] == f"  wrote {target}: where it sees red"
    drawn = np.asarray(Image.open(target), int)
    assert drawn.shape == (56, 56, 3)
    shown = data.read_image(path, 56, 3, "bicubic", 0.875).transpose(1, 2, 0)
    change = np.abs(drawn - shown).sum(2)
    assert change[:, :10].min() > 50 and change[:, 50:].max() < 5


def test_a_picture_is_written_as_it_is(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 2, 5), np.uint8)
    classify.save_picture(tmp_path / "1.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "1.png")).transpose(2, 0, 1), picture)


def test_images_that_cannot_be_read_do_not_stop_the_others(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = image.with_name("text.png")
    text.write_text("no image")
    gone = image.with_name("gone.png")
    assert classify.main([str(text), str(gone), str(image), f"--model={folder}", REFERENCE]) == 2
    out, err = capsys.readouterr()
    assert out.startswith(f"{image}\n  red ")
    (first, second) = err.splitlines()
    assert first.startswith(f"error: {str(text)!r} cannot be read as an image: it is none of JPEG")
    assert second == f"error: there is no file {str(gone)!r}"


def test_a_place_that_cannot_be_written_to(
    folder: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(path: Path, picture: np.ndarray) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(classify, "save_picture", read_only)
    assert classify.main([str(image), f"--model={folder}", REFERENCE, "--explain"]) == 2
    out, err = capsys.readouterr()
    assert "wrote" not in out
    assert err == f"error: [Errno 13] Permission denied: {str(image.with_name('fire.jpg.gradcam.png'))!r}\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["a", "b"]}, r"the model gives \(1, 3\), which must be a number for each of 2 `classes`"),
        ({"classes": [1, 2, 3]}, "must be a list of names"),
        ({"classes": None}, "must be a list of names"),
        ({"image_size": None}, "config.json' lacks 'image_size'"),
        ({"image_size": 3}, "Conv2d"),
        ({"architecture": "nothing"}, "names the architecture 'nothing'"),
    ],
)
def test_folders_that_fine_tune_did_not_write(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str], change: dict, words: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    if change.get("image_size", 1) is None:
        del config["image_size"]
    else:
        config |= change
    (folder / "config.json").write_text(json.dumps(config))
    assert classify.main([str(image), f"--model={folder}", REFERENCE]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert err.startswith(f"error: --model {folder}: examples.fine_tune wrote no such folder: ")
    assert re.search(words, err)


def test_a_model_that_is_not_there(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify.main([str(image), "--model=resnet", REFERENCE]) == 2
    err = capsys.readouterr().err
    assert err == "error: --model resnet: it must be efficientnet_lite0 or a folder that examples.fine_tune wrote\n"


def test_without_the_package_of_weights(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("numbacnn.models.installed.find_spec", lambda name: None)
    assert classify.main([str(image), REFERENCE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('which is not installed: pip install "numbacnn[pretrained]"')


def test_without_pillow(folder: Path, image: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert classify.main([str(image), f"--model={folder}", REFERENCE]) == 2
    assert capsys.readouterr().err == 'error: read_image needs Pillow: pip install "numbacnn[data]"\n'


def test_the_network_of_the_package(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its weights are drawn here, so that it sees one of the thousand classes, and it does not matter which."""
    install(tmp_path / "site", monkeypatch)
    assert classify.main([str(image), REFERENCE, "--top=3", "--explain"]) == 0
    first, *rows, wrote = capsys.readouterr().out.splitlines()
    assert first == str(image) and len(rows) == 3
    names = data.imagenet_classes()
    assert all(row[2:].rpartition("%")[0].rsplit(maxsplit=1)[0] in names for row in rows)
    assert wrote.startswith(f"  wrote {tmp_path / 'fire.jpg.gradcam.png'}: where it sees ")


@needs_weights
@pytest.mark.skipif(find_spec("skimage") is None, reason="scikit-image, whose photographs these are, is not installed")
def test_photographs_of_a_cat_a_cup_and_a_rocket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The classes that the implementation in PyTorch, whose weights these are, names first; and tabby among five."""
    photographs = Path(find_spec("skimage").submodule_search_locations[0], "data")
    names = ["chelsea.png", "coffee.png", "rocket.jpg"]
    assert classify.main([str(photographs / name) for name in names]) == 0
    lines = capsys.readouterr().out.splitlines()
    cat, cup, rocket = ([row[2:].rsplit("  ")[0].strip() for row in lines[i + 1 : i + 6]] for i in (0, 6, 12))
    assert cat[:3] == ["tiger cat", "Egyptian cat", "tabby"]
    assert cup[0] == "espresso" and "coffee mug" in cup
    assert rocket[:2] == ["missile", "projectile"] and "space shuttle" in rocket
