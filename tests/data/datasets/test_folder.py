"""Folders of images: what is found, in which order, how images are converted and brought to one size."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, features

from numbacnn.data import DataFileError, image_folder


def save(path, pixels, **options):
    """Write (h, w) grey or (h, w, 3) colours to ``path``, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


def png(grey, depth, *chunks):
    """The bytes of a file with (h, w) grey of so many bits, and (name, content) chunks before it."""
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(grey))
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


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
    Image.fromarray(levels).save(tmp_path / "a" / "1.tif")
    (tmp_path / "a" / "2.png").write_bytes(png(levels.astype(">u2"), 16))
    (tmp_path / "a" / "3.pgm").write_bytes(b"P5 3 2 65535 " + levels.astype(">u2").tobytes())
    for image in image_folder(tmp_path, channels=1).images:
        np.testing.assert_array_equal(image[0], levels >> 8)


def test_pixels_of_32_bits_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    for dtype, mode in ((np.float32, "F"), (np.int32, "I")):
        Image.fromarray(np.ones((2, 2), dtype)).save(tmp_path / "a" / "1.tif")
        with pytest.raises(
            ValueError, match=rf"1\.tif' cannot be read .* of mode {mode}, they must have 8 or 16 bits without"
        ):
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


def exif_block(kind, count, value, *others):
    """EXIF bytes in which the orientation has a type, a count and 4 bytes of value; and other entries of 12 bytes."""
    entries = [struct.pack(">HHI4s", 0x0112, kind, count, value), *others]
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + b"".join(entries) + bytes(4)


def save_with_exif(path, pixels, block):
    save(path, pixels, **({"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}))
    content = path.read_bytes()
    if path.suffix == ".jpg":
        chunk, at = b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block, 2
    else:
        data = b"eXIf" + block.removeprefix(b"Exif\0\0")
        chunk, at = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)), 33
    path.write_bytes(content[:at] + chunk + content[at:])


TURNED = exif_block(3, 1, b"\0\x06\0\0")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it leaves out
@pytest.mark.parametrize("name", ["1.jpg", "1.png"])
@pytest.mark.parametrize(
    ("block", "turned"),
    [
        (TURNED, True),
        (exif_block(2, 4, b"six\0"), False),
        (exif_block(3, 1, b"\0\x63\0\0"), False),
        (exif_block(3, 0, bytes(4)), False),
        # An ASCII description whose place is far outside, a rational that is text, and a sub-directory that is itself.
        (exif_block(3, 1, b"\0\x06\0\0", struct.pack(">HHII", 0x013B, 2, 999, 2**31)), True),
        (exif_block(3, 1, b"\0\x06\0\0", struct.pack(">HHI4s", 0x011A, 2, 4, b"abc\0")), True),
        (exif_block(3, 1, b"\0\x06\0\0", struct.pack(">HHII", 0x8769, 4, 1, 8)), True),
        (TURNED[:20], False),
        (b"Exif\0\0no such block", False),
        (b"Exif\0\0", False),
    ],
)
def test_damaged_exif_leaves_the_pixels_readable(tmp_path, name, block, turned):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:, :16] = 255
    save_with_exif(tmp_path / "a" / name, np.rot90(upright) if turned else upright, block)
    np.testing.assert_allclose(image_folder(tmp_path).images[0].transpose(1, 2, 0), upright, atol=3)


@pytest.mark.parametrize("text", [b"\nexif\n 8\nno hex", b"\nexif", b"\nexif\n 8\n45786966zz"])
def test_damaged_exif_in_the_text_of_a_png(tmp_path, text):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png(grey, 8, (b"tEXt", b"Raw profile type exif\0" + text)))
    np.testing.assert_array_equal(image_folder(tmp_path, channels=1).images[0, 0], grey)


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


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
def test_interpolation_and_the_share_that_is_kept(tmp_path, name):
    """As torchvision does it for 224 of 256: the whole image is made smaller, then the centre is cut out."""
    image = Image.open(save(tmp_path / "a" / "1.png", colours(128, 160)))
    smaller = np.asarray(image.resize((40, 32), Image.Resampling[name.upper()]))
    dataset = image_folder(tmp_path, 28, interpolation=name, crop_pct=0.875)
    np.testing.assert_array_equal(dataset.images[0].transpose(1, 2, 0), smaller[2:30, 6:34])


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
        ({"size": 4, "interpolation": "cubic"}, ValueError, "`interpolation` 'cubic' must be one of 'nearest', "),
        ({"size": 4, "crop_pct": 0}, ValueError, "`crop_pct` 0 must be above 0"),
        ({"size": 4, "crop_pct": 1.5}, ValueError, r"`crop_pct` 1.5 must be in 0\.\.1"),
        ({"crop_pct": 0.5}, ValueError, "`crop_pct` 0.5 must be 1 without a `size` to cut the image to"),
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


def link(path, target):
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:  # Windows lets few users make links
        pytest.skip("no symbolic links here")


def test_links_that_loop_find_every_image_once(tmp_path):
    root = tmp_path / "above" / "root"
    for seed, name in enumerate(["cat/1.png", "cat/deep/2.png", "dog/3.png"]):
        save(root / name, colours(2, 2, seed))
    save(tmp_path / "above" / "not of the data set.png", colours(2, 2, 7))
    for name, target in {
        "cat/self": ".", "cat/again": ".", "cat/parent": "..", "cat/deep/up": "..", "cat/deep/far": "../../..",
        "cat/everything": "/", "dog/cat": "../cat", "cat/dog": "../dog", "cat/gone": "nowhere",
    }.items():  # fmt: skip
        link(root / name, target)
    dataset = image_folder(root)
    assert dataset.labels.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(dataset.images, [colours(2, 2, seed).transpose(2, 0, 1) for seed in range(3)])


def test_links_to_other_places_are_followed_once(tmp_path):
    save(tmp_path / "store" / "1.png", colours(2, 2))
    save(tmp_path / "store" / "more" / "2.png", colours(2, 2))
    save(tmp_path / "root" / "b" / "3.png", colours(2, 2))
    save(tmp_path / "root" / "a" / "4.png", colours(2, 2))
    link(tmp_path / "root" / "a" / "one", tmp_path / "store" / "more")
    link(tmp_path / "root" / "b" / "two", tmp_path / "store")
    link(tmp_path / "root" / "b" / "three", tmp_path / "store")
    link(tmp_path / "root" / "c", tmp_path / "store" / "linked")
    save(tmp_path / "store" / "linked" / "5.png", colours(2, 2))
    # Classes come first, then links in the order of classes and names.
    assert image_folder(tmp_path / "root").labels.tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("target", ["dog", ".", ".."])
def test_two_classes_that_are_one_folder(tmp_path, target):
    save(tmp_path / "dog" / "small" / "1.png", colours(2, 2))
    link(tmp_path / "cat", target)
    with pytest.raises(DataFileError, match=r"' and '.*' are one folder; each class must have one of its own"):
        image_folder(tmp_path)


def test_a_link_to_an_image_that_is_gone_is_named(tmp_path):
    save(tmp_path / "a" / "1.png", colours(2, 2))
    link(tmp_path / "a" / "2.png", "nowhere.png")
    with pytest.raises(DataFileError, match=r"2\.png' cannot be read as an image: .*No such file"):
        image_folder(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_no_images_and_hang_nobody(tmp_path):
    save(tmp_path / "a" / "1.png", colours(2, 2))
    os.mkfifo(tmp_path / "a" / "2.png")
    os.mkfifo(tmp_path / "pipe.png")
    script = f"from numbacnn.data import image_folder; print(image_folder({str(tmp_path)!r}).images.shape)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("(1, 3, 2, 2)\n", "")


def test_hidden_files_and_folders_are_no_data(tmp_path):
    save(tmp_path / "cat" / "1.png", colours(2, 2))
    save(tmp_path / "cat" / ".ipynb_checkpoints" / "1-checkpoint.png", colours(2, 2))
    save(tmp_path / "cat" / "__MACOSX" / "2.png", colours(2, 2))
    save(tmp_path / "cat" / "@eaDir" / "1.png" / "thumb.jpg", colours(2, 2))
    (tmp_path / "cat" / "._1.png").write_bytes(b"no image")
    for name in (".ipynb_checkpoints", "__MACOSX", ".git", "lost+found", "$RECYCLE.BIN", "System Volume Information"):
        (tmp_path / name).mkdir()
    save(tmp_path / ".cache" / "1.png", colours(2, 2))
    dataset = image_folder(tmp_path)
    assert dataset.classes == ("cat",) and len(dataset) == 1


def test_a_hidden_root_is_as_good_as_any(tmp_path):
    save(tmp_path / ".data" / "cat" / "1.png", colours(2, 2))
    assert image_folder(tmp_path / ".data").classes == ("cat",)


def test_formats_that_start_programs_are_not_tried(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: started.append("gs"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(eps)
    with pytest.raises(DataFileError, match=r"1\.png' cannot be read as an image: it is none of JPEG, PNG"):
        image_folder(tmp_path)
    assert started == []


def test_a_format_that_the_name_does_not_tell(tmp_path):
    (tmp_path / "a").mkdir()
    for name, kind in (("1.jpg", "PNG"), ("2.jpg", "GIF"), ("3.png", "BMP")):
        Image.fromarray(np.full((4, 4, 3), 255, np.uint8)).save(tmp_path / "a" / name, format=kind)
    assert (image_folder(tmp_path).images == 255).all()


@pytest.mark.filterwarnings("ignore")  # Pillow warns as well
def test_decompression_bombs_are_left_packed(tmp_path, monkeypatch):
    path = tmp_path / "a" / "1.png"
    path.parent.mkdir()
    grey = np.zeros((300, 400), np.uint8)
    path.write_bytes(png(grey, 8))
    assert image_folder(tmp_path).image_shape == (3, 300, 400)
    decoded = []
    monkeypatch.setattr(Image.Image, "load", lambda self: decoded.append(self))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300 * 400 - 1)
    words = (
        rf"{re.escape(str(path))}' .*\(300, 400\) are 120000 pixels; there must be at most 119999, .*MAX_IMAGE_PIXELS"
    )
    with pytest.raises(DataFileError, match=words):
        image_folder(tmp_path, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(DataFileError, match=rf"{re.escape(str(path))}' cannot be read as an image: .*120000 pixels"):
        image_folder(tmp_path, 8)
    assert decoded == []


def test_a_home_folder(tmp_path, monkeypatch):
    save(tmp_path / "pets" / "cat" / "1.png", colours(2, 2))
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert image_folder("~/pets").name == "pets"


def test_images_without_folders_of_classes(tmp_path):
    for n in range(3):
        save(tmp_path / f"{n}.png", colours(2, 2))
    layout = re.escape(str(tmp_path / "CLASS" / "IMAGE.jpg"))
    with pytest.raises(
        FileNotFoundError, match=rf"it has none, but 3 images of its own: images must lie in .*{layout}"
    ):
        image_folder(tmp_path)
