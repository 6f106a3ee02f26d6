"""CIFAR-10 in its binary version or its Python version, from a folder, from the user's cache or from the network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...ops.arguments import one_of
from ..arrays.array_dataset import ArrayDataset
from ..readers.opening import DataFileError, open_regular
from ..readers.pickled_arrays import read_pickled_arrays
from .sources import Source, find_files

__all__ = ["cifar10"]

_FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_META, _PICKLED_META = "batches.meta.txt", "batches.meta"
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32  # bytes: a label, then the planes of red, green and blue
_MOST_BYTES = 100_000 * _RECORD  # of a file, ten times what those of CIFAR-10 have
_MOST_META = 1 << 16
_PICKLE = b"\x80"
"""What the files of the Python version begin with, and no label that a file of the binary version may begin with."""

_CIFAR10 = Source(
    "CIFAR-10",
    "cifar-10-batches-bin",
    "https://www.cs.toronto.edu/~kriz/",
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
    {**dict.fromkeys((*_FILES["train"], *_FILES["test"]), 10_000 * _RECORD), _META: 61},
    places=("cifar-10-batches-py",),
    spellings=lambda name: (name, name.removesuffix(".bin")),
)


def cifar10(
    split: str, data_dir: str | os.PathLike[str] | None = None, download: bool = True, timeout: float = 5.0
) -> ArrayDataset:
    """CIFAR-10: 50,000 training and 10,000 test photographs of things and animals in ten classes (Krizhevsky, 2009).

    Args:
        split: ``"train"``, the five files ``data_batch_1.bin`` to ``data_batch_5.bin`` in this order, or ``"test"``,
            the file ``test_batch.bin``.
        data_dir: folder with the files of the binary version, in its sub-folder ``cifar-10-batches-bin`` or else in the
            folder itself; those of the Python version, which torchvision downloads, are read as well, also in
            ``cifar-10-batches-py``, and nothing that they name is run. ``~`` is the home folder. If None, the folder in
            the environment variable ``NUMBACNN_DATA``. If that is not set either, the user's cache folder, into which
            the archive (170 MB) is downloaded, checked and unpacked.
        download: whether the archive may be downloaded; never done where a folder is given.
        timeout: seconds to wait for the server to answer, above 0.

    Returns:
        Images (n, 3, 32, 32) uint8, red, green and blue, and labels 0..9. The names of the classes are those in
        ``batches.meta.txt`` or ``batches.meta`` where one of them lies beside the others.

    Raises:
        FileNotFoundError: the folder that is given does not hold the files.
        DatasetUnavailable: no folder is given and the files are not in the cache and cannot be downloaded.
        DataFileError: a file is damaged: it is empty, cut short within an image, has a label above 9, more than 100,000
            images, or in its pickle anything but plain data.
        ValueError: another split.
    """
    names = _FILES[one_of("split", split, _FILES)]
    paths = find_files(_CIFAR10, names, data_dir, download, timeout)
    batches = [_records(path) for path in paths]
    images = np.concatenate([images for images, _ in batches]).reshape(-1, *_SHAPE)
    labels = np.concatenate([labels for _, labels in batches])
    return ArrayDataset(images, labels, _classes(paths[0].parent), f"cifar10 {split}")


def _records(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images (n, 3 * 32 * 32) uint8 and the labels (n,) in a file."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MOST_BYTES:
            raise DataFileError(f"{str(path)!r} holds {size} bytes; it must hold at most {_MOST_BYTES}")
        data = file.read(_MOST_BYTES)
    images, labels = _unpickled(path, data) if data.startswith(_PICKLE) else _unpacked(path, data)
    wrong = np.flatnonzero((labels < 0) | (labels > 9))
    if wrong.size:
        first = wrong[0]
        raise DataFileError(f"{str(path)!r} holds the label {labels[first]} in record {first}; labels must be in 0..9")
    return images, labels


def _unpacked(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """What a file of the binary version holds: a row (label, pixels) for each image."""
    if not data or len(data) % _RECORD:
        raise DataFileError(
            f"{str(path)!r} holds {len(data)} bytes; it must hold one or more records of {_RECORD} bytes, a label and "
            "the pixels of an image"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0]


def _unpickled(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """What a file of the Python version holds: the array ``data``, (n, 3 * 32 * 32) uint8, and the list ``labels``."""
    content = _pickle(path, data)
    images, labels = content.get(b"data"), content.get(b"labels")
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != _RECORD - 1 or not len(images):
        raise DataFileError(f"{str(path)!r} must hold `data` of shape (n, {_RECORD - 1}) uint8, n at least 1")
    if not isinstance(labels, list) or any(type(label) is not int for label in labels) or len(labels) != len(images):
        raise DataFileError(f"{str(path)!r} must hold `labels`, a list of {len(images)} integers")
    return images, np.array(labels)


def _pickle(path: Path, data: bytes) -> dict[bytes, Any]:
    try:
        content = read_pickled_arrays(data)
    except ValueError as error:
        raise DataFileError(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataFileError(f"{str(path)!r} must hold a dictionary, not {type(content).__name__}")
    return content


def _classes(folder: Path) -> tuple[str, ...]:
    """The names in the file beside the images, or those that are known where there is none."""
    path = next((path for name in (_META, _PICKLED_META) if (path := folder / name).is_file()), None)
    if path is None:
        return _CIFAR10.classes
    with open_regular(path) as file:
        data = file.read(_MOST_META)
    lines = data.splitlines()
    if path.name == _PICKLED_META:
        lines = _pickle(path, data).get(b"label_names", [])
        if not isinstance(lines, list) or any(type(line) is not bytes for line in lines):
            raise DataFileError(f"{str(path)!r} must hold `label_names`, a list of text")
    names = tuple(name for line in lines if (name := line.decode("utf-8", errors="replace").strip()))
    if len(names) != 10:
        raise DataFileError(f"{str(path)!r} holds {len(names)} names of classes; it must hold 10, one a line")
    return names
