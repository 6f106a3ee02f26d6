"""Images with any number of labels each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from numbacnn import data, nn


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, colour in enumerate(("red", "green", "blue"), 1):
        path = tmp_path / "photos" / "some" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), colour).save(path)
    return tmp_path / "photos"


def read(folder: Path, text: str, **options: Any) -> data.PairDataset:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return data.multi_label_folder(folder, size=4, **options)


NAMES = "\ufefffile,labels\nsome/2.png,cat night\n\nsome/1.png,\nsome/3.png, night  dog\n"
COLUMNS = "file,cat,dog,night\nsome/2.png,1,0,1\nsome/1.png,0,0,0\nsome/3.png,0,1.0,1\n"
TARGETS = [[1, 0, 1], [0, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize("text", [NAMES, COLUMNS, NAMES.replace("\n", "\r\n")])
@pytest.mark.parametrize("lazy", [False, True])
def test_both_kinds_of_tables(folder: Path, text: str, lazy: bool) -> None:
    dataset = read(folder, text, lazy=lazy)
    assert dataset.classes == ("cat", "dog", "night") and dataset.name == "photos"
    assert dataset.targets.dtype == np.float32 and dataset.targets.tolist() == TARGETS
    x, y = next(iter(data.DataLoader(dataset, 3)))
    assert x[:, :, 0, 0].round(1).tolist() == np.float32([[0, 0.5, 0], [1, 0, 0], [0, 0, 1]]).tolist()
    assert nn.BCEWithLogitsLoss().forward(np.zeros((3, 3), np.float32), y) == pytest.approx(np.log(2))
    assert dataset.subset(2).classes == dataset.classes


def test_other_delimiters_orders_and_files(folder: Path) -> None:
    text = "file,labels\nsome/1.png,big cat|dog\n"
    dataset = read(folder, text, label_delim="|", classes=["dog", "bird", "big cat"])
    assert dataset.targets.tolist() == [[1, 0, 1]] and dataset.classes == ("dog", "bird", "big cat")
    (folder.parent / "train.csv").write_text(text)
    other = data.multi_label_folder(folder, folder.parent / "train.csv", 4, label_delim="|")
    assert other.classes == ("big cat", "dog")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: it must have titles"),
        ("file\nsome/1.png\n", "line 1: it must have titles"),
        ("file,a,a\nsome/1.png,1,0\n", "line 1: two columns have one title"),
        ("file,labels\n", "names no images"),
        ("file,labels\nsome/1.png,a\nsome/9.png,a\n", r"line 3: there is no file '.*some/9\.png'"),
        ("file,labels\nsome/1.png,a\n\nsome/1.png,b\n", r"line 4: the file 'some/1\.png' is in line 2 already"),
        ("file,labels\nsome/1.png,a,b\n", "line 2: it has 3 columns, the titles are 2"),
        ("file,a,b\nsome/1.png,1,yes\n", "line 2: 'b' is 'yes', it must be 0 or 1"),
        ('file,a\nsome/1.png,"a\n', r"line 2: unexpected end of data"),
    ],
)
def test_lines_that_are_refused(folder: Path, text: str, words: str) -> None:
    with pytest.raises(data.DataFileError, match=rf"labels\.csv',? {words}"):
        read(folder, text)


def test_what_else_is_refused(folder: Path) -> None:
    with pytest.raises(data.DataFileError, match=r"line 2: the label 'b' is none of `classes` \['a'\]"):
        read(folder, "file,labels\nsome/1.png,a b\n", classes=["a"])
    with pytest.raises(ValueError, match="`label_delim` '' must be"):
        read(folder, NAMES, label_delim="")
    with pytest.raises(TypeError, match="`classes` 'ab' must be a sequence of names"):
        read(folder, NAMES, classes="ab")
    (folder / "labels.csv").write_bytes(b"file,labels\n\xff\n")
    with pytest.raises(data.DataFileError, match=r"labels\.csv' must be UTF-8"):
        data.multi_label_folder(folder, size=4)
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*other\.csv' with the labels"):
        data.multi_label_folder(folder, "other.csv")
    with pytest.raises(FileNotFoundError, match=r"`root` .* must be a folder that exists"):
        data.multi_label_folder(folder / "nothing")
    for names in (["a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match=r"`classes` .* must be a name for each column of `targets`"):
            data.PairDataset(np.zeros((2, 2)), np.zeros((2, 2)), classes=names)
