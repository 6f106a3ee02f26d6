"""Folders of pictures with masks, and of pictures with pictures: what goes with what, numbers, sizes, errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from numbacnn.data import DataFileError, DataLoader, mask_folder, picture_pairs


def save(path: Path, pixels: Any, palette: bool = False, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    if palette:
        image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(path, **options)
    return path


def colours(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def numbers(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (h, w), np.uint8)


def test_files_of_one_name_belong_together(tmp_path: Path) -> None:
    for seed, name in enumerate(["b.jpg", "a.PNG", "more/a.bmp"]):
        save(tmp_path / "images" / name, colours(4, 6, seed))
        save((tmp_path / "masks" / name).with_suffix(".png"), numbers(4, 6, seed), palette=seed == 0)
    (tmp_path / "images" / ".hidden.png").write_text("no image")
    (tmp_path / "masks" / "notes.txt").write_text("no image")
    dataset = mask_folder(str(tmp_path))
    assert dataset.inputs.shape == (3, 3, 4, 6) and dataset.inputs.dtype == dataset.targets.dtype == np.uint8
    np.testing.assert_array_equal(dataset.targets, [numbers(4, 6, seed) for seed in (1, 0, 2)])
    np.testing.assert_array_equal(dataset.inputs[0], colours(4, 6, 1).transpose(2, 0, 1))
    assert dataset.name == tmp_path.name
    x, masks = next(iter(DataLoader(dataset, 3)))
    assert x.dtype == np.float32 and masks.dtype == np.int64


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB", "RGBA", "LA", "I;16"])
def test_numbers_are_those_in_the_file(tmp_path: Path, mode: str) -> None:
    expected = numbers(5, 7) if mode != "1" else numbers(5, 7) // 2
    if mode == "I;16":
        image = Image.fromarray(expected.astype(np.uint16))
    elif mode == "1":
        image = Image.fromarray(expected * 255).convert("1")
    else:
        image = Image.fromarray(expected)
        image = image if mode in "LP" else image.convert(mode)
        if mode == "P":
            image.putpalette(list(range(255, -1, -1)) * 3)
    save(tmp_path / "images" / "x.png", colours(5, 7))
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "masks" / "x.png")
    np.testing.assert_array_equal(mask_folder(tmp_path, channels=1).targets[0], expected)


def test_a_size_cuts_and_scales_both_alike(tmp_path: Path) -> None:
    blocks = np.kron(np.arange(12).reshape(3, 4), np.ones((8, 8)))
    for name, pixels in (("wide", blocks), ("high", blocks.T)):
        save(tmp_path / "images" / f"{name}.png", pixels * 20)
        save(tmp_path / "masks" / f"{name}.png", pixels)
    with pytest.raises(DataFileError, match=r"wide.png' has height and width \(24, 32\), .*high.png' has \(32, 24\)"):
        mask_folder(tmp_path)
    dataset = mask_folder(tmp_path, 12, channels=1, interpolation="nearest")
    np.testing.assert_array_equal(dataset.inputs[:, 0], 20 * dataset.targets)
    middle = np.kron(np.arange(12).reshape(3, 4), np.ones((4, 4)))[:, 2:14]
    np.testing.assert_array_equal(dataset.targets, [middle.T, middle])
    smooth = mask_folder(tmp_path, 12)
    np.testing.assert_array_equal(smooth.targets, dataset.targets)
    assert len(np.unique(smooth.inputs)) > 12


def test_values_are_classes(tmp_path: Path) -> None:
    save(tmp_path / "images" / "x.png", colours(2, 2))
    path = save(tmp_path / "masks" / "x.png", [[0, 255], [255, 7]])
    assert mask_folder(tmp_path, values=[7, 255, 0]).targets.tolist() == [[[2, 1], [1, 0]]]
    assert mask_folder(tmp_path).targets.tolist() == [[[0, 255], [255, 7]]]
    with pytest.raises(DataFileError, match=re.escape(f"{str(path)!r} holds the number 7, which is none of `values`")):
        mask_folder(tmp_path, values=(0, 255))
    for values, message in (([1, 1], "must be different"), ([], "one at least"), ([256], "`values` 256 must be in")):
        with pytest.raises(ValueError, match=message):
            mask_folder(tmp_path, values=values)


def test_pictures_of_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / "noisy" / f"{name}.png", colours(6, 8, ord(name)))
        save(tmp_path / "clean" / f"{name}.png", colours(6, 8, 1 + ord(name)))
    dataset = picture_pairs(tmp_path, inputs="noisy", targets="clean")
    assert dataset.inputs.dtype == np.uint8 and dataset.targets.dtype == np.float32
    expected = colours(6, 8, 1 + ord("b")).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(dataset.targets[1], expected.astype(np.float32))
    grey = picture_pairs(tmp_path, 4, 3, 1, inputs="noisy", targets="clean")
    assert grey.inputs.shape == (2, 3, 4, 4) and grey.targets.shape == (2, 1, 4, 4)
    x, y = next(iter(DataLoader(grey, 2)))
    assert x.dtype == y.dtype == np.float32 and 0 <= y.min() < y.max() <= 1
    save(tmp_path / "clean" / "b.png", colours(6, 9))
    with pytest.raises(DataFileError, match=r"b.png' has height and width \(6, 9\), what it belongs to has \(6, 8\)"):
        picture_pairs(tmp_path, inputs="noisy", targets="clean")


def refused(root: Path, error: type[Exception], *parts: str, **how: Any) -> None:
    with pytest.raises(error) as caught:
        mask_folder(root, **how)
    for part in parts:
        assert part in str(caught.value)


def test_what_does_not_belong_together_is_named(tmp_path: Path) -> None:
    refused(tmp_path, FileNotFoundError, "there is no folder", "images'", "masks'")
    picture = save(tmp_path / "images" / "x.jpg", colours(4, 4))
    refused(tmp_path, FileNotFoundError, "there is no folder", "masks'")
    (tmp_path / "masks").mkdir()
    refused(tmp_path, FileNotFoundError, str(tmp_path / "masks"), "must hold images")
    mask = save(tmp_path / "masks" / "y.png", numbers(4, 4))
    save(tmp_path / "images" / "z.png", colours(4, 4))
    refused(tmp_path, DataFileError, str(picture), "must have a file of that name in", "and 1 others have none")
    save(tmp_path / "masks" / "x.png", numbers(4, 4))
    save(tmp_path / "masks" / "z.png", numbers(4, 4))
    refused(tmp_path, DataFileError, str(mask), "there is none")
    mask.unlink()
    twin = save(tmp_path / "images" / "x.png", colours(4, 4))
    refused(tmp_path, DataFileError, str(picture), str(twin), "have one name")
    twin.unlink()
    assert len(mask_folder(tmp_path)) == 2


def test_masks_that_are_none(tmp_path: Path) -> None:
    save(tmp_path / "images" / "x.png", colours(4, 4))
    path = tmp_path / "masks" / "x.png"
    save(path, numbers(4, 5))
    refused(tmp_path, DataFileError, str(path), "has height and width (4, 5)", "(4, 4)")
    save(path, colours(4, 4))
    refused(tmp_path, DataFileError, str(path), "it has colours")
    save(path, numbers(4, 4), format="JPEG")
    refused(tmp_path, DataFileError, str(path), "JPEG does not keep the numbers")
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(path)
    refused(tmp_path, DataFileError, str(path), "it holds 300")
    path.write_bytes(b"no image")
    refused(tmp_path, DataFileError, str(path), "cannot be read as an image: it is none of JPEG, PNG")
    save(path, numbers(4, 4))
    refused(tmp_path, ValueError, "`channels` 2 must be 1 or 3", channels=2)
