"""Data sets in memory (``fashion_mnist``, ``mnist``, the built-in ``shapes``), IDX files, and the loader of batches."""

from .dataset import ArrayDataset as ArrayDataset
from .idx import IdxError as IdxError
from .idx import read_idx as read_idx
from .idx import write_idx as write_idx
from .loader import DataLoader as DataLoader
from .mnist import DatasetUnavailable as DatasetUnavailable
from .mnist import fashion_mnist as fashion_mnist
from .mnist import mnist as mnist
from .shapes import shapes as shapes

__all__ = [
    "ArrayDataset",
    "DataLoader",
    "DatasetUnavailable",
    "IdxError",
    "fashion_mnist",
    "mnist",
    "read_idx",
    "shapes",
    "write_idx",
]
