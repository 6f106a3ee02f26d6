"""Accuracies beside the published ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import book
from examples.recipes import RECIPES


def history(folder: Path, name: str, *accuracies: float) -> None:
    lines = [json.dumps({"epoch": epoch, "test_accuracy": value}) for epoch, value in enumerate(accuracies, 1)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_every_model_is_one_that_can_be_trained() -> None:
    assert set(book.PUBLISHED) <= set(RECIPES)
    assert all(0 < low < high < 1 for low, high in book.PUBLISHED.values())


def test_the_median_of_the_last_epochs_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, last in enumerate((0.5, 0.8, 0.81)):
        history(tmp_path, f"lenet-seed{seed}", *[0.1] * 9, last)
    history(tmp_path, "vgg-seed0", *[0.92] * 9, 0.9)
    history(tmp_path, "lenet-bn-seed4", *[0.1] * 9, 0.8)
    assert book.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert rows["lenet"].endswith("within") and "0.500 0.800 0.810" in rows["lenet"]
    assert rows["vgg"].endswith("outside")
    assert rows["lenet-bn"].endswith("within")
    assert out.splitlines()[-1] == "not there: alexnet, nin, googlenet, resnet, densenet"


@pytest.mark.parametrize(
    ("epochs", "message"), [(None, "no histories MODEL-seedN.jsonl in "), (9, "has 9 epochs, must have 10")]
)
def test_no_whole_history(tmp_path: Path, epochs: int | None, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if epochs:
        history(tmp_path, "nin-seed0", *[0.5] * epochs)
    assert book.main([str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nin-seed0.jsonl").write_text("{}\n" * 10, encoding="utf-8")
    assert book.main([str(tmp_path)]) == 2
    assert "is no history of examples.train" in capsys.readouterr().err
