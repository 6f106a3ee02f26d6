"""LeNet for digits that are drawn in the page of ``numbacnn explore``."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from examples import draw_a_digit
from numbacnn.explore.strokes import centred

Draw = pytest.importorskip("PIL.ImageDraw")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")

STROKES = {
    "0": [(140, 50), (185, 75), (200, 140), (185, 205), (140, 230), (95, 205), (80, 140), (95, 75), (140, 50)],
    "2": [(85, 95), (100, 60), (140, 50), (180, 65), (185, 105), (150, 150), (90, 220), (200, 220)],
    "3": [(95, 60), (145, 45), (190, 75), (175, 118), (130, 135), (182, 155), (195, 200), (150, 235), (90, 215)],
    "5": [(190, 55), (100, 55), (95, 130), (150, 115), (190, 150), (180, 210), (130, 235), (85, 215)],
    "6": [(175, 50), (120, 90), (90, 160), (100, 220), (150, 235), (185, 205), (175, 160), (130, 150), (95, 185)],
}


def drawn(digit: str) -> np.ndarray:
    """A drawing on the pad, as the page makes an image of it, (1, 28, 28) uint8."""
    pad = Image.new("L", (280, 280))
    Draw.Draw(pad).line(STROKES[digit], fill=255, width=22, joint="curve")
    return centred(np.asarray(pad), draw_a_digit.SIZE)[np.newaxis]


def test_it_reads_drawings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with nc.use_backend("cpu"):
        assert draw_a_digit.main([f"--save={tmp_path}", "--epochs=12"]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        told, _, command = last.partition(": ")
        assert command == f"numbacnn explore --model {tmp_path}"
        assert float(told.rpartition(" ")[2]) > 0.9
        classifier = nc.load_classifier(tmp_path)
        said = [classifier.predict(drawn(digit), top=1)[0][0] for digit in STROKES]
    assert said == list(STROKES)


def test_the_digits_are_as_sharp_as_drawings_and_in_the_middle() -> None:
    train, test = draw_a_digit.enlarged_digits()
    assert (len(train), len(test)) == (1797 - draw_a_digit.TESTED, draw_a_digit.TESTED)
    assert train.images.shape[1:] == (1, 28, 28) and train.classes == tuple("0123456789")
    assert set(np.unique(test.labels)) == set(range(10))
    images = train.images[:, 0].astype(float)
    for axis in (1, 2):
        mass = images.sum(axis=3 - axis)
        centre = (mass * (np.arange(28) + 0.5)).sum(axis=1) / mass.sum(axis=1)
        assert np.abs(centre - 14).max() <= 1.5
    assert ((images > 20) & (images < 235)).mean() < 0.25 < (images > 0).mean() * 2


def test_without_scikit_learn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError("no module of that name")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert draw_a_digit.main([f"--save={tmp_path / 'x'}"]) == 2
    message = """error: the digits are scikit-learn's: pip install "numbacnn[sklearn]" (no module of that name)\n"""
    assert capsys.readouterr().err == message and not (tmp_path / "x").exists()
