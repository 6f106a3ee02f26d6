"""Images that are read when a batch needs them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from numbacnn import data
from numbacnn.data.readers import image_files
from tests.strategies import SIMULATED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(9):
        path = tmp_path / "pets" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12 + number, 10, 3), np.uint8)).save(path)
    return tmp_path / "pets"


def both(folder: Path) -> tuple[data.ArrayDataset, data.ArrayDataset]:
    return data.image_folder(folder, 8), data.image_folder(folder, 8, lazy=True)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_have_the_same_bits(folder: Path, backend: Any, prefetch: int) -> None:
    """Shuffled and transformed, of the whole data set and of a part."""
    transform = data.Compose([data.RandomHorizontalFlip(), data.Normalize([0.5] * 3, [0.5] * 3)])
    kept, lazy = both(folder)
    assert isinstance(lazy.images, data.ImageFiles) and repr(lazy) == repr(kept)
    for options in ({"shuffle": True, "transform": transform}, {}):
        for part in (lambda whole: whole, lambda whole: data.Subset(whole, [7, 2, 3])):
            one, other = (
                list(data.DataLoader(part(each), 4, prefetch=prefetch, backend=backend, **options))
                for each in (kept, lazy)
            )
            assert len(one) == len(other) > 0
            for (x, labels), (lazy_x, lazy_labels) in zip(one, other, strict=True):
                assert type(x) is type(lazy_x) and x.dtype == lazy_x.dtype
                np.testing.assert_array_equal(np.asarray(x), np.asarray(lazy_x))
                np.testing.assert_array_equal(np.asarray(labels), np.asarray(lazy_labels))
        if SIMULATED:
            return


def test_no_more_is_read_than_batches_need(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, threads = [], set()
    original = image_files.read_picture

    def noted(path: Path, *arguments: Any) -> np.ndarray:
        read.append(path.name)
        threads.add(threading.current_thread())
        return original(path, *arguments)

    monkeypatch.setattr(image_files, "read_picture", noted)
    lazy = data.image_folder(folder, 8, lazy=True)
    assert not read and lazy.image_shape == (3, 8, 8) and len(lazy) == 9
    assert not read
    batches = iter(data.DataLoader(lazy, 2, prefetch=0))
    next(batches)
    assert sorted(read) == ["0.png", "2.png"] and threading.main_thread() not in threads


def test_parts_and_single_images(folder: Path) -> None:
    kept, lazy = both(folder)
    images = lazy.images
    assert (images.shape, images.dtype, images.nbytes, images.ndim) == ((9, 3, 8, 8), np.uint8, 9 * 3 * 8 * 8, 4)
    np.testing.assert_array_equal(np.asarray(images), kept.images)
    np.testing.assert_array_equal(images[-1], kept.images[-1])
    np.testing.assert_array_equal(images[[3, 1]].read(), kept.images[[3, 1]])
    np.testing.assert_array_equal(lazy.subset(4).images[1:].read(), kept.images[1:4])
    np.testing.assert_array_equal(lazy[2][0], kept[2][0])
    pairs = data.PairDataset(images, np.arange(9.0))
    x, y = next(iter(data.DataLoader(pairs, 9)))
    np.testing.assert_array_equal(x, kept.images / np.float32(255))
    assert y.tolist() == list(range(9)) and pairs.image_shape == (3, 8, 8)
    with pytest.raises(IndexError):
        images[9]


def test_a_damaged_file_is_named_when_it_is_read(folder: Path) -> None:
    lazy = data.image_folder(folder, 8, lazy=True)
    (folder / "b" / "3.png").write_text("no image")
    with pytest.raises(data.DataFileError, match=r"3\.png' cannot be read as an image"):
        list(data.DataLoader(lazy, 2))


def test_without_a_size_all_have_that_of_the_first(folder: Path) -> None:
    lazy = data.image_folder(folder, lazy=True)
    assert lazy.image_shape == (3, 12, 10)
    with pytest.raises(data.DataFileError, match=r"2\.png' has height and width \(14, 10\), .*0\.png' has \(12, 10\)"):
        lazy[1]


def test_paths_that_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`paths` \(\) must name at least one file"):
        data.ImageFiles([])
    with pytest.raises(TypeError, match=r"`paths` 'a\.png' must be several paths, not one"):
        data.ImageFiles("a.png")
    with pytest.raises(data.DataFileError, match="No such file"):
        data.ImageFiles(["nowhere.png"])
