"""Models with their classes and preprocessing: what they say of pictures, and folders that lack something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from numbacnn import nn
from numbacnn.data import Preprocessing
from numbacnn.io import CheckpointError
from tests.quick import reference_by_default as reference_by_default

PREPROCESSING = Preprocessing(28, 1, "bicubic", 0.9, 0.2, 0.5)


@pytest.fixture
def classifier() -> nc.Classifier:
    nc.manual_seed(0)
    return nc.Classifier(nc.models.lenet(num_classes=3).train(), ["red", "blue", "r\u00f6tlich"], PREPROCESSING)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for seed, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return paths


def test_classes_with_their_probabilities(classifier: nc.Classifier, paths: list[Path]) -> None:
    assert not classifier.model.training
    logits = np.asarray(classifier.model.predict(PREPROCESSING(paths)), float)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(classifier.probabilities(paths), shares, rtol=1e-5)
    both = classifier.predict(paths, top=None)
    for row, found in zip(shares, both, strict=True):
        assert [name for name, _ in found] == [classifier.classes[k] for k in np.argsort(-row)]
        assert [share for _, share in found] == pytest.approx(sorted(row, reverse=True), rel=1e-5)
    pixels = nc.data.read_image(paths[0], channels=1)
    one = classifier.predict(paths[0])
    assert [name for name, _ in one] == [name for name, _ in both[0]]
    for same in (str(paths[0]), pixels):
        assert classifier.predict(same) == one
    assert classifier.predict(paths[0], top=2) == one[:2] and classifier.predict(pixels[None]) == [one]
    with pytest.raises(ValueError, match="`top` 0 must be at least 1"):
        classifier.predict(paths, top=0)


def test_it_comes_back_from_its_folder(classifier: nc.Classifier, paths: list[Path], tmp_path: Path) -> None:
    classifier.save(tmp_path / "model")
    found = nc.load_classifier(tmp_path / "model")
    assert (found.classes, found.preprocessing, repr(found)) == (
        classifier.classes,
        PREPROCESSING,
        repr(classifier),
    )
    assert found.predict(paths) == classifier.predict(paths)
    config = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["image_size"] == 28 and config["mean"] == [0.2] and config["interpolation"] == "bicubic"


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 2))
    nc.save_pretrained(tmp_path, model, {"classes": ["a", "b"], "image_size": [2, 3]})
    with pytest.raises(ValueError, match="names no architecture"):
        nc.load_classifier(tmp_path)
    found = nc.load_classifier(tmp_path, nn.Sequential(nn.Flatten(), nn.Linear(18, 2)))
    assert found.preprocessing == Preprocessing((2, 3))
    image = np.full((3, 2, 3), 51, np.uint8)
    scores = model.predict(np.full((1, 3, 2, 3), 0.2, np.float32))[0]
    assert found.predict(image)[0][0] == "ab"[int(np.argmax(scores))]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": None}, "config.json' lacks 'classes'"),
        ({"image_size": None}, "config.json' lacks 'image_size'"),
        ({"classes": ["a", "b"]}, r"the model gives \(1, 3\), which must be a number for each of 2 `classes`"),
        ({"classes": [1, 2, 3]}, r"`classes` \[1, 2, 3\] must be a list of names"),
        ({"image_size": "28"}, "says what cannot be: `size` '28' must be"),
        ({"mean": "white"}, "says what cannot be: "),
        ({"interpolation": "best"}, "`interpolation` 'best' must be one of"),
    ],
)
def test_configurations_that_cannot_be(
    classifier: nc.Classifier, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    classifier.save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    with pytest.raises(CheckpointError, match=words):
        nc.load_classifier(tmp_path)


def test_arguments_that_are_refused(classifier: nc.Classifier, tmp_path: Path) -> None:
    model = classifier.model
    with pytest.raises(TypeError, match="`model` of type int must be a Layer"):
        nc.Classifier(3, ["a"], PREPROCESSING)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`preprocessing` of type int must be a data\.Preprocessing"):
        nc.Classifier(model, ["a"], 28)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="which must be a number for each of 1 `classes`"):
        nc.Classifier(model, ["a"], PREPROCESSING)
    nc.save(tmp_path / "model.safetensors", model)
    with pytest.raises(FileNotFoundError, match=r"there is no .*config\.json' to tell classes and preprocessing"):
        nc.load_classifier(tmp_path, model)
