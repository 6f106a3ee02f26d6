"""Image files as a model of photographs reads them, and the names of ImageNet's classes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from numbacnn import backends, data
from numbacnn.data.photographs import CROP_PCT, INTERPOLATION, NORMALIZE


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
    np.testing.assert_array_equal(x, (pixels[16:240, 80:304].transpose(2, 0, 1) - np.float32(127)) / 128)


def test_batches_of_a_loader_can_be_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = saved(tmp_path / "a" / "1.png")
    folder = data.image_folder(tmp_path, 32, interpolation=INTERPOLATION, crop_pct=CROP_PCT)
    with backends.use_backend("reference"):
        ((x, _),) = data.DataLoader(folder, 1, prefetch=0, transform=NORMALIZE)
    np.testing.assert_allclose(x, data.photographs(path, 32), atol=1e-6)


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
