"""Image files as a model of photographs reads them, and the names of ImageNet's classes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from numbacnn import backends, data
from numbacnn.data import PHOTOGRAPHS, Preprocessing


def saved(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Path:
    """An image file of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 4), np.uint8)
    image = Image.fromarray(pixels)
    (image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)).save(path)
    return path


def test_an_image_is_read_as_a_folder_of_images_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = saved(tmp_path / "a" / "1.png")
    for options in ({}, {"size": (5, 9), "channels": 1}, {"size": 8, "interpolation": "bicubic", "crop_pct": 0.5}):
        image = data.read_image(str(path), **options)
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        np.testing.assert_array_equal(image, data.image_folder(tmp_path, **options).images[0])
    assert data.read_image(path).shape == (3, 30, 40)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "1", "P"])
def test_every_kind_of_image_has_three_channels(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "1.png", mode)
    x = data.photographs(path)
    assert x.shape == (1, 3, 224, 224) and x.dtype == np.float32
    if mode in ("L", "LA", "1"):
        np.testing.assert_array_equal(x[0, 1:], x[0, :2])


def test_a_photograph_lies_as_its_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(saved(tmp_path / "1.png"))
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "2.png", exif=exif)
    upright, turned = data.photographs([tmp_path / "1.png", tmp_path / "2.png"], (30, 40))
    np.testing.assert_array_equal(upright, turned)


def test_the_centre_of_the_image_in_numbers_around_zero(tmp_path: Path) -> None:
    """Of 256x384 pixels nothing is scaled, and 16 rows and 80 columns are cut off on each side."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 384, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    (x,) = data.photographs([tmp_path / "1.png"])
    expected = (pixels[16:240, 80:304].transpose(2, 0, 1) - np.float32(127)) / 128
    np.testing.assert_allclose(x, expected, atol=2e-7)


PREPROCESSINGS = [
    PHOTOGRAPHS,
    Preprocessing(32),
    Preprocessing((20, 31), 1, "nearest", 0.5, 0.2, [0.3]),
    Preprocessing(9, mean=[0.1, 0.2, 0.3], std=0.5),
]


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_batches_of_a_loader_have_the_same_bits(tmp_path: Path, preprocessing: Preprocessing) -> None:
    (tmp_path / "a").mkdir()
    path = saved(tmp_path / "a" / "1.png")
    folder = data.image_folder(tmp_path, **preprocessing.reading)
    with backends.use_backend("reference"):
        ((x, _),) = data.DataLoader(folder, 1, prefetch=0, transform=preprocessing.normalize)
    assert x.shape[1:] == preprocessing.image_shape
    np.testing.assert_array_equal(x, preprocessing(path))
    pixels = data.read_image(path, channels=preprocessing.channels)
    np.testing.assert_array_equal(x, preprocessing(pixels))
    np.testing.assert_array_equal(x, preprocessing(pixels[None]))
    np.testing.assert_array_equal(preprocessing.read([path, path])[1], folder.images[0])
    assert Preprocessing.from_config(json.loads(json.dumps(preprocessing.config()))) == preprocessing


def test_pixels_in_the_right_size_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 6), np.uint8)
    x = Preprocessing((5, 6), mean=0.5, std=2)(pixels)
    np.testing.assert_allclose(x, (pixels / 255 - 0.5) / 2, atol=1e-6)
    with pytest.raises(ImportError, match="Preprocessing needs Pillow"):
        Preprocessing(4)(pixels)


def test_preprocessings_that_cannot_be() -> None:
    for options, words in (
        ({"size": None}, "`size` None must be"),
        ({"size": 3, "mean": [0.5], "std": [1]}, r"`mean` \(0\.5,\) must be a number for each of the 3 channels"),
        ({"size": 3, "mean": [0.5]}, "must have as many numbers as `mean`, 1"),
        ({"size": 3, "std": 0}, r"`std` \(0.*\) must be above 0"),
        ({"size": 3, "channels": 2}, "`channels` 2 must be 1 or 3"),
    ):
        with pytest.raises(ValueError, match=words):
            Preprocessing(**options)
    with pytest.raises(TypeError, match="`images` of dtype float32 must be uint8"):
        Preprocessing(4)(np.zeros((3, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"`images` of shape \(4, 4, 3\) must be \(n, 3, h, w\)"):
        Preprocessing(4)(np.zeros((4, 4, 3), np.uint8))


def test_files_that_are_no_photographs(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_text("no image")
    with pytest.raises(data.DataFileError, match=r"1\.png' cannot be read as an image: it is none of JPEG, PNG"):
        data.photographs([tmp_path / "1.png"])
    with pytest.raises(data.DataFileError, match="is no regular file"):
        data.read_image(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*2\.png'"):
        data.photographs([tmp_path / "2.png"])
    with pytest.raises(ValueError, match=r"`paths` \[\] must name at least one file"):
        data.photographs([])


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "1.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'read_image needs Pillow: pip install "numbacnn\[data\]"'):
        data.photographs(path)


def test_classes_of_imagenet_are_in_the_order_of_its_models() -> None:
    classes = data.imagenet_classes()
    assert len(classes) == len(set(classes)) == 1000
    assert all(name and name == name.strip() for name in classes)
    known = {0: "tench", 281: "tabby", 282: "tiger cat", 504: "coffee mug", 657: "missile", 967: "espresso"}
    assert {index: classes[index] for index in known} == known and classes[-1] == "toilet tissue"
