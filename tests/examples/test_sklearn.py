"""The examples of scikit-learn's estimators."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn")

from joblib import parallel_backend

from examples import sklearn_digits, sklearn_grid


def test_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert sklearn_digits.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/10: loss ") and float(lines[-1].removeprefix("accuracy ")) > 0.95


def test_grid(capsys: pytest.CaptureFixture[str]) -> None:
    with parallel_backend("threading"):
        assert sklearn_grid.main(["--epochs=3", "--limit=300"]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    scores = [float(row.rpartition(" ")[2]) for row in rows]
    assert len(rows) == 6 and last == f"best {max(scores):.3f}"
    assert max(scores) > 0.8 > min(scores)
    assert rows[0].split() == ["small", "lr", "0.001", "accuracy", f"{scores[0]:.3f}"]
