"""Pictures and what each is to be made into, in two folders whose files have the same names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...files import user_path
from ...ops.arguments import integer
from ..arrays.pair_dataset import PairDataset
from ..readers.opening import DataFileError
from ..readers.picture import Fit, as_channels, as_fit, check_pillow, fitted, read_mask, read_picture
from .folder import EXTENSIONS, found_images

__all__ = ["mask_folder", "picture_pairs"]


def mask_folder(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    interpolation: str = "bilinear",
    images: str = "images",
    masks: str = "masks",
    values: Sequence[int] | None = None,
) -> PairDataset:
    """Pictures with a mask each, in which every pixel has the number of its class: ``images/x.jpg``, ``masks/x.png``.

    The two folders have the same names in them, but for what these end in, also in folders further down. They are
    searched as :func:`image_folder` does, and pictures are read so. A mask is a file with a palette, of which the
    numbers are taken and not the colours, as in PASCAL VOC, or a grey one; PNG, not JPEG, which would change numbers.
    It is as large as its picture, and is scaled and cut as that one is, each pixel taking the nearest number.

    Args:
        root: the folder; ``~`` is the home folder.
        size: height and width that pictures and masks are brought to, as in :func:`image_folder`. If None, all must
            have one size.
        channels: of the pictures, 3 for red, green and blue, 1 for grey.
        interpolation: for the pictures, "nearest", "bilinear" or "bicubic".
        images, masks: the names of the two folders in ``root``.
        values: the numbers in the files that are classes 0, 1, ...: (0, 255) for masks in black and white. If None,
            numbers are classes as they are. One that is no class, such as 255 at borders, is an ``ignore_index`` of
            losses and metrics.

    Returns:
        Pictures (n, channels, h, w) and masks (n, h, w), uint8, in the order of their names.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: one of the folders is not there or has no images.
        DataFileError: a picture without a mask, a mask without a picture, or two of one name; a mask of another size
            than its picture, in colours, or with a number that is none of ``values``; and what :func:`image_folder`
            refuses.
        TypeError, ValueError: arguments of another type or out of range.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for folder, mode, colour in (("images", "RGB", "green"), ("masks", "L", 1)):
        ...         Path(root, folder).mkdir()
        ...         Image.new(mode, (40, 30), colour).save(Path(root, folder, "meadow.png"))
        ...     dataset = mask_folder(root, size=(24, 32))
        >>> dataset.inputs.shape, dataset.targets.shape, dataset.targets.max().item()
        ((1, 3, 24, 32), (1, 24, 32), 1)
    """
    check_pillow("mask_folder")
    table = None
    if values is not None:
        known = [integer("values", value, 0, 255) for value in values]
        if len(set(known)) < len(known) or not known:
            raise ValueError(f"`values` {values!r} must be different numbers, one at least")
        table = np.full(256, -1)
        table[known] = range(len(known))

    def read(path: Path, picture_size: tuple[int, int], fit: Fit | None) -> np.ndarray:
        mask = read_mask(path)
        if mask.shape != picture_size:
            raise _other_sizes(path, mask.shape, picture_size)
        if table is not None:
            numbers = table[mask]
            if numbers.size and numbers.min() < 0:
                unknown = mask[numbers < 0][0]
                raise DataFileError(f"{str(path)!r} holds the number {unknown}, which is none of `values` {values!r}")
            mask = numbers.astype(np.uint8)
        return mask if fit is None else fitted(mask, fit._replace(interpolation="nearest"))

    return _pairs(root, as_fit(size, interpolation, 1.0), channels, (images, masks), read)


def picture_pairs(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    target_channels: int | None = None,
    interpolation: str = "bilinear",
    inputs: str = "inputs",
    targets: str = "targets",
) -> PairDataset:
    """Pictures and the pictures that a model is to make of them: ``inputs/x.jpg`` and ``targets/x.jpg``.

    As :func:`mask_folder`, with pictures on both sides, such as noisy and clean ones, or grey and coloured.

    Args:
        root, size, interpolation: as there.
        channels: of the inputs, 3 or 1.
        target_channels: of the targets, likewise; None for as many.
        inputs, targets: the names of the two folders in ``root``.

    Returns:
        Inputs (n, channels, h, w) uint8, which batches have in 0..1, and targets (n, target_channels, h, w) float32 in
        0..1.

    Raises:
        ImportError, FileNotFoundError, DataFileError, TypeError, ValueError: as :func:`mask_folder`.
    """
    check_pillow("picture_pairs")
    target_channels = as_channels(channels if target_channels is None else target_channels)

    def read(path: Path, picture_size: tuple[int, int], fit: Fit | None) -> np.ndarray:
        target = read_picture(path, None, target_channels)
        if target.shape[1:] != picture_size:
            raise _other_sizes(path, target.shape[1:], picture_size)
        if fit is not None:
            target = fitted(target, fit)
        return target.astype(np.float32) / np.float32(255)

    return _pairs(root, as_fit(size, interpolation, 1.0), channels, (inputs, targets), read)


def _other_sizes(path: Path, size: tuple[int, ...], picture_size: tuple[int, ...]) -> DataFileError:
    return DataFileError(
        f"{str(path)!r} has height and width {tuple(size)}, what it belongs to has {tuple(picture_size)}; they must "
        "have the same"
    )


def _pairs(
    root: str | os.PathLike[str],
    fit: Fit | None,
    channels: int,
    folders: tuple[str, str],
    read_target: Callable[[Path, tuple[int, int], Fit | None], np.ndarray],
) -> PairDataset:
    """``read_target`` gets a path, the height and width of its picture as it is in its file, and the size to be had."""
    root = user_path(root)
    channels = as_channels(channels)
    paths = _listed(root, *folders)

    def read(pair: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray]:
        picture = read_picture(pair[0], None, channels)
        size = (picture.shape[1], picture.shape[2])
        target = read_target(pair[1], size, fit)
        return picture if fit is None else fitted(picture, fit), target

    first, *_ = found = [read(paths[0])]
    inputs, targets = (np.empty((len(paths), *one.shape), one.dtype) for one in first)

    def fill(index: int) -> None:
        picture, target = found[0] if index == 0 else read(paths[index])
        if picture.shape != first[0].shape:
            raise DataFileError(
                f"{str(paths[index][0])!r} has height and width {picture.shape[1:]}, {str(paths[0][0])!r} has "
                f"{first[0].shape[1:]}; without `size` all images must have the same"
            )
        inputs[index], targets[index] = picture, target

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(len(paths))))
    return PairDataset(inputs, targets, root.resolve().name)


def _listed(root: Path, *folders: str) -> list[tuple[Path, Path]]:
    """The two files of each name, in the order of the names."""
    for folder in folders:
        if not (root / folder).is_dir():
            raise FileNotFoundError(
                f"there is no folder {str(root / folder)!r}; files of the same names must lie in "
                f"{str(root / folders[0])!r} and {str(root / folders[1])!r}"
            )
    named = [_by_name(root / folder) for folder in folders]
    for here, there in ((0, 1), (1, 0)):
        alone = [name for name in named[here] if name not in named[there]]
        if alone:
            more = f", and {len(alone) - 1} others have none" if len(alone) > 1 else ""
            raise DataFileError(
                f"{str(named[here][alone[0]])!r} must have a file of that name in {str(root / folders[there])!r}; "
                f"there is none{more}"
            )
    return [(path, named[1][name]) for name, path in sorted(named[0].items())]


def _by_name(folder: Path) -> dict[str, Path]:
    """The images in a folder by their names, those of folders in it included, without what they end in."""
    (found,) = found_images(folder.parent, [folder.name])
    named: dict[str, Path] = {}
    for path in found:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise DataFileError(f"{str(named[name])!r} and {str(path)!r} have one name; there must be one of each")
        named[name] = path
    if not named:
        raise FileNotFoundError(
            f"the folder {str(folder)!r} must hold images, files that end in {', '.join(EXTENSIONS)}"
        )
    return named
