"""Images that stay in their files until they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ...files import user_path
from .opening import DataFileError
from .picture import as_channels, as_fit, check_pillow, read_picture

__all__ = ["ImageFiles"]

_THREADS = 4


class ImageFiles:
    """Image files that stand for an array (n, channels, h, w) of uint8, and are read when its images are asked for.

    They take the place of the images of an `ArrayDataset` and of the inputs of a `PairDataset`, whose loader then reads
    each batch anew, in a few threads: no more than some batches are in memory, and an epoch takes as long as
    reading its files. ``images[3]`` reads one of them, ``images[10:20]`` is the part of the files that is meant, and
    ``np.asarray(images)`` reads all.

    Args:
        paths: the files, at least one; what is taken and what is refused, :func:`image_folder` says.
        size, channels, interpolation, crop_pct: as in :func:`image_folder`. Without ``size``, the images must have that
            of the first, which is read at once.

    Attributes:
        paths: the files.
        shape, dtype, nbytes: of the array that they stand for.

    Raises:
        ImportError: Pillow is not installed.
        DataFileError: when it is read, a file that is no image, or has another size than the first.
        TypeError, ValueError: arguments of another type or out of range.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "sea.png")
        ...     Image.new("RGB", (40, 30), "blue").save(path)
        ...     images = ImageFiles([path, path], size=8)
        ...     images.shape, images[0][:, 4, 4].tolist(), images[1:]
        ((2, 3, 8, 8), [0, 0, 255], ImageFiles(1 x (3, 8, 8)))
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        size: int | tuple[int, int] | None = None,
        channels: int = 3,
        interpolation: str = "bilinear",
        crop_pct: float = 1.0,
    ) -> None:
        check_pillow("ImageFiles")
        if isinstance(paths, (str, os.PathLike)):
            raise TypeError(f"`paths` {str(paths)!r} must be several paths, not one")
        self._fit = as_fit(size, interpolation, crop_pct)
        self._channels = as_channels(channels)
        self.paths = tuple(map(user_path, paths))
        if not self.paths:
            raise ValueError("`paths` () must name at least one file")
        self._first = self.paths[0]
        """What sets the size, where none is given."""
        if self._fit is None:
            self._height_and_width = read_picture(self._first, None, self._channels).shape[1:]
        else:
            self._height_and_width = self._fit.size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        height, width = self._height_and_width
        return len(self.paths), self._channels, height, width

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        """One image (channels, h, w), or for a slice or several indices the files that they choose, unread."""
        chosen = np.arange(len(self))[index]
        return self._read(int(chosen)) if chosen.ndim == 0 else self._part(chosen)

    def read(self, index: Any = slice(None)) -> np.ndarray[Any, Any]:
        """The images of a slice or of several indices, (n, channels, h, w) uint8, in their order."""
        chosen = np.arange(len(self))[index].tolist()
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)

        def fill(place: int) -> None:
            images[place] = self._read(chosen[place])

        # Pillow lets other threads run while it decodes and resizes.
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            list(pool.map(fill, range(len(chosen))))
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError("`copy` False: images in files become an array by being read")
        return self.read().astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"ImageFiles({len(self)} x {self.shape[1:]})"

    def _part(self, chosen: np.ndarray[Any, Any]) -> ImageFiles:
        part = object.__new__(ImageFiles)
        vars(part).update(vars(self) | {"paths": tuple(self.paths[place] for place in chosen)})
        return part

    def _read(self, place: int) -> np.ndarray[Any, Any]:
        path = self.paths[place]
        image = read_picture(path, self._fit, self._channels)
        if image.shape[1:] != self._height_and_width:
            raise DataFileError(
                f"{str(path)!r} has height and width {image.shape[1:]}, {str(self._first)!r} has "
                f"{self._height_and_width}; without `size` all images must have the same"
            )
        return np.ascontiguousarray(image)
