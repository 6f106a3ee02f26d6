"""Fashion-MNIST and MNIST, from a folder, from the user's cache or from the network."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...ops.arguments import one_of
from ..arrays.array_dataset import ArrayDataset
from ..readers.idx import IdxError, read_idx_of
from .sources import Source, find_files

__all__ = ["fashion_mnist", "mnist"]

_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_MOST_IMAGES = 1_000_000
"""Enough for every collection in the files of MNIST's names; what claims more would only fill the memory."""


def _spellings(name: str) -> tuple[str, ...]:
    """How a file is called as it is downloaded, unpacked, and in collections that have it with a dot."""
    plain = name.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    return name, plain, f"{dotted}.gz", dotted


_FASHION_MNIST = Source(
    "Fashion-MNIST",
    "fashion-mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    places=("FashionMNIST/raw", "raw"),
    spellings=_spellings,
)
_MNIST = Source(
    "MNIST",
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    tuple("0123456789"),
    {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    places=("MNIST/raw", "raw"),
    spellings=_spellings,
)


def fashion_mnist(
    split: str, data_dir: str | os.PathLike[str] | None = None, download: bool = True, timeout: float = 5.0
) -> ArrayDataset:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes in ten classes (Xiao et al., 2017).

    Args:
        split: ``"train"`` or ``"test"``.
        data_dir: folder with the original IDX files, gzipped or not, ``-idx`` in their names or ``.idx``, in its
            sub-folder ``fashion-mnist`` or, as torchvision puts them, ``FashionMNIST/raw`` or ``raw``, or else in the
            folder itself; ``~`` is the home folder. If None, the folder in the environment variable ``NUMBACNN_DATA``.
            If that is not set either, the user's cache folder, into which missing files are downloaded and checked.
        download: whether missing files may be downloaded; never done where a folder is given.
        timeout: seconds to wait for the server to answer, above 0.

    Returns:
        Images (n, 1, 28, 28) uint8 and labels 0..9, with the names of the classes.

    Raises:
        FileNotFoundError: the folder that is given does not hold the files.
        DatasetUnavailable: no folder is given and the files are not in the cache and cannot be downloaded.
        IdxError: a file is damaged, or holds something else than its name says, or more than 1,000,000 images.
    """
    return _load(_FASHION_MNIST, split, data_dir, download, timeout)


def mnist(
    split: str, data_dir: str | os.PathLike[str] | None = None, download: bool = True, timeout: float = 5.0
) -> ArrayDataset:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits (LeCun et al., 1998).

    Arguments, result and errors are those of :func:`fashion_mnist`; the sub-folders are ``mnist``, ``MNIST/raw`` and
    ``raw``.
    """
    return _load(_MNIST, split, data_dir, download, timeout)


def _load(
    source: Source, split: str, data_dir: str | os.PathLike[str] | None, download: bool, timeout: float
) -> ArrayDataset:
    names = _FILES[one_of("split", split, _FILES)]
    paths = find_files(source, names, data_dir, download, timeout)
    images, labels = _checked(*paths)
    return ArrayDataset(images[:, None], labels, source.classes, f"{source.folder} {split}")


def _checked(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of the two files; their headers are found to be what the names say before any data are read."""

    def not_labels(dtype: np.dtype, shape: tuple[int, ...]) -> str | None:
        if dtype != np.uint8 or len(shape) != 1:
            return "labels must be uint8 of shape (n,)"
        return f"there must be at most {_MOST_IMAGES} labels" if shape[0] > _MOST_IMAGES else None

    def not_images(dtype: np.dtype, shape: tuple[int, ...]) -> str | None:
        if dtype != np.uint8 or shape[1:] != (28, 28):
            return "images must be uint8 of shape (n, 28, 28)"
        if shape[0] != len(labels):
            return f"there must be as many images as {str(labels_path)!r} holds labels, {len(labels)}"
        return None

    labels = read_idx_of(labels_path, not_labels)
    images = read_idx_of(images_path, not_images)
    if labels.size and labels.max() > 9:
        raise IdxError(f"{str(labels_path)!r} holds the label {labels.max()}; labels must be in 0..9")
    return images, labels
