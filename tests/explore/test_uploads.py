"""Files that are dropped: images of many kinds become pixels, everything else a message."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from numbacnn.data import Preprocessing
from numbacnn.explore.uploads import MOST_BYTES, UploadError, pixels_of

GREY, COLOUR = Preprocessing(16, channels=1), Preprocessing(16)


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes, whose header is right."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def ramp(mode: str = "RGB") -> Image.Image:
    """Dark at the left, light at the right."""
    grey = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    return Image.fromarray(grey).convert(mode)


def check_ramp(pixels: np.ndarray[Any, Any]) -> None:
    columns = pixels.astype(float).mean(axis=(0, 1))
    assert pixels.shape[1:] == (16, 16) and pixels.dtype == np.uint8
    assert (np.diff(columns) > 0).all() and columns[0] < 25 and columns[-1] > 230


@pytest.mark.parametrize("preprocessing", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *[("RGB", kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")],
        *[("L", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("1", "BMP"), ("CMYK", "JPEG"), ("CMYK", "TIFF")],
    ],
)
def test_kinds_of_images(mode: str, kind: str, preprocessing: Preprocessing) -> None:
    pixels = pixels_of(stored(ramp(mode), kind), "ramp", preprocessing)
    assert len(pixels) == preprocessing.channels
    if mode != "1":  # which is dithered
        check_ramp(pixels)


def test_sixteen_bits() -> None:
    deep = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (32, 1))
    check_ramp(pixels_of(stored(Image.fromarray(deep)), "deep.png", GREY))


def test_transparency_is_not_painted_over() -> None:
    image = ramp("RGBA")
    image.putalpha(128)
    check_ramp(pixels_of(stored(image), "half.png", COLOUR))


def test_an_image_is_put_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    turned = ramp().rotate(90)
    check_ramp(pixels_of(stored(turned, "JPEG", exif=exif, quality=95), "turned.jpg", COLOUR))


def test_of_many_frames_the_first_is_taken() -> None:
    frames = [Image.new("L", (32, 32), grey) for grey in range(0, 200, 2)]
    moving = stored(ramp("L"), "GIF", save_all=True, append_images=frames, duration=20)
    check_ramp(pixels_of(moving, "moving.gif", GREY))


def test_a_long_panorama_is_cut_in_the_middle() -> None:
    wide = Image.new("L", (3000, 30))
    wide.paste(ramp("L").resize((32, 30)), (1484, 0))
    wide.paste(255, (1516, 0, 1530, 30))
    check_ramp(pixels_of(stored(wide), "wide.png", GREY))


@pytest.mark.parametrize("size", [(50_000, 50_000), (12_000, 9_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_takes_no_memory(size: tuple[int, int]) -> None:
    content = png_that_claims(*size)
    tracemalloc.start()
    with pytest.raises(UploadError, match=r"'bomb.png' .*(too many pixels: at most 89,478,485|there must be at most)"):
        pixels_of(content, "bomb.png", COLOUR)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(content) < 200 and most < 1 << 20


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "'it' is empty"),
        (b"\0" * 1000, "none of JPEG, PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of JPEG, PNG"),
        (stored(ramp(), "JPEG")[:200], "cannot be read as an image"),
        (stored(ramp())[:60], "cannot be read as an image"),
        (stored(ramp()).replace(b"IDAT", b"IDAX"), "cannot be read as an image"),
        (png_that_claims(0, 5), "cannot be read as an image"),
        (png_that_claims(500, 500), "cannot be read as an image"),
        (stored(Image.fromarray(np.float32([[0, 1]])), "TIFF"), "must have 8 or 16 bits"),
    ],
    ids=["empty", "zeros", "SVG", "PostScript", "cut JPEG", "cut PNG", "no data", "no rows", "little data", "floats"],
)
def test_what_is_no_image(content: bytes, said: str) -> None:
    with pytest.raises(UploadError) as refused:
        pixels_of(content, "it", COLOUR)
    assert said in str(refused.value) and "'it'" in str(refused.value) and "\n" not in str(refused.value)
    assert refused.value.status == 422


def test_too_many_bytes() -> None:
    with pytest.raises(UploadError, match="'it' has more than 32 MiB") as refused:
        pixels_of(bytes(MOST_BYTES + 1), "it", COLOUR)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("name", "told"),
    [("", "'the file'"), ("../../etc/x", "'x'"), ("C:\\a\\b.png", "'b.png'"), ("n" * 500, "n" * 80 + "'")],
)
def test_names_are_told_as_they_are_but_short(name: str, told: str) -> None:
    with pytest.raises(UploadError) as refused:
        pixels_of(b"", name, COLOUR)
    assert told in str(refused.value) and len(str(refused.value)) < 120
