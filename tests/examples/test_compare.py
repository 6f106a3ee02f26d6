"""The command that compares runs: its table, its picture, and what it refuses."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from examples import compare
from numbacnn.training import EpochRecord, History
from tests.training.toy import record


def written(folder: Path, *records: EpochRecord) -> Path:
    folder.mkdir(parents=True)
    (folder / "history.jsonl").write_text(History(list(records)).lines())
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Of images in classes, and of numbers; the first is best in its second epoch of three."""
    accuracies = (0.5, 0.75, 0.25)
    one = [record(epoch, test_accuracy=value, test_loss=0.1) for epoch, value in enumerate(accuracies, 1)]
    unknown = {"train_accuracy": math.nan, "test_accuracy": math.nan}
    other = [record(1, test_loss=0.25, **unknown), record(2, test_loss=0.5, **unknown)]
    return [written(tmp_path / "lenet", *one), written(tmp_path / "of numbers", *other)]


def test_a_line_for_each_run(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / "new" / "both.png"
    assert compare.main([str(runs[0]), str(runs[1] / "history.jsonl"), f"--output={output}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == "run epochs best epoch test acc test loss seconds to the best"
    assert lines[1].split() == ["lenet", "3", "2", "0.750", "0.100", "6.0", "4.0"]
    assert lines[2].split() == ["of", "numbers", "2", "1", "0.250", "4.0", "2.0"]
    assert len(lines[1]) == len(lines[2]) == len(lines[0])
    assert lines[3] == f"wrote {output}" and output.read_bytes().startswith(b"\x89PNG")


def test_each_run_has_a_colour(runs: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / "both.svg"
    assert compare.main([*map(str, runs), f"--output={output}"]) == 0
    text = output.read_text()
    assert "#1f77b4" in text and "#ff7f0e" in text and text.count("<svg") == 1


def test_runs_of_one_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [written(tmp_path / each / "lenet", record(1)) for each in "ab"]
    assert compare.names_of([*folders, tmp_path / "vgg"]) == [*(folder.as_posix() for folder in folders), "vgg"]


def test_without_matplotlib_there_is_a_table(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert compare.main([str(runs[0])]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err == 'error: pictures need matplotlib: pip install "numbacnn[plot]"\n'


def test_what_is_refused(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: Path | str) -> str:
        assert compare.main(list(map(str, arguments))) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1
        return err.strip()

    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(runs[0], empty) == f"error: {str(empty)!r} has no history.jsonl: it is no run of examples.train"
    assert refused(tmp_path / "gone") == f"error: {str(tmp_path / 'gone')!r} is not there"
    (empty / "history.jsonl").write_text("")
    assert refused(empty) == f"error: {str(empty / 'history.jsonl')!r} has no epochs yet"
    for text in ("no json", '{"epoch": 1}\n', "[1]"):
        (empty / "history.jsonl").write_text(text)
        assert "history.jsonl' is no history of a run: " in refused(empty)
    with pytest.raises(SystemExit):
        compare.main([str(runs[0]), "--output=both.gif"])
    assert "must end in .png, .svg, .pdf" in capsys.readouterr().err
    assert "matplotlib.pyplot" not in sys.modules
