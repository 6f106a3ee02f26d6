"""Accuracies beside the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import book
from numbacnn.cli.recipes import RECIPES
from numbacnn.training import EpochRecord, History


def write(folder: Path, *accuracies: float) -> None:
    """A history of so many epochs."""
    records = [EpochRecord(i, 1.0, 0.5, 1.0, value, 10.0, 9.0, 0.1, 2.0) for i, value in enumerate(accuracies, 1)]
    folder.mkdir(parents=True)
    (folder / "history.jsonl").write_text(History(records).lines(), encoding="ascii")


def rows(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in output.splitlines()[1:]}


def test_every_model_of_the_book_has_a_range() -> None:
    assert set(book.PUBLISHED) == {name for name, recipe in RECIPES.items() if not recipe.options}
    assert all(0 < low < high < 1 for low, high in book.PUBLISHED.values())


def test_the_median_is_what_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, last in enumerate((0.9, 0.8, 0.1)):
        write(tmp_path / "lenet" / f"seed{seed}", *[0.5] * 9, last)
    write(tmp_path / "runs" / "lenet-bn", *[0.5] * 9, 0.763, 0.99)  # later epochs are not the book's
    write(tmp_path / "vgg" / "seed0", *[0.92] * 9)
    write(tmp_path / "other", *[0.5] * 10)
    assert book.main([str(tmp_path)]) == 0
    found = rows(capsys.readouterr().out)
    assert list(found) == list(book.PUBLISHED)
    assert found["lenet"] == ["3", "0.800", "0.781-0.820", "within", "0.100,", "0.800,", "0.900"]
    assert found["lenet-bn"] == ["1", "0.763", "0.763-0.877", "within", "0.763"]
    assert found["vgg"] == ["0", "0.913-0.923"]


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.8749, "below"), (0.8841, "above")])
def test_out_of_range(accuracy: float, verdict: str, tmp_path: Path, capsys: Any) -> None:
    write(tmp_path / "alexnet", *[0.88] * 9, accuracy)
    write(tmp_path / "nin", *[0.88] * 9, 0.5)
    assert book.main([str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert rows(captured.out)["alexnet"][3] == verdict
    assert rows(captured.out)["nin"][3] == "within"
    assert captured.err == f"error: the median is not within the published range: alexnet ({verdict})\n"


def test_a_folder_of_one_model(tmp_path: Path, capsys: Any) -> None:
    write(tmp_path / "nin" / "seed0", *[0.5] * 10)
    assert book.main([str(tmp_path / "nin")]) == 0
    assert rows(capsys.readouterr().out)["nin"][0] == "1"


def test_nothing_to_compare(tmp_path: Path, capsys: Any) -> None:
    write(tmp_path / "nin", *[0.5] * 9)
    assert book.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: no model under {tmp_path} has a history.jsonl of 10 epochs\n"


@pytest.mark.parametrize("text", ["{", "{}\n", "[]\n"])
def test_a_file_that_is_no_history(text: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "nin").mkdir()
    (tmp_path / "nin" / "history.jsonl").write_text(text, encoding="utf-8")
    assert book.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'nin' / 'history.jsonl'} is no history of a run: ")
    assert error.count("\n") == 1
