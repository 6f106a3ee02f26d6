"""The arrays of a data set, and how batches are made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends import Array, Backend

__all__ = ["Column"]


@dataclass(frozen=True)
class Column:
    """One array with a sample in each row, of NumPy or of a backend, and what becomes of them in a batch."""

    array: Array
    is_image: bool
    """Whether batches are float32, and uint8 divided by 255; otherwise numbers stay, integers as int64."""

    def on(self, backend: Backend) -> Column:
        """The column with its array on a backend."""
        return Column(backend.asarray(self.array), self.is_image)

    def batch(self, index: Any, backend: Backend) -> Array:
        """The samples of ``index``; both it and the column are on the backend."""
        return (backend.gather_images if self.is_image else backend.gather_samples)(self.array, index)
