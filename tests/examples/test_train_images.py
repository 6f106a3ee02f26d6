"""The command that trains any of the models, on CIFAR-10 and on folders of images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file as load_safetensors

from numbacnn import backends
from numbacnn.cli import train
from numbacnn.cli.recipes import RECIPES
from tests.strategies import SIMULATED

pytestmark = pytest.mark.skipif(SIMULATED, reason="the models are too large for the simulator")


@pytest.fixture
def train_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str], list[str]]]:
    """Train for one epoch on files in ``tmp_path``: exit code, lines of standard output, lines of errors."""

    def train_on(dataset: str, *options: str) -> tuple[int, list[str], list[str]]:
        fixed = [f"--dataset={dataset}", "--epochs=1", "--batch-size=4", f"--output-dir={tmp_path / 'out'}"]
        try:
            with backends.use_backend("cpu"):
                code = train.main([*fixed, *options])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return train_on


@pytest.fixture
def cifar_folder(tmp_path: Path) -> str:
    """The option for a folder with CIFAR-10's files, two images in each."""
    generator = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records = generator.integers(0, 256, (2, 3073), np.uint8)
        records[:, 0] = generator.integers(0, 10, 2)
        records.tofile(tmp_path / name)
    return f"--data-dir={tmp_path}"


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """A folder with images of two classes, of several sizes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (30 + number, 40, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{number}.png")
    return tmp_path / "images"


def test_cifar10(train_on, cifar_folder: str, tmp_path: Path) -> None:
    code, lines, errors = train_on("cifar10", cifar_folder, "--model=resnet", "--limit=6", "--augment=color")
    assert (code, errors) == (0, [])
    assert lines[0] == "cifar10: 6 training and 2 test images of 3x32x32 pixels in 10 classes"
    state = load_safetensors(tmp_path / "out" / "model.safetensors")
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in RECIPES["resnet"].build(3, 10).state_dict().items()
    }


def test_resnet20_on_cifar10(train_on, cifar_folder: str, tmp_path: Path) -> None:
    code, lines, errors = train_on("cifar10", cifar_folder, "--model=resnet20")
    assert (code, errors) == (0, [])
    assert lines[0] == "cifar10: 10 training and 2 test images of 3x32x32 pixels in 10 classes"
    state = load_safetensors(tmp_path / "out" / "model.safetensors")
    assert state["linear.weight"].shape == (10, 64) and state["conv1.weight"].shape == (16, 3, 3, 3)


def test_cifar10_is_too_large_for_lenet(train_on, cifar_folder: str) -> None:
    code, _, errors = train_on("cifar10", cifar_folder, "--model=lenet")
    assert code == 2
    assert errors == ["error: the model reads images of 28x28 pixels, not 3x32x32"]


def test_damaged_or_missing_files_of_cifar10_are_refused(train_on, cifar_folder: str, tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    code, _, errors = train_on("cifar10", cifar_folder, "--model=resnet")
    assert code == 2 and len(errors) == 1 and "test_batch.bin' holds 5 bytes" in errors[0]
    (tmp_path / "test_batch.bin").unlink()
    code, _, errors = train_on("cifar10", cifar_folder, "--model=resnet")
    assert code == 2 and len(errors) == 1 and "lacks test_batch.bin" in errors[0]


def test_a_folder_of_images(train_on, image_folder: Path, tmp_path: Path) -> None:
    code, lines, errors = train_on("folder", f"--data-dir={image_folder}", "--model=lenet-bn", "--augment=color")
    assert (code, errors) == (0, [])
    assert lines[0] == "folder: 8 training and 4 test images of 3x28x28 pixels in 2 classes"
    state = load_safetensors(tmp_path / "out" / "model.safetensors")
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in RECIPES["lenet-bn"].build(3, 2).state_dict().items()
    }


def test_a_limit_takes_images_of_every_class_of_a_folder(image_folder: Path) -> None:
    _, (few, test) = train.load_data("folder", image_folder, 3, 28)
    _, (every, _) = train.load_data("folder", image_folder, 9, 28)
    assert few.labels.tolist() == [0, 0, 1] and test.labels.tolist() == [0, 0, 1]
    assert every.labels.tolist() == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(few.images, every.images[[0, 2, 5]])


def test_a_folder_that_cannot_be_used(train_on, image_folder: Path) -> None:
    options = [f"--data-dir={image_folder}", "--model=lenet"]
    (image_folder / "test" / "cat").rename(image_folder / "test" / "cats")
    code, _, errors = train_on("folder", *options)
    assert code == 2
    assert errors == [
        f"error: train and test in {str(image_folder)!r} must have the same classes; only one of them has cat, cats"
    ]
    (image_folder / "test" / "dog" / "0.png").write_text("no image")
    code, _, errors = train_on("folder", *options)
    assert code == 2 and len(errors) == 1 and "0.png' cannot be read as an image" in errors[0]
    (image_folder / "test").rename(image_folder / "valid")
    code, _, errors = train_on("folder", *options)
    assert code == 2
    assert errors == [
        f"error: --data-dir {str(image_folder)!r} must have the folders train and test, each with a folder of images "
        "for each class, such as train/cat/1.png: there is no test"
    ]
    code, _, errors = train_on("folder", f"--data-dir={image_folder / 'train' / 'cat'}", "--model=lenet")
    assert code == 2 and len(errors) == 1 and errors[0].endswith(": there is no train and no test")
    (image_folder / "test").mkdir()
    code, _, errors = train_on("folder", *options)
    assert code == 2 and len(errors) == 1 and errors[0].startswith("error: --data-dir: ")
    code, _, errors = train_on("folder", "--model=lenet")
    assert code == 2 and errors[-1].endswith("argument --data-dir: --dataset folder needs it")


def test_a_folder_without_pillow(train_on, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    code, _, errors = train_on("folder", f"--data-dir={image_folder}", "--model=lenet")
    assert code == 2 and errors == ['error: image_folder needs Pillow: pip install "numbacnn[data]"']


def test_grey_images_have_no_colours_to_change(train_on) -> None:
    code, _, errors = train_on("shapes", "--limit=6", "--model=lenet", "--augment=color")
    assert code == 2 and errors == ["error: --augment color changes images of 3 channels, not 1"]
