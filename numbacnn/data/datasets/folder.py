"""Images in a folder that has one sub-folder for each class."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import numpy as np

from ...files import user_path
from ..arrays.array_dataset import ArrayDataset
from ..readers.image_files import ImageFiles
from ..readers.opening import DataFileError
from ..readers.picture import as_channels, as_fit, check_pillow

__all__ = ["EXTENSIONS", "found_images", "image_folder"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What the names of images end in, in capitals or not; files of other names are skipped."""

_OF_SYSTEMS = {
    "__macosx",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "desktop.ini",
}
"""Names, in small letters, of what archives, file servers and systems add."""


def image_folder(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    interpolation: str = "bilinear",
    crop_pct: float = 1.0,
    lazy: bool = False,
) -> ArrayDataset:
    """The images in a folder with one sub-folder for each class, as torchvision's ImageFolder finds them.

    The classes are the names of the sub-folders, sorted; the images come class by class, sorted by folder and name,
    those in folders further down included. Links are followed, but every folder counts once: as a class, else where it
    is, else where the first link to it is. Hidden files and folders (``.ipynb_checkpoints``, ``._1.jpg``,
    ``__MACOSX`` and the like) and what is no regular file are left out.

    Pillow reads the images as JPEG, PNG, BMP, PPM, GIF, TIFF or WebP, whatever the name ends in, turned as their EXIF
    orientation says where that can be read. Transparency is dropped, of an animation the first picture is taken, and
    of 16-bit grey the upper 8 bits.

    Args:
        root: the folder; ``~`` is the home folder.
        size: height and width that images are brought to, at least 1; an int for both. An image of another size is
            scaled so that it just covers them, by a filter of Pillow's (which averages over more pixels where it makes
            an image smaller), and cut to them in the centre. If None, all images must have one size.
        channels: 3 for red, green and blue, 1 for grey (ITU-R 601-2 luma).
        interpolation: the filter, "nearest", "bilinear" or "bicubic".
        crop_pct: above 0, at most 1: images are scaled to just cover ``size`` divided by it, and cut to ``size`` then,
            so that it is the share of the shorter side that is left. 0.875 is how many models are evaluated, and what
            timm's have under this name. Below 1 only with a ``size``.
        lazy: whether images stay in their files until a batch needs them, see `ImageFiles`, and are read anew in each
            epoch; what is wrong in a file is then said when it is read.

    Returns:
        Images (n, channels, h, w) uint8 and their labels, named like the folder.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: there is no such folder, it has no sub-folders, or one of them has no images.
        DataFileError: an image that cannot be read, has pixels of more than 16 bits, or more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS`` (which is what its header says: nothing is decoded first); without ``size``,
            images of several sizes; two classes that are one folder.
        TypeError, ValueError: arguments of another type or out of range.

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
    check_pillow("image_folder")
    root = user_path(root)
    as_fit(size, interpolation, crop_pct)  # before a large folder is gone through
    as_channels(channels)
    classes, paths, labels = _listed(root)

    images = ImageFiles(paths, size, channels, interpolation, crop_pct)
    return ArrayDataset(images if lazy else images.read(), np.array(labels), classes, root.resolve().name)


def _listed(root: Path) -> tuple[list[str], list[Path], list[int]]:
    """The classes, and the path and label of every image, in the order of ImageFolder."""
    layout = f"images must lie in folders named like their classes, {root / 'CLASS' / 'IMAGE.jpg'}"
    if not root.is_dir():
        raise FileNotFoundError(f"`root` {str(root)!r} must be a folder that exists; {layout}")
    with os.scandir(root) as entries:
        visible = [entry for entry in entries if _is_visible(entry.name)]
    classes = sorted(entry.name for entry in visible if entry.is_dir())
    if not classes:
        loose = sum(entry.is_file() and entry.name.lower().endswith(EXTENSIONS) for entry in visible)
        raise FileNotFoundError(
            f"the folder {str(root)!r} must have a sub-folder of images for each class; it has none"
            f"{f', but {loose} images of its own' if loose else ''}: {layout}"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, found in enumerate(found_images(root, classes)):
        if not found:
            raise FileNotFoundError(
                f"the class folder {str(root / classes[label])!r} must hold images, files that end in "
                f"{', '.join(EXTENSIONS)}; it holds none"
            )
        paths += found
        labels += [label] * len(found)
    return classes, paths, labels


def found_images(root: Path, classes: list[str]) -> list[list[Path]]:
    """The images of each class, by folder and name.

    Every folder counts once, whatever links lead to it: as a class, else where it is, else where the first link is.
    """
    owner: dict[tuple[int, int], Path] = {}

    def is_new(folder: Path) -> bool:
        return owner.setdefault(_identity(folder), folder) is folder

    # A link to a folder that the data set lies in leads to every image of it, or to the whole disk.
    for folder in (root.resolve(), *root.resolve().parents):
        is_new(folder)
    tops = [root / name for name in classes]
    for top in tops:
        if not is_new(top):
            raise DataFileError(
                f"{str(top)!r} and {str(owner[_identity(top)])!r} are one folder; each class must have one of its own"
            )
    folders = deque(enumerate(tops))
    links: deque[tuple[int, Path]] = deque()
    found: list[list[tuple[str, str]]] = [[] for _ in classes]
    while folders or links:
        if folders:
            label, folder = folders.popleft()
        else:
            label, folder = links.popleft()
            if not is_new(folder):
                continue
        with os.scandir(folder) as entries:
            visible = sorted((entry for entry in entries if _is_visible(entry.name)), key=lambda entry: entry.name)
        for entry in visible:
            if entry.is_dir():
                inside = Path(entry.path)
                if entry.is_symlink():
                    links.append((label, inside))
                elif is_new(inside):
                    folders.append((label, inside))
            elif entry.name.lower().endswith(EXTENSIONS) and (entry.is_file() or _leads_nowhere(entry)):
                found[label].append((str(folder), entry.name))
    return [[Path(folder, name) for folder, name in sorted(each)] for each in found]


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_visible(name: str) -> bool:
    """Whether a file or folder is the user's, and not what systems and editors put beside."""
    return not name.startswith(".") and name.casefold() not in _OF_SYSTEMS


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to what is not there, which is refused when it is read rather than left out in silence."""
    return entry.is_symlink() and not os.path.exists(entry.path)
