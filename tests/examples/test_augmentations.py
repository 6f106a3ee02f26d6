"""The picture of augmentations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples import augmentations

Image = pytest.importorskip("PIL.Image")


def test_a_row_for_each_augmentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, picture = tmp_path / "photo.png", tmp_path / "runs" / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(photo)
    argv = [str(photo), "--size=16", "--copies=3", f"--output={picture}"]
    assert augmentations.main(argv) == 0
    assert capsys.readouterr().out == f"wrote {picture}\n"
    found = np.asarray(Image.open(picture))
    assert found.shape == (8 * 20 - 4, 3 * 20 - 4, 3)
    tiles = [found[row : row + 16, column : column + 16] for row in range(0, 156, 20) for column in range(0, 56, 20)]
    assert all(tile.std() > 0 for tile in tiles)
    assert len({tile.tobytes() for tile in tiles}) > 20
    assert augmentations.main([*argv, "--seed=1"]) == 0
    assert not np.array_equal(found, np.asarray(Image.open(picture)))


def test_a_photograph_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert augmentations.main([str(tmp_path / "none.png")]) == 2
    assert "error: there is no file" in capsys.readouterr().err
