"""A data set of drawn scenes: shapes that lie over one another, and whose pixel each is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...ops.arguments import integer, one_of
from ..arrays.pair_dataset import PairDataset
from .shapes import CLASSES, DRAWINGS, coverage, segment_distance

__all__ = ["MASKED_CLASSES", "shape_masks"]

MASKED_CLASSES = ("circle", "triangle", "cross")
TRAIN_SIZE, TEST_SIZE = 6144, 512

# What makes the set harder or easier. Levels of colour are in 0..1, lengths in half image widths.
MOST = 3  # shapes in a picture
SCALE = (0.38, 0.64)
AREA = 2.2  # of each shape, in units of its scale
STRETCH = (0.9, 1.1)
SHEAR = 0.1
SHIFT = 0.65
BACKGROUND = (0.2, 0.8)
CONTRAST = (0.3, 0.5)  # to the background, in each channel, lighter or darker
TEXTURE = (0.0, 0.05)  # amplitude of the stripes on shapes and background
FREQUENCY = (0.5, 6.0)  # of the stripes, in periods per half image width
CLUTTER = 1  # lines and dots of the shapes' colours that belong to the background
CLUTTER_LENGTH = (0.001, 0.8)
CLUTTER_THICKNESS = (0.03, 0.08)
NOISE = (0.02, 0.05)  # standard deviation

_BLOCK = 64  # pictures


def shape_masks(
    split: str,
    size: int | None = None,
    image_size: int = 64,
    channels: int = 3,
    classes: Sequence[str] = MASKED_CLASSES,
    seed: int = 0,
) -> PairDataset:
    """Draw scenes of one to four shapes that lie over one another, with masks that say which shape a pixel shows.

    Shapes have any position, size, turn and colour, lighter or darker than the background, with stripes on both, noise,
    and lines and dots of the same colours that are no shapes: it takes the form to tell what is what. Same arguments,
    same bits, whatever the number of threads; the first k samples do not depend on ``size``.

    Args:
        split: ``"train"`` or ``"test"``, from different random streams.
        size: number of pictures, at least 1; if None, 6,144 for training and 512 for the test.
        image_size: height and width in pixels, at least 16.
        channels: at least 1.
        classes: names of shapes, out of those that `shapes` draws; class 0 is the background, these are 1, 2, ...
        seed: at least 0.

    Returns:
        Pictures (size, channels, image_size, image_size) and masks (size, image_size, image_size), uint8.

    Raises:
        TypeError, ValueError: arguments of another type or out of range.

    Example:
        >>> dataset = shape_masks("train", size=20)
        >>> dataset.inputs.shape, np.unique(dataset.targets).tolist()
        ((20, 3, 64, 64), [0, 1, 2, 3])
    """
    split = one_of("split", split, ("train", "test"))
    default = TRAIN_SIZE if split == "train" else TEST_SIZE
    size = default if size is None else integer("size", size, 1)
    image_size, channels = integer("image_size", image_size, 16), integer("channels", channels, 1)
    if isinstance(classes, str) or not classes:
        raise TypeError(f"`classes` {classes!r} must be a sequence of names, one at least")
    numbers = np.array([CLASSES.index(one_of("classes", name, CLASSES)) for name in classes])
    seed = integer("seed", seed)
    pictures = np.empty((size, channels, image_size, image_size), np.uint8)
    masks = np.empty((size, image_size, image_size), np.uint8)

    def fill(block: int) -> None:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2 + (split == "test"), block)))
        part = slice(block * _BLOCK, min((block + 1) * _BLOCK, size))
        count = part.stop - part.start
        drawn, labels = _draw(rng, numbers, channels, image_size)
        pictures[part], masks[part] = drawn[:count], labels[:count]

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(-(-size // _BLOCK))))
    return PairDataset(pictures, masks, f"shape masks {split}")


def _draw(rng: np.random.Generator, numbers: np.ndarray, channels: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The pictures and masks of one block, which are of the shapes of these ``numbers``."""
    n = _BLOCK
    centres = ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)
    u, v = centres[None, None, :], centres[None, :, None]

    def draw(low: float, high: float, *more: int) -> np.ndarray:
        return rng.uniform(low, high, (n, *more)).astype(np.float32)

    def stripes() -> np.ndarray:
        """(n, 1, size, size) around 0, of one frequency and direction each."""
        angle, frequency = draw(0, 2 * np.pi), draw(*FREQUENCY) * 2 * np.pi
        across = (np.cos(angle) * frequency)[:, None, None] * u + (np.sin(angle) * frequency)[:, None, None] * v
        return (draw(*TEXTURE)[:, None, None] * np.sin(across + draw(0, 2 * np.pi)[:, None, None]))[:, None]

    base = draw(*BACKGROUND, channels)

    def colours() -> np.ndarray:
        """(n, channels, 1, 1), in each channel lighter or darker than the background."""
        contrast = draw(*CONTRAST, channels) * rng.choice(np.array([-1, 1], np.float32), (n, channels))
        inside = (base + contrast >= 0) & (base + contrast <= 1)
        return np.where(inside, base + contrast, base - contrast)[:, :, None, None]

    pictures = base[:, :, None, None] + stripes()
    masks = np.zeros((n, size, size), np.uint8)
    for _ in range(CLUTTER):
        length, angle = draw(*CLUTTER_LENGTH), draw(0, 2 * np.pi)
        ends = (np.cos(angle) * length, np.sin(angle) * length, draw(*CLUTTER_THICKNESS))
        stray = segment_distance(u, v, np.column_stack((draw(-1, 1, 2), *ends)).astype(np.float32))
        pictures += coverage(stray * (size / 2))[:, None] * (colours() - pictures)
    shown = rng.integers(1, MOST + 1, n)
    sizes = np.array([_size(number) for number in numbers], np.float32)
    for layer in range(MOST):
        which, scale, angle = rng.integers(0, len(numbers), n), draw(*SCALE), draw(0, 2 * np.pi)
        scale *= sizes[which]
        stretch, shear, shift = draw(*STRETCH), draw(-SHEAR, SHEAR), draw(-SHIFT, SHIFT, 2)
        x, y = u - shift[:, 0, None, None], v - shift[:, 1, None, None]
        cos, sin = (np.float32(1) * part[:, None, None] for part in (np.cos(angle), np.sin(angle)))
        across, along = x * cos + y * sin, y * cos - x * sin
        across = (across - shear[:, None, None] * along) / (scale * stretch)[:, None, None]
        along = along / (scale / stretch)[:, None, None]
        distance = np.empty((n, size, size), np.float32)
        for label, number in enumerate(numbers):
            of_class = np.flatnonzero(which == label)
            distance[of_class] = DRAWINGS[number](across[of_class], along[of_class])
        distance *= (scale * (size / 2))[:, None, None]
        distance[shown <= layer] = size
        covered = coverage(distance)
        pictures += covered[:, None] * (colours() + stripes() - pictures)
        masks = np.where(covered > 0.5, (which + 1).astype(np.uint8)[:, None, None], masks)
    pictures += draw(*NOISE)[:, None, None, None] * rng.standard_normal(pictures.shape, np.float32)
    return np.clip(pictures * 255 + 0.5, 0, 255).astype(np.uint8), masks


def _size(number: int) -> np.float32:
    """How much larger a shape must be to have the common area: small ones would count as much in a mean of classes."""
    centres = np.linspace(-1.6, 1.6, 64, dtype=np.float32)
    inside = DRAWINGS[number](np.tile(centres, (64, 1)), np.tile(centres[:, None], (1, 64))) < 0
    return np.float32(np.sqrt(AREA / (3.2**2 * inside.mean())))
