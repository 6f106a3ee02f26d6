"""CIFAR-10 in its binary version, from a folder, from the user's cache or from the network."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..ops.arguments import one_of
from .dataset import ArrayDataset
from .sources import Source, find_files

__all__ = ["cifar10"]

_FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_META = "batches.meta.txt"
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32  # bytes: a label, then the planes of red, green and blue

_CIFAR10 = Source(
    "CIFAR-10",
    "cifar-10-batches-bin",
    "https://www.cs.toronto.edu/~kriz/",
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
    {**dict.fromkeys((*_FILES["train"], *_FILES["test"]), 10_000 * _RECORD), _META: 61},
)


def cifar10(
    split: str, data_dir: str | os.PathLike[str] | None = None, download: bool = True, timeout: float = 5.0
) -> ArrayDataset:
    """CIFAR-10: 50,000 training and 10,000 test photographs of things and animals in ten classes (Krizhevsky, 2009).

    Args:
        split: ``"train"``, the five files ``data_batch_1.bin`` to ``data_batch_5.bin`` in this order, or ``"test"``,
            the file ``test_batch.bin``.
        data_dir: folder with the files of the binary version, directly or in its sub-folder ``cifar-10-batches-bin``
            (which comes first). If None, the folder in the environment variable ``NUMBACNN_DATA``. If that is not set
            either, the user's cache folder, into which the archive (170 MB) is downloaded, checked and unpacked.
        download: whether the archive may be downloaded; never done where a folder is given.
        timeout: seconds to wait for the server to answer, above 0.

    Returns:
        Images (n, 3, 32, 32) uint8, red, green and blue, and labels 0..9. The names of the classes are those in
        ``batches.meta.txt`` where that file lies beside the others.

    Raises:
        FileNotFoundError: the folder that is given does not hold the files.
        DatasetUnavailable: no folder is given and the files are not in the cache and cannot be downloaded.
        ValueError: another split, or a file is damaged: it is empty, cut short within an image, or has a label above 9.
    """
    names = _FILES[one_of("split", split, _FILES)]
    paths = find_files(_CIFAR10, names, data_dir, download, timeout)
    batches = [_records(path) for path in paths]
    images = np.concatenate([records[:, 1:] for records in batches]).reshape(-1, *_SHAPE)
    labels = np.concatenate([records[:, 0] for records in batches])
    return ArrayDataset(images, labels, _classes(paths[0].with_name(_META)), f"cifar10 {split}")


def _records(path: Path) -> np.ndarray:
    """The bytes of a file, a row (label, pixels) for each image."""
    data = np.fromfile(path, np.uint8)
    if not data.size or data.size % _RECORD:
        raise ValueError(
            f"{str(path)!r} holds {data.size} bytes; it must hold one or more records of {_RECORD} bytes, a label and "
            "the pixels of an image"
        )
    records = data.reshape(-1, _RECORD)
    wrong = np.flatnonzero(records[:, 0] > 9)
    if wrong.size:
        first = wrong[0]
        raise ValueError(f"{str(path)!r} holds the label {records[first, 0]} in record {first}; labels must be in 0..9")
    return records


def _classes(path: Path) -> tuple[str, ...]:
    """The names in ``path``, one a line, or those that are known where there is no such file."""
    if not path.is_file():
        return _CIFAR10.classes
    lines = path.read_text("utf-8", errors="replace").splitlines()
    names = tuple(name for line in lines if (name := line.strip()))
    if len(names) != 10:
        raise ValueError(f"{str(path)!r} holds {len(names)} names of classes; it must hold 10, one a line")
    return names
