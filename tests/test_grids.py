"""Arrays of images as pictures: the colours of the pixels, where the images are, what is written."""

from __future__ import annotations

import base64
import importlib
import io
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from numbacnn import backends

SVG = "{http://www.w3.org/2000/svg}"


def pixels_of(grid: Any) -> list[np.ndarray]:
    """Of each image the colours (h, w, 4)."""
    files = [image.get("href", "") for image in ElementTree.fromstring(grid.svg).iter(f"{SVG}image")]
    decoded = [base64.b64decode(file.removeprefix("data:image/png;base64,")) for file in files]
    return [np.asarray(Image.open(io.BytesIO(file)).convert("RGBA")) for file in decoded]


def texts_of(grid: Any) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(grid.svg).iter(f"{SVG}text")]


def places_of(grid: Any) -> list[tuple[float, float, float, float]]:
    """Left, top, width and height of each image."""
    places = []
    for group in ElementTree.fromstring(grid.svg).iter(f"{SVG}g"):
        x, y = group.get("transform", "").removeprefix("translate(").removesuffix(")").split()
        image = group.find(f"{SVG}image")
        assert image is not None
        places.append((float(x), float(y), float(image.get("width", "")), float(image.get("height", ""))))
    return places


def greys(grid: Any) -> list[list[list[int]]]:
    found = pixels_of(grid)
    for pixels in found:
        assert (pixels[:, :, :3] == pixels[:, :, :1]).all() and (pixels[:, :, 3] == 255).all()
    return [pixels[:, :, 0].tolist() for pixels in found]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.array([[[0, 100, 255]]], np.uint8), [[[0, 100, 255]]]),
        (np.array([[[0, 0.2, 1]]], np.float32), [[[0, 51, 255]]]),
        (np.array([[[0.2]], [[0.4]]]), [[[51]], [[102]]]),  # dim images stay dim
        (np.array([[[0, 4]], [[1, 2]]]), [[[0, 255]], [[64, 128]]]),  # one scale for all
        (np.array([[True, False]]), [[[255, 0]]]),
        (np.zeros((1, 2)), [[[0, 0]]]),
    ],
)
def test_what_is_not_negative_is_grey(images: np.ndarray, expected: list[Any]) -> None:
    assert greys(nc.image_grid(images)) == expected
    channel = images[:, None] if images.ndim == 3 else images[None, None]
    assert greys(nc.image_grid(channel)) == expected


def test_negative_numbers_are_blue_and_zero_is_white_or_the_middle() -> None:
    ((below, zero, above, most),) = pixels_of(nc.image_grid([[-1.0, 0.0, 1.0, 2.0]]))[0]
    assert zero[:3].min() > 240
    assert below[2] > below[1] > below[0] and above[0] > above[1] > above[2]
    assert most.tolist() == [178, 24, 43, 255]
    coloured = np.array([[[-2.0, 0.0]], [[0.0, 1.0]], [[0.0, 2.0]]])
    assert pixels_of(nc.image_grid([coloured]))[0].tolist() == [[[0, 128, 128, 255], [128, 191, 255, 255]]]


def test_colours_are_channels() -> None:
    image = np.array([[[255, 0]], [[0, 1]], [[0, 2]]], np.uint8)
    assert pixels_of(nc.image_grid(image[None]))[0].tolist() == [[[255, 0, 0, 255], [0, 1, 2, 255]]]
    assert [pixels.shape for pixels in pixels_of(nc.image_grid(image))] == [(1, 2, 4)] * 3  # three images (h, w)


def test_nan_is_left_out_and_infinity_is_an_end_of_the_scale() -> None:
    grid = nc.image_grid([[0.0, np.nan, np.inf, 0.5]], numbers=True)
    ((zero, unknown, above, half),) = pixels_of(grid)[0].tolist()
    assert [zero, above, half] == [[0, 0, 0, 255], [255, 255, 255, 255], [128, 128, 128, 255]]
    assert unknown[3] == 0
    assert texts_of(grid) == ["0", "inf", "0.5"]
    assert repr(nc.image_grid(np.full((2, 2), np.nan))) == "ImageGrid(1 image in 1 column, from 0 to 0)"


def test_each_may_have_a_scale_of_its_own() -> None:
    images = [np.array([[0, 8]]), np.array([[0, 2, 1]]), np.array([[-1, 1]])]
    first, second, third = pixels_of(nc.image_grid(images, scale_each=True))
    assert first[0, :, 0].tolist() == [0, 255] and second[0, :, 0].tolist() == [0, 255, 128]
    assert third[0, 0, 2] > third[0, 0, 0]
    first, second, third = pixels_of(nc.image_grid(images))
    assert first[0, 0, :3].min() > 240 and second[0, 0, :3].min() > 240


@pytest.mark.parametrize("columns", [None, 1, 2, 5, 99])
def test_images_and_captions_have_room(columns: int | None) -> None:
    sizes = [(3, 4), (9, 2), (1, 1), (5, 5), (2, 12), (3, 3)]
    labels = ["a", "a caption that is wider than its image", "", "two\nlines", "汉字", "<b>&"]
    grid = nc.image_grid([np.ones(size) for size in sizes], labels, columns, enlarge=20)
    places = places_of(grid)
    assert [(w, h) for _, _, w, h in places] == [(20 * w, 20 * h) for h, w in sizes]
    width, height = grid.size
    lefts = sorted({x for x, *_ in places})
    assert len(lefts) == min(columns or 5, 6)
    for i, (x, y, w, h) in enumerate(places):
        assert x > 0 and x + w <= width and y + h + 15 * bool(labels[i]) <= height
        for u, v, k, m in places[i + 1 :]:
            assert x + w < u or u + k < x or y + h < v or v + m < y
    assert texts_of(grid) == [line for label in labels for line in label.split("\n") if line]


def test_as_many_columns_as_a_page_has_room_for() -> None:
    places = places_of(nc.image_grid(np.ones((40, 28, 28))))
    assert len({x for x, *_ in places}) == 8 and len({y for _, y, *_ in places}) == 5
    assert {(w, h) for _, _, w, h in places} == {(84, 84)}
    assert places_of(nc.image_grid(np.ones((3, 200, 1000)), enlarge=1))[2][1] > 400


def test_numbers_are_written_where_they_can_be_read() -> None:
    grid = nc.image_grid(np.array([[0, -12], [3, 100]]), ["matrix"], numbers=True)
    assert texts_of(grid) == ["0", "-12", "3", "100", "matrix"]
    inks = [text.get("fill") for text in ElementTree.fromstring(grid.svg).iter(f"{SVG}text")]
    assert inks[0] == "#000" and inks[3] == "#fff"
    assert texts_of(nc.image_grid([[-0.0, 1 / 3, 1e-9]], numbers=True)) == ["0", "0.333", "1e-09"]
    wide = places_of(nc.image_grid([[-1.23e-10]], numbers=True))[0][2]
    assert wide > places_of(nc.image_grid([[1]], numbers=True))[0][2]


def test_it_shows_itself_and_is_saved(tmp_path: Path, backend: backends.Backend) -> None:
    grid = nc.image_grid(backend.asarray(np.arange(8, dtype=np.float32).reshape(2, 2, 2)), ["one", "two"], 1)
    assert repr(grid) == "ImageGrid(2 images in 1 column, from 0 to 7)"
    assert grid._repr_svg_() is grid.svg
    grid.save(tmp_path / "grid.svg")
    assert (tmp_path / "grid.svg").read_text(encoding="utf-8") == grid.svg


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ones((2, 2, 3, 3)), r"of shape \(2, 2, 3, 3\) must be"),
        (np.ones((1, 1, 1, 1, 1)), "must be"),
        (np.ones(3), r"of shape \(3,\) must be"),
        (np.ones((0, 3, 3)), "at least one image"),
        ([], r"must be"),
        (np.ones((1, 0, 3)), "must be"),
        ([np.ones((2, 2)), np.ones((2, 2, 2))], r"`images`\[1\] of shape \(2, 2, 2\) must be"),
        ([[1, 2], [3]], "`images` must be arrays"),
        ([[[1, 2], [3]]], "`images` must be arrays"),
        (None, r"of shape \(\) must be"),
        (np.ones((1025, 2, 2)), r"are 1025; there must be at most 1024, as in images\[:1024\]"),
    ],
)
def test_what_are_no_images(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nc.image_grid(images)


def test_arguments_are_checked() -> None:
    images = np.ones((2, 3, 3))
    with pytest.raises(TypeError, match="dtype complex128 must be numbers"):
        nc.image_grid(images * 1j)
    with pytest.raises(ValueError, match="`labels` are 1; there must be one for each of the 2 images"):
        nc.image_grid(images, ["one"])
    with pytest.raises(TypeError, match="`labels` 'ab' must be a sequence"):
        nc.image_grid(images, "ab")
    with pytest.raises(TypeError, match="`labels` 5 must be a sequence"):
        nc.image_grid(images, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`columns` 0"):
        nc.image_grid(images, columns=0)
    with pytest.raises(ValueError, match="`enlarge` 0"):
        nc.image_grid(images, enlarge=0)
    with pytest.raises(ValueError, match="`enlarge` 27 must be at least 28"):
        nc.image_grid(images, enlarge=27, numbers=True)
    with pytest.raises(ValueError, match="`numbers` True: there must be one channel"):
        nc.image_grid(np.ones((1, 3, 2, 2)), numbers=True)
    with pytest.raises(TypeError, match="`scale_each`"):
        nc.image_grid(images, scale_each=2)  # type: ignore[arg-type]


def test_without_pillow_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("numbacnn.grids")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'image_grid needs Pillow: pip install "numbacnn\[data\]"'):
        nc.image_grid(np.ones((2, 2)))
