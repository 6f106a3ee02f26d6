"""Images in a folder that has one sub-folder for each class."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..ops.arguments import integer, pair
from .dataset import ArrayDataset

__all__ = ["EXTENSIONS", "image_folder"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What the names of images end in, in capitals or not; files of other names are skipped."""

_MODES = {1: "L", 3: "RGB"}


def image_folder(
    root: str | os.PathLike[str], size: int | tuple[int, int] | None = None, channels: int = 3
) -> ArrayDataset:
    """The images in a folder with one sub-folder for each class, as torchvision's ImageFolder finds them.

    The classes are the names of the sub-folders, sorted; the images come class by class, sorted by folder and name,
    those in folders further down included. Pillow reads them, turned as their EXIF orientation says. Transparency is
    dropped, of an animation the first picture is taken, and of 16-bit grey the upper 8 bits.

    Args:
        root: the folder.
        size: height and width that images are brought to, at least 1; an int for both. An image of another size is
            scaled so that it just covers them, by Pillow's bilinear filter (which averages over more pixels where it
            makes an image smaller), and cut to them in the centre. If None, all images must have one size.
        channels: 3 for red, green and blue, 1 for grey (ITU-R 601-2 luma).

    Returns:
        Images (n, channels, h, w) uint8 and their labels, named like the folder.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: there is no such folder, it has no sub-folders, or one of them has no images.
        TypeError, ValueError: arguments of another type or out of range; an image that cannot be read or has pixels
            of more than 16 bits; without ``size``, images of several sizes.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name, colour in (("sea", "blue"), ("meadow", "green")):
        ...         Path(root, name).mkdir()
        ...         Image.new("RGB", (40, 30), colour).save(Path(root, name, "1.png"))
        ...     dataset = image_folder(root, size=28)
        >>> dataset.classes, dataset.images.shape, dataset.images[:, :, 14, 14].tolist()
        (('meadow', 'sea'), (2, 3, 28, 28), [[0, 128, 0], [0, 0, 255]])
    """
    try:
        import PIL  # noqa: F401  only to say what is missing before anything is looked for
    except ImportError as error:
        raise ImportError('image_folder needs Pillow: pip install "numbacnn[data]"') from error
    root = Path(root)
    height_width = None if size is None else pair("size", size)
    if integer("channels", channels) not in _MODES:
        raise ValueError(f"`channels` {channels} must be 1 or 3")
    classes, paths, labels = _listed(root)

    first = _read(paths[0], height_width, channels)
    images = np.empty((len(paths), *first.shape), np.uint8)
    images[0] = first

    def fill(index: int) -> None:
        image = _read(paths[index], height_width, channels)
        if image.shape != first.shape:
            raise ValueError(
                f"{str(paths[index])!r} has height and width {image.shape[1:]}, {str(paths[0])!r} has "
                f"{first.shape[1:]}; without `size` all images must have the same"
            )
        images[index] = image

    # Pillow lets other threads run while it decodes and resizes.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(1, len(paths))))
    return ArrayDataset(images, np.array(labels), classes, root.resolve().name)


def _listed(root: Path) -> tuple[list[str], list[Path], list[int]]:
    """The classes, and the path and label of every image, in the order of ImageFolder."""
    if not root.is_dir():
        raise FileNotFoundError(f"`root` {str(root)!r} must be a folder that exists")
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if not classes:
        raise FileNotFoundError(
            f"the folder {str(root)!r} must have a sub-folder of images for each class; it has none"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [
            Path(folder, file)
            for folder, _, files in sorted(os.walk(root / name, followlinks=True))
            for file in sorted(files)
            if file.lower().endswith(EXTENSIONS)
        ]
        if not found:
            raise FileNotFoundError(
                f"the class folder {str(root / name)!r} must hold images, files that end in {', '.join(EXTENSIONS)}; "
                "it holds none"
            )
        paths += found
        labels += [label] * len(found)
    return classes, paths, labels


def _read(path: Path, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """An image (channels, h, w) uint8."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):
                # Conversions of Pillow's would take everything above 255 for white.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ("I", "F"):
                raise ValueError(f"its pixels are of mode {image.mode}, they must have 8 or 16 bits")
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")  # without this step Pillow warns
            image = image.convert(_MODES[channels])
            if size is not None:
                image = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
    except Exception as error:  # broken images raise errors of many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be read as an image: {reason}") from error
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
