"""Folders of images: what is found, in which order, how images are converted and brought to one size."""

from __future__ import annotations

import re
import sys

import numpy as np
import PIL
import pytest
from PIL import Image, features

from numbacnn.data import image_folder


def save(path, pixels, **options):
    """Write (h, w) grey or (h, w, 3) colours to ``path``, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


def colours(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def test_classes_images_and_their_order(tmp_path):
    names = ["dog/10.png", "dog/9.png", "dog/deeper/0.png", "Zebra/a.PNG", "cat/x.bmp", "cat/a/b.ppm"]
    for seed, name in enumerate(names):
        save(tmp_path / name, colours(4, 5, seed))
    for name in ("dog/notes.txt", "dog/0.png.bak", "readme.png", "cat/.DS_Store"):
        (tmp_path / name).write_text("no image")
    dataset = image_folder(str(tmp_path))
    # By folder and name, each folder before those in it.
    order = ["Zebra/a.PNG", "cat/x.bmp", "cat/a/b.ppm", "dog/10.png", "dog/9.png", "dog/deeper/0.png"]
    assert dataset.classes == ("Zebra", "cat", "dog") and dataset.labels.tolist() == [0, 1, 1, 2, 2, 2]
    assert dataset.images.dtype == np.uint8 and dataset.images.flags.c_contiguous
    expected = [colours(4, 5, names.index(name)).transpose(2, 0, 1) for name in order]
    np.testing.assert_array_equal(dataset.images, expected)
    assert dataset.name == tmp_path.name


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "ppm", "bmp", "tif", "tiff", "webp"])
def test_formats(tmp_path, extension):
    if extension == "webp" and not features.check("webp"):
        pytest.skip("this Pillow was built without WebP")
    save(tmp_path / "a" / f"1.{extension}", np.full((16, 16, 3), (200, 100, 30)))
    (image,) = image_folder(tmp_path).images
    np.testing.assert_allclose(image[:, 8, 8], (200, 100, 30), atol=4)


def test_grey_and_colour(tmp_path):
    pixels = colours(3, 4)
    save(tmp_path / "a" / "1.png", pixels)
    save(tmp_path / "a" / "2.png", pixels[..., 0])
    grey, colour = (image_folder(tmp_path, channels=channels).images for channels in (1, 3))
    assert grey.shape == (2, 1, 3, 4) and colour.shape == (2, 3, 3, 4)
    np.testing.assert_allclose(grey[0, 0], pixels @ (0.299, 0.587, 0.114), atol=1)
    np.testing.assert_array_equal(grey[1, 0], pixels[..., 0])
    np.testing.assert_array_equal(colour[1], [pixels[..., 0]] * 3)


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "LA", "CMYK", "transparent P"])
def test_modes(tmp_path, mode):
    image = Image.new("RGB", (6, 4), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 3, 4))
    options = {}
    if mode == "transparent P":
        image, options = image.quantize(4), {"transparency": bytes([0, 128, 255, 255])}
    else:
        image = image.convert(mode)
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / ("1.tif" if mode == "CMYK" else "1.png"), **options)
    for channels in (1, 3):
        (found,) = image_folder(tmp_path, channels=channels).images
        assert np.unique(found[:, :, :3]) == [0] and np.unique(found[:, :, 3:]) == [255]


def test_16_bit_grey_keeps_its_upper_bits(tmp_path):
    levels = np.array([[0, 255, 256], [0x1234, 0x8000, 0xFFFF]], np.uint16)
    (tmp_path / "a").mkdir()
    reads_png = tuple(map(int, PIL.__version__.split(".")[:2])) >= (10, 3)  # before, to 32 bits
    for name in ("1.tif", "2.png")[: 1 + reads_png]:
        Image.fromarray(levels).save(tmp_path / "a" / name)
    for image in image_folder(tmp_path, channels=1).images:
        np.testing.assert_array_equal(image[0], levels >> 8)


def test_pixels_of_32_bits_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    for dtype, mode in ((np.float32, "F"), (np.int32, "I")):
        Image.fromarray(np.ones((2, 2), dtype)).save(tmp_path / "a" / "1.tif")
        with pytest.raises(ValueError, match=rf"1\.tif' cannot be read .* of mode {mode}, they must have 8 or 16 bits"):
            image_folder(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    upright = np.zeros((8, 24, 3), np.uint8)
    upright[:, :8, 0] = upright[4:, 8:, 1] = 255
    # What each number says was done to the upright image, as numpy undoes it.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "a" / "1.png", stored, exif=exif)
    np.testing.assert_array_equal(image_folder(tmp_path).images[0].transpose(1, 2, 0), upright)


def test_a_size_crops_what_is_too_long_in_the_centre(tmp_path):
    pixels = colours(4, 10)
    save(tmp_path / "a" / "1.png", pixels)
    save(tmp_path / "a" / "2.png", pixels.transpose(1, 0, 2))
    save(tmp_path / "a" / "3.png", pixels[:, 3:7])
    images = image_folder(tmp_path, size=4).images
    expected = pixels[:, 3:7].transpose(2, 0, 1)
    np.testing.assert_array_equal(images, [expected, expected.transpose(0, 2, 1), expected])
    (wide, tall, _) = image_folder(tmp_path, size=(4, 10)).images
    np.testing.assert_array_equal(wide, pixels.transpose(2, 0, 1))
    assert tall.shape == (3, 4, 10)


def test_a_size_scales_by_a_bilinear_filter_that_averages(tmp_path):
    pixels = colours(48, 64)
    save(tmp_path / "a" / "1.png", pixels)
    save(tmp_path / "b" / "1.png", np.full((5, 3, 3), (9, 120, 250)))
    dataset = image_folder(tmp_path, size=(6, 8))
    # The triangle of the filter is twice as wide as one of the new pixels, 16 of the old ones.
    weights = 1 - np.abs((np.arange(16) + 0.5) / 8 - 1)
    weights /= weights.sum()
    inside = pixels[12:28, 20:36]
    np.testing.assert_allclose(dataset.images[0, :, 2, 3], np.einsum("yxc,y,x->c", inside, weights, weights), atol=1)
    assert (dataset.images[1] == np.reshape((9, 120, 250), (3, 1, 1))).all()


def test_images_of_several_sizes_need_a_size(tmp_path):
    first = save(tmp_path / "a" / "1.png", colours(4, 5))
    for n in range(2, 9):
        save(tmp_path / "a" / f"{n}.png", colours(4, 5))
    other = save(tmp_path / "b" / "1.png", colours(5, 4))
    words = rf"{re.escape(str(other))}' has height and width \(5, 4\), '{re.escape(str(first))}' has \(4, 5\); without"
    with pytest.raises(ValueError, match=words):
        image_folder(tmp_path)
    assert image_folder(tmp_path, 3).image_shape == (3, 3, 3)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`root` .*nowhere' must be a folder that exists"):
        image_folder(tmp_path / "nowhere")
    save(tmp_path / "1.png", colours(2, 2))
    with pytest.raises(FileNotFoundError, match=r"`root` .*1\.png' must be a folder that exists"):
        image_folder(tmp_path / "1.png")
    with pytest.raises(
        FileNotFoundError, match=f"{re.escape(str(tmp_path))}' must have a sub-folder .* for each class"
    ):
        image_folder(tmp_path)
    save(tmp_path / "full" / "1.png", colours(2, 2))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "1.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"empty' must hold images, files that end in \.jpg.*holds none"):
        image_folder(tmp_path)


@pytest.mark.parametrize("kind", ["text", "empty", "cut short"])
def test_an_image_that_cannot_be_read(tmp_path, kind):
    for n in range(3):
        save(tmp_path / "a" / f"{n}.png", colours(16, 16))
    path = tmp_path / "a" / "1.png"
    path.write_bytes({"text": b"no image", "empty": b"", "cut short": path.read_bytes()[:-40]}[kind])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}' cannot be read as an image: ."):
        image_folder(tmp_path, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"size": 0}, ValueError, "`size` 0 must be at least 1"),
        ({"size": (3, 4, 5)}, ValueError, "`size` .* must be an int or a pair"),
        ({"size": 2.5}, TypeError, "`size` 2.5 must be an int"),
        ({"channels": 2}, ValueError, "`channels` 2 must be 1 or 3"),
        ({"channels": "RGB"}, TypeError, "`channels` 'RGB' must be an int"),
    ],
)
def test_arguments(tmp_path, arguments, error, words):
    save(tmp_path / "a" / "1.png", colours(2, 2))
    with pytest.raises(error, match=words):
        image_folder(tmp_path, **arguments)


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'Pillow: pip install "numbacnn\[data\]"'):
        image_folder(tmp_path)
