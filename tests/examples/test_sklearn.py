"""The examples of scikit-learn's estimators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from joblib import parallel_backend

from examples import sklearn_digits, sklearn_grid
from examples.figures import new_figure


def test_digits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert sklearn_digits.main([f"--output={tmp_path / 'digits.png'}"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"wrote {tmp_path / 'digits.png'}" and (tmp_path / "digits.png").stat().st_size > 10_000
    assert lines[0].startswith("epoch 1/10: loss ") and float(lines[-1].removeprefix("accuracy ")) > 0.95


def test_the_hardest_digits_come_first() -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 64)), np.arange(40) % 10
    shares = np.full((40, 10), 0.04)
    shares[np.arange(40), labels] = np.linspace(0.99, 0.3, 40)
    shares[39, 2], shares[38, 1] = 0.55, 0.5  # image 39 is a 9 and taken for a 2, image 38 an 8 taken for a 1
    figure = new_figure(9, 4)
    sklearn_digits.draw(figure, images, labels, shares)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["9: 30%\n2: 55%", "8: 32%\n1: 50%", "7: 34%"] and len(titles) == sklearn_digits.SHOWN
    assert [axes.title.get_color() for axes in figure.axes[:3]] == ["C3", "C3", "black"]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), images[38].reshape(8, 8))


def test_grid(capsys: pytest.CaptureFixture[str]) -> None:
    with parallel_backend("threading"):
        assert sklearn_grid.main(["--epochs=3", "--limit=300"]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    scores = [float(row.rpartition(" ")[2]) for row in rows]
    assert len(rows) == 6 and last == f"best {max(scores):.3f}"
    assert max(scores) > 0.8 > min(scores)
    assert rows[0].split() == ["small", "lr", "0.001", "accuracy", f"{scores[0]:.3f}"]
