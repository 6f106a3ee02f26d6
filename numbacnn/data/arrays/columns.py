"""The arrays of a data set, and how batches are made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends import Array, Backend
from ..readers.image_files import ImageFiles

__all__ = ["Column"]


@dataclass(frozen=True)
class Column:
    """One array with a sample in each row, of NumPy or of a backend, and what becomes of them in a batch."""

    array: Array | ImageFiles
    is_image: bool
    """Whether batches are float32, and uint8 divided by 255; otherwise numbers stay, integers as int64."""
    rows: np.ndarray[Any, Any] | None = None
    """Which rows are the samples, and in which order; None for all."""

    @property
    def is_in_files(self) -> bool:
        """Whether each batch has to be read."""
        return isinstance(self.array, ImageFiles)

    @property
    def nbytes(self) -> int:
        """Of the samples."""
        size = self.array.nbytes
        return size if self.rows is None else size // max(len(self.array), 1) * len(self.rows)

    def part(self, rows: np.ndarray[Any, Any]) -> Column:
        """The samples of these numbers, of which nothing is copied."""
        return Column(self.array, self.is_image, rows if self.rows is None else self.rows[rows])

    def on(self, backend: Backend) -> Column:
        """The column with its array on a backend."""
        if self.rows is None or backend.free_memory() is None:  # in the host's memory nothing has to be copied
            return Column(backend.asarray(self.array), self.is_image, self.rows)
        return Column(backend.asarray(self.array[self.rows]), self.is_image)

    def batch(self, index: Any, backend: Backend) -> Array:
        """The samples of ``index``; both it and the column are on the backend."""
        array, index = self.array, index if self.rows is None else self.rows[index]
        if isinstance(array, ImageFiles):
            array, index = array.read(index), slice(None)
        return (backend.gather_images if self.is_image else backend.gather_samples)(array, index)
