"""Images of which each may have any number of labels, by a table."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...files import user_path
from ..arrays.pair_dataset import PairDataset
from ..readers.image_files import ImageFiles
from ..readers.opening import DataFileError, open_regular

__all__ = ["multi_label_folder"]


def multi_label_folder(
    root: str | os.PathLike[str],
    labels: str | os.PathLike[str] = "labels.csv",
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    interpolation: str = "bilinear",
    crop_pct: float = 1.0,
    lazy: bool = False,
    label_delim: str = " ",
    classes: Sequence[str] | None = None,
) -> PairDataset:
    r"""The images that a CSV file names, each with any number of labels, for `nn.BCEWithLogitsLoss`.

    The first line of the table has titles, the first column the names of files. It may go on in two ways: with one more
    column, which has the labels of an image, separated by ``label_delim``, or with a column for each class, named by
    its title, that says 1 where the image has the label and 0 where not::

        file,labels                 file,cat,dog,night
        1.jpg,cat night             1.jpg,1,0,1
        2.jpg,                      2.jpg,0,0,0

    Args:
        root: the folder that names of files begin in; ``~`` is the home folder.
        labels: the CSV file, UTF-8, in ``root`` unless it is absolute.
        size, channels, interpolation, crop_pct, lazy: as in :func:`image_folder`.
        label_delim: what separates the labels of an image, at least one sign.
        classes: the names of the classes, in the order of the targets' columns; if None, those in the table, sorted
            where they are not its titles.

    Returns:
        Images (n, channels, h, w) uint8 and targets (n, classes) float32, 1 or 0, with ``classes``, named like the
        folder.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: there is no such folder, or no such table.
        DataFileError: a line of the table that cannot be, which the message names, or an image that cannot be read.
        TypeError, ValueError: arguments of another type or out of range.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("1.png", "2.png"):
        ...         Image.new("RGB", (40, 30)).save(Path(root, name))
        ...     _ = Path(root, "labels.csv").write_text("file,labels\n1.png,cat night\n2.png,dog\n")
        ...     dataset = multi_label_folder(root, size=8)
        >>> dataset.classes, dataset.targets.tolist()
        (('cat', 'dog', 'night'), [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    """
    root = user_path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"`root` {str(root)!r} must be a folder that exists")
    if not isinstance(label_delim, str) or not label_delim:
        raise ValueError(f"`label_delim` {label_delim!r} must be a string of at least one sign")
    if isinstance(classes, str):
        raise TypeError(f"`classes` {classes!r} must be a sequence of names, not one string")
    table = root / user_path(labels)
    rows = _rows(table)
    line, titles = next(rows, (1, []))
    if len(titles) < 2:
        raise _wrong(table, line, "it must have titles, of file names and of labels")
    names, found = titles[1:], []
    first_lines: dict[str, int] = {}
    if len(set(names)) < len(names):
        raise _wrong(table, line, "two columns have one title")
    for line, cells in rows:
        if len(cells) != len(titles):
            raise _wrong(table, line, f"it has {len(cells)} columns, the titles are {len(titles)}")
        if cells[0] in first_lines:
            raise _wrong(table, line, f"the file {cells[0]!r} is in line {first_lines[cells[0]]} already")
        if not (root / cells[0]).is_file():
            raise _wrong(table, line, f"there is no file {str(root / cells[0])!r}")
        first_lines[cells[0]] = line
        found.append((line, _labels(table, line, cells[1:], names, label_delim)))
    if not found:
        raise DataFileError(f"{str(table)!r} names no images")
    known = sorted({label for _, each in found for label in each}) if len(names) == 1 else names
    known = known if classes is None else [str(name) for name in classes]
    place = {name: column for column, name in enumerate(known)}
    targets = np.zeros((len(found), len(known)), np.float32)
    for row, (line, each) in enumerate(found):
        for label in each:
            if label not in place:
                raise _wrong(table, line, f"the label {label!r} is none of `classes` {known}")
            targets[row, place[label]] = 1
    images = ImageFiles([root / name for name in first_lines], size, channels, interpolation, crop_pct)
    return PairDataset(images if lazy else images.read(), targets, root.resolve().name, known)


def _rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not empty, with their numbers from 1."""
    if not table.exists():
        raise FileNotFoundError(f"there is no file {str(table)!r} with the labels")
    with open_regular(table) as file:
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataFileError(f"{str(table)!r} must be UTF-8: {error}") from error
    reader = csv.reader(text.splitlines(keepends=True), skipinitialspace=True, strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _wrong(table, reader.line_num, str(error)) from error
        if cells is None:
            return
        if any(cells):
            yield reader.line_num, [cell.strip() for cell in cells]


def _labels(table: Path, line: int, cells: list[str], names: list[str], delimiter: str) -> list[str]:
    if len(names) == 1:
        return [label for label in map(str.strip, cells[0].split(delimiter)) if label]
    for name, cell in zip(names, cells, strict=True):
        if cell not in ("0", "1", "0.0", "1.0"):
            raise _wrong(table, line, f"{name!r} is {cell!r}, it must be 0 or 1")
    return [name for name, cell in zip(names, cells, strict=True) if float(cell)]


def _wrong(table: Path, line: int, reason: str) -> DataFileError:
    return DataFileError(f"{str(table)!r}, line {line}: {reason}")
