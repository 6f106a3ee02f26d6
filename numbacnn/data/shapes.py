"""The built-in data set: ten kinds of drawn shapes, made on the spot from a seed."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from numbacnn.data.dataset import ArrayDataset

TRAIN_SIZE = 20_000
TEST_SIZE = 4_000

# What makes the set harder or easier. Lengths are in half image widths, angles in radians, grey levels in 0..1.
ROTATION = 0.45
SCALE = (0.5, 0.8)
SHEAR = 0.2
SHIFT = 0.2
STROKE_SHARE = 0.4
EMPTINESS = (0.4, 0.9)
STROKE_WIDTH = (0.2, 0.4)  # in units of the shape's own radius
FOREGROUND = (0.6, 1.0)
BACKGROUND = (0.0, 0.25)
COLOUR_SPREAD = 0.15
CLUTTER_LEVEL = (0.2, 0.7)
NOISE = (0.02, 0.1)

_PER_CLASS = 64  # images of one class in a block: at 28x28 the arrays at work stay in a core's second-level cache
_TILE_PIXELS = _PER_CLASS * 28 * 28


def _half_planes(x: np.ndarray, y: np.ndarray, *planes: tuple[float, float, float]) -> np.ndarray:
    """Distance to the convex region where `a x + b y <= c` for every plane (a, b, c) with a unit normal (a, b)."""
    distance = None
    for a, b, c in planes:
        side = x * np.float32(a)
        side += y * np.float32(b)
        side -= np.float32(c)
        distance = side if distance is None else np.maximum(distance, side, out=distance)
    return distance


def _box(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """Distance to the rectangle of half sizes `width` and `height`, for `x` and `y` that are already absolute values."""
    return np.maximum(x - np.float32(width), y - np.float32(height))


def _disc(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    squared = x * x
    squared += y * y
    np.sqrt(squared, out=squared)
    squared -= np.float32(radius)
    return squared


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _disc(x, y, 1.1)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _half_planes(np.abs(x), y, (0.75**0.5, -0.5, 0.5), (0.0, 1.0, 0.5))


def _arch(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    return np.maximum(_box(x, np.abs(y), 0.9, 0.95), -_box(x, -y, 0.33, 0.4))


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(_box(x, y, 1.0, 0.3), _box(x, y, 0.3, 1.0))


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    third = np.float32(0.36)  # folding twice lays the three bars on one another
    return _box(np.abs(x), np.abs(np.abs(np.abs(y) - third) - third), 1.05, 0.18)


def _arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    head = _half_planes(x, y, (0.5**0.5, -(0.5**0.5), 0.64), (0.0, 1.0, -0.09))
    return np.minimum(head, _box(x, np.abs(y - np.float32(0.36)), 0.22, 0.54))


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(_disc(x, y, 1.0), -_disc(x + np.float32(0.5), y, 0.75))


def _corner(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    notch = np.minimum(x + np.float32(0.22), np.float32(0.22) - y)
    return np.maximum(_box(np.abs(x), np.abs(y), 0.72, 0.72), notch)


def _bars(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _box(np.abs(np.abs(x) - np.float32(0.6)), np.abs(y), 0.3, 0.9)


def _hourglass(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _half_planes(np.abs(x), np.abs(y), (0.8, -0.6, 0.05), (0.0, 1.0, 0.81))


_DRAWINGS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "triangle": _triangle,
    "arch": _arch,
    "cross": _cross,
    "stripes": _stripes,
    "arrow": _arrow,
    "crescent": _crescent,
    "corner": _corner,
    "bars": _bars,
    "hourglass": _hourglass,
}
CLASSES = tuple(_DRAWINGS)


def _coverage(distance: np.ndarray) -> np.ndarray:
    """How much of each pixel a shape covers, 0..1, from the distance to its edge in pixels; overwrites its argument."""
    np.subtract(np.float32(0.5), distance, out=distance)
    np.clip(distance, 0, 1, out=distance)
    smooth = np.multiply(distance, np.float32(-2))
    smooth += np.float32(3)
    distance *= distance
    smooth *= distance
    return smooth


def _segments(u: np.ndarray, v: np.ndarray, geometry: np.ndarray) -> np.ndarray:
    """Distance, in half image widths, to one thick line per image; a row of `geometry` is x, y, dx, dy, thickness."""
    x, y, dx, dy, thickness = (geometry[:, k, None, None] for k in range(5))
    squared_length = dx * dx + dy * dy
    px, py = u - x, v - y
    along = px * (dx / squared_length) + py * (dy / squared_length)
    np.clip(along, 0, 1, out=along)
    across = px - along * dx
    across *= across
    along *= dy
    np.subtract(py, along, out=along)
    along *= along
    across += along
    np.sqrt(across, out=across)
    across -= thickness
    return across


def _draw(drawing: int, rng: np.random.Generator, count: int, size: int, channels: int) -> np.ndarray:
    """The first `count` images of one class in one block, `(count, channels, size, size)` uint8."""
    n = _PER_CLASS  # every parameter is drawn for the whole block, so that an image does not depend on `count`
    angle = rng.uniform(-ROTATION, ROTATION, n)
    scale = rng.uniform(*SCALE, (2, n))
    shear = rng.uniform(-SHEAR, SHEAR, n)
    shift = rng.uniform(-SHIFT, SHIFT, (2, n))
    # The inverse of rotation * shear * scale takes a pixel to the shape's own coordinates.
    cos, sin = np.cos(angle), np.sin(angle)
    forward = np.empty((n, 2, 2))
    forward[:, :, 0] = np.stack((cos, sin), 1) * scale[0][:, None]
    forward[:, :, 1] = np.stack((shear * cos - sin, shear * sin + cos), 1) * scale[1][:, None]
    inverse = np.linalg.inv(forward).astype(np.float32)
    to_pixels = (np.sqrt(scale[0] * scale[1]) * (size / 2)).astype(np.float32)
    shift = shift.astype(np.float32)
    stroke = rng.uniform(*STROKE_WIDTH, n).astype(np.float32)
    emptiness = (rng.uniform(*EMPTINESS, n) * (rng.random(n) < STROKE_SHARE)).astype(np.float32)

    def levels(low: float, high: float) -> np.ndarray:
        level = rng.uniform(low, high, (n, 1))
        spread = rng.uniform(-COLOUR_SPREAD, COLOUR_SPREAD, (n, channels)) if channels > 1 else 0.0
        return np.clip(level + spread, 0, 1).astype(np.float32)

    foreground, background, clutter = levels(*FOREGROUND), levels(*BACKGROUND), levels(*CLUTTER_LEVEL)
    start = rng.uniform(-1, 1, (n, 2))
    direction = rng.uniform(0, 2 * np.pi, n)
    length = np.where(rng.random(n) < 0.5, rng.uniform(0.3, 0.8, n), 1e-3)
    thickness = rng.uniform(0.03, 0.1, n)
    line = np.column_stack((start, np.cos(direction) * length, np.sin(direction) * length, thickness))
    line = line.astype(np.float32)
    noise_level = rng.uniform(*NOISE, n).astype(np.float32)

    axis = ((2 * np.arange(size, dtype=np.float32) + 1) / np.float32(size) - 1).astype(np.float32)
    u, v = axis[None, None, :], axis[None, :, None]
    images = np.empty((count, channels, size, size), np.uint8)
    step = max(1, _TILE_PIXELS // (size * size))
    for first in range(0, count, step):
        part = slice(first, min(first + step, count))
        px, py = u - shift[0, part, None, None], v - shift[1, part, None, None]
        matrix = inverse[part, :, :, None, None]
        distance = _SHAPES[drawing](
            px * matrix[:, 0, 0] + py * matrix[:, 0, 1], px * matrix[:, 1, 0] + py * matrix[:, 1, 1]
        )
        distance *= to_pixels[part, None, None]
        stroked = np.flatnonzero(emptiness[part])
        inside = _coverage(distance[stroked] + (stroke * to_pixels)[part][stroked, None, None])
        inside *= emptiness[part][stroked, None, None]
        shape = _coverage(distance)
        shape[stroked] -= inside
        stray = _segments(u, v, line[part])
        stray *= np.float32(size / 2)
        stray = _coverage(stray)
        for channel in range(channels):
            ground = background[part, channel, None, None]
            picture = stray * (clutter[part, channel, None, None] - ground)
            picture += ground
            picture += shape * (foreground[part, channel, None, None] - picture)
            noise = rng.standard_normal(picture.shape, np.float32)
            noise *= noise_level[part, None, None]
            picture += noise
            picture *= np.float32(255)
            picture += np.float32(0.5)
            np.clip(picture, 0, 255, out=picture)
            images[part, channel] = picture
    return images


_SHAPES = tuple(_DRAWINGS.values())


def shapes(
    split: str, size: int | None = None, image_size: int = 28, channels: int = 1, seed: int = 0
) -> ArrayDataset:
    number = {"train": 0, "test": 1}[split]
    size = {"train": TRAIN_SIZE, "test": TEST_SIZE}[split] if size is None else operator.index(size)
    kinds = len(CLASSES)
    block_size = _PER_CLASS * kinds
    images = np.empty((size, channels, image_size, image_size), np.uint8)
    labels = np.empty(size, np.int64)

    def stream(block: int, part: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, block, part)))

    def fill(tile: int) -> None:
        block, drawing = divmod(tile, kinds)
        # Every ten samples hold each class once, so that any prefix of the set is balanced.
        order = stream(block, kinds).permuted(np.tile(np.arange(kinds), (_PER_CLASS, 1)), axis=1).ravel()
        where = np.flatnonzero(order == drawing) + block * block_size
        where = where[where < size]
        images[where] = _draw(drawing, stream(block, drawing), len(where), image_size, channels)
        labels[where] = drawing

    tiles = -(-size // block_size) * kinds
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(tiles)))
    return ArrayDataset(images, labels, CLASSES, f"shapes {split}")
