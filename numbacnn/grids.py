"""Arrays of images as a picture: side by side, enlarged so that pixels are seen, captions below."""

from __future__ import annotations

import base64
import html
import io
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from .ops.arguments import flag, integer
from .svg import Svg

__all__ = ["ImageGrid", "image_grid"]

Pixels = np.ndarray[Any, Any]

WIDTH, TILE = 760, 84
"""Of a picture, unless it is told its columns, and the larger side of a tile, both about and in pixels."""
GAP, LINE, FONT = 10, 15, 12
"""Between tiles, and the height of a caption's line and of its letters."""
CHARACTER, WIDE = 6.8, 12.5
"""The width of a letter, about, and of a Chinese one."""
INK = "#808080"
"""Of captions and outlines: it can be read on white and on black, and a picture does not know what it is shown on."""
MOST = 1024
"""Images in a picture: with more, a notebook would be slow to open."""
DIVERGING = (
    (-1.0, -0.5, 0.0, 0.5, 1.0),
    ((33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43)),
)
"""Blue, white at zero, red: ColorBrewer's RdBu."""


def image_grid(
    images: Any,
    labels: Sequence[Any] | None = None,
    columns: int | None = None,
    *,
    enlarge: int | None = None,
    numbers: bool = False,
    scale_each: bool = False,
) -> ImageGrid:
    """Images, feature maps or filters as one picture, which shows itself in a notebook.

    Those of bytes are 0..255. Others are black at 0 and white at 1, or at the largest number if that is more. Where
    there are negative numbers, images of one channel are blue below zero, white at zero and red above, and zero is the
    grey in the middle of each of three channels; the ends are the largest magnitude. All images have one scale. What
    is NaN is left out.

    Args:
        images: (n, h, w), (n, 1, h, w) or, in colour, (n, 3, h, w), at most 1024 of them; one image (h, w); or a
            sequence of images (h, w), (1, h, w) or (3, h, w) of any sizes, such as an input, a kernel and an output.
        labels: a caption for each, shown as ``str`` has it.
        columns: in a row; None for as many as a page has room for.
        enlarge: how many pixels of the picture, across and down, one of an image is; None for what makes images of some
            84 pixels, and numbers readable.
        numbers: whether each pixel has its number written in it, for images of one channel.
        scale_each: whether each image has a scale of its own.

    Raises:
        ImportError: Pillow is not installed.
        TypeError, ValueError: what are no images, or arguments of another type or out of range.

    >>> filters = np.array([[[1, -1]], [[-1, 1]]])
    >>> image_grid(filters, ["left", "right"])
    ImageGrid(2 images in 2 columns, from -1 to 1)
    """
    tiles = _images(images)
    if flag("numbers", numbers) and any(len(tile) == 3 for tile in tiles):
        raise ValueError("`numbers` True: there must be one channel, to write in each pixel the number that it has")
    captions = _captions(labels, len(tiles))
    columns = None if columns is None else integer("columns", columns, 1)
    least = _number_width(tiles) if numbers else 1
    if enlarge is None:
        enlarge = least if numbers else max(1, round(TILE / max(max(tile.shape) for tile in tiles)))
    elif integer("enlarge", enlarge, 1) < least:
        raise ValueError(f"`enlarge` {enlarge} must be at least {least}, for the numbers to have room in their pixels")
    _check_pillow()
    return ImageGrid(tiles, captions, columns, enlarge, numbers, flag("scale_each", scale_each))


class ImageGrid(Svg):
    """What `image_grid` makes. ``svg`` is the text of the picture, ``size`` its width and height in pixels."""

    def __init__(
        self,
        tiles: Sequence[Pixels],
        captions: Sequence[str],
        columns: int | None,
        enlarge: int,
        numbers: bool,
        scale_each: bool,
    ) -> None:
        self._count = len(tiles)
        self._range = _limits(tiles)
        widths = [
            max(enlarge * tile.shape[2], *map(_text_width, caption.split("\n")))
            for tile, caption in zip(tiles, captions, strict=True)
        ]
        self._columns = min(columns or _columns_for(widths), self._count)
        scaled = [_to_unit(tile) for tile in tiles]
        whole = _limits(scaled)
        coloured = [_coloured(tile, *(_limits([tile]) if scale_each else whole)) for tile in scaled]
        written = tiles if numbers else [None] * self._count
        cells = [
            _tile(pixels, caption, enlarge, values)
            for pixels, caption, values in zip(coloured, captions, written, strict=True)
        ]
        heights = [
            enlarge * tile.shape[1] + (LINE * len(caption.split("\n")) + 2 if caption else 0)
            for tile, caption in zip(tiles, captions, strict=True)
        ]
        super().__init__(*_arranged(cells, widths, heights, self._columns))

    def __repr__(self) -> str:
        images, columns = (
            f"{count} {what}{'s' * (count > 1)}" for count, what in ((self._count, "image"), (self._columns, "column"))
        )
        low, high = self._range
        return f"ImageGrid({images} in {columns}, from {low:.3g} to {high:.3g})"


def _columns_for(widths: Sequence[float]) -> int:
    """The most columns that have room on a page."""
    most = min(len(widths), WIDTH // (GAP + 1))
    sums = (sum(max(widths[i::columns]) + GAP for i in range(columns)) for columns in range(most, 1, -1))
    return next((most - i for i, total in enumerate(sums) if total <= WIDTH + GAP), 1)


def _images(images: Any) -> list[Pixels]:
    """Each as (c, h, w)."""
    try:
        several = isinstance(images, (list, tuple)) and len(images) > 0 and all(np.ndim(image) > 1 for image in images)
        arrays = [np.asarray(image) for image in images] if several else [np.asarray(images)]
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"`images` must be arrays: {error}") from error
    tiles = list(arrays[0]) if not several and arrays[0].ndim in (3, 4) else arrays
    if not tiles:
        raise ValueError("`images` () must be at least one image")
    for i, tile in enumerate(tiles):
        if tile.ndim not in (2, 3) or (tile.ndim == 3 and len(tile) not in (1, 3)) or not tile.size:
            if several:
                raise ValueError(f"`images`[{i}] of shape {tile.shape} must be (h, w), (1, h, w) or (3, h, w)")
            raise ValueError(
                f"`images` of shape {np.shape(images)} must be (n, h, w), (n, 1, h, w) or (n, 3, h, w), or one image "
                "(h, w)"
            )
        if tile.dtype.kind not in "fiub":
            raise TypeError(f"`images` of dtype {tile.dtype} must be numbers")
    if len(tiles) > MOST:
        raise ValueError(f"`images` are {len(tiles)}; there must be at most {MOST}, as in images[:{MOST}]")
    return [tile.reshape(-1, *tile.shape[-2:]) for tile in tiles]


def _captions(labels: Any, count: int) -> list[str]:
    if labels is None:
        return [""] * count
    if isinstance(labels, str) or not hasattr(labels, "__iter__"):
        raise TypeError(f"`labels` {labels!r} must be a sequence, with one for each image")
    captions = [str(label) for label in labels]
    if len(captions) != count:
        raise ValueError(f"`labels` are {len(captions)}; there must be one for each of the {count} images")
    return captions


def _check_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError('image_grid needs Pillow: pip install "numbacnn[data]"') from error


def _to_unit(tile: Pixels) -> Pixels:
    """Bytes as 0..1, other numbers as they are."""
    return tile / 255.0 if tile.dtype == np.uint8 else tile.astype(np.float64)


def _limits(tiles: Sequence[Pixels]) -> tuple[float, float]:
    """The smallest and the largest number that is finite; zeros if there is none."""
    finite = [tile[np.isfinite(tile)] for tile in tiles]
    found = [(float(numbers.min()), float(numbers.max())) for numbers in finite if numbers.size]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else (0.0, 0.0)


def _coloured(tile: Pixels, low: float, high: float) -> Pixels:
    """(h, w) or (h, w, 3) of bytes, or (h, w, 4) where something is left out."""
    unknown = np.isnan(tile).any(axis=0)
    tile = np.nan_to_num(tile, nan=0.0, posinf=np.inf, neginf=-np.inf)
    if low < 0:
        tile = np.clip(tile / max(-low, high), -1, 1)
        if len(tile) == 1:
            points, colours = DIVERGING
            shown = np.stack([np.interp(tile[0], points, channel) for channel in zip(*colours, strict=True)])
        else:
            shown = 127.5 * (tile + 1)
    else:
        shown = 255 * np.clip(tile / max(high, 1.0), 0, 1)
    pixels = shown.round().astype(np.uint8).transpose(1, 2, 0)
    if unknown.any():
        opaque = np.where(unknown, 0, 255).astype(np.uint8)[:, :, None]
        return np.concatenate([np.broadcast_to(pixels, (*opaque.shape[:2], 3)), opaque], axis=2)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _tile(pixels: Pixels, caption: str, enlarge: int, values: Pixels | None) -> str:
    """What of the picture is one image, with its left upper corner at 0, 0."""
    height, width = enlarge * pixels.shape[0], enlarge * pixels.shape[1]
    parts = [
        f'<image width="{width}" height="{height}" href="data:image/png;base64,{_png(pixels)}" '
        f'preserveAspectRatio="none" style="image-rendering:pixelated"/>',
        f'<rect width="{width}" height="{height}" fill="none" stroke="{INK}" stroke-opacity="0.6"/>',
    ]
    if values is not None:
        lightness = np.atleast_3d(pixels)[:, :, :3].mean(axis=2)
        for (y, x), value in np.ndenumerate(values[0]):
            if np.isnan(value):
                continue
            ink = "#000" if lightness[y, x] > 110 else "#fff"
            at = f'x="{(x + 0.5) * enlarge:g}" y="{(y + 0.5) * enlarge + 4:g}"'
            parts.append(f'<text {at} text-anchor="middle" fill="{ink}">{_number(value)}</text>')
    parts += [
        f'<text y="{height + LINE * i:g}" fill="{INK}">{html.escape(line)}</text>'
        for i, line in enumerate(caption.split("\n"), 1)
        if line
    ]
    return "".join(parts)


def _arranged(
    cells: Sequence[str], widths: Sequence[float], heights: Sequence[float], columns: int
) -> tuple[str, tuple[int, int]]:
    """Rows and columns as wide as what is in them; the text of the picture, and its size."""
    rows = range(0, len(cells), columns)
    across = [max(widths[column::columns]) for column in range(columns)]
    down = [max(heights[row : row + columns]) for row in rows]
    parts = []
    for i, cell in enumerate(cells):
        row, column = divmod(i, columns)
        x, y = sum(across[:column]) + GAP * column + 1, sum(down[:row]) + GAP * row + 1
        parts.append(f'<g transform="translate({x:g} {y:g})">{cell}</g>')
    size = math.ceil(sum(across) + GAP * (columns - 1) + 2), math.ceil(sum(down) + GAP * (len(down) - 1) + 4)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{len(cells)} images" '
        f'width="{size[0]}" height="{size[1]}" viewBox="0 0 {size[0]} {size[1]}" '
        f'font-family="sans-serif" font-size="{FONT}" style="max-width:100%;height:auto">'
    )
    return "".join([head, *parts, "</svg>"]), size


def _png(pixels: Pixels) -> str:
    """A PNG file in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _number(value: Any) -> str:
    return f"{value:d}" if isinstance(value, np.integer) else f"{float(value) or 0.0:.3g}"


def _number_width(tiles: Sequence[Pixels]) -> int:
    """Of a pixel in which the longest number has room, in pixels of the picture."""
    return max(28, math.ceil(8 + max(_text_width(_number(value)) for tile in tiles for value in tile.flat)))


def _text_width(text: str) -> float:
    return sum(WIDE if unicodedata.east_asian_width(letter) in "WF" else CHARACTER for letter in text)
