"""The picture of the training curves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from numbacnn.training import PlotCurves
from tests.training.toy import record, run_with

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[3]


def size_and_colours(path: Path) -> tuple[tuple[int, ...], set[tuple[int, ...]]]:
    from matplotlib.image import imread

    pixels = (imread(path) * 255).round().astype(int)[:, :, :3]
    return pixels.shape[:2], set(map(tuple, pixels.reshape(-1, 3)))


@pytest.mark.parametrize("total", [1, 5])
def test_a_picture_after_every_epoch(tmp_path: Path, total: int) -> None:
    path = tmp_path / "curves.png"
    callback = PlotCurves(path)
    callback.on_epoch_end(run_with(1, total))
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    callback.on_epoch_end(run_with(2, total))
    assert path.read_bytes() != first
    assert [item.name for item in tmp_path.iterdir()] == ["curves.png"]


def test_the_three_curves_have_their_colours(tmp_path: Path) -> None:
    PlotCurves(tmp_path / "curves.png").on_epoch_end(run_with(4))
    size, colours = size_and_colours(tmp_path / "curves.png")
    assert size == (500, 700)
    assert {(31, 119, 180), (191, 0, 191), (0, 128, 0)} <= colours


def test_a_run_that_was_finished_before_gets_its_picture(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    PlotCurves(path).on_fit_end(run_with(0))
    assert not path.exists()
    callback = PlotCurves(path)
    callback.on_fit_end(run_with(2))
    assert path.exists()
    path.unlink()
    callback.on_fit_end(run_with(2))
    assert not path.exists()


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    """In a fresh process: matplotlib is imported for the first picture and no sooner, pyplot never."""
    program = (
        "import sys\n"
        "from tests.training.toy import run_with\n"
        "from numbacnn.training import PlotCurves\n"
        "callback = PlotCurves(sys.argv[1])\n"
        "assert 'matplotlib' not in sys.modules\n"
        "callback.on_epoch_end(run_with(3))\n"
        "assert 'matplotlib.figure' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "curves.png"], cwd=ROOT, check=True)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "numbacnn\[plot\]"'):
        PlotCurves(tmp_path / "curves.png")


def test_another_extension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`path` .*curves\.pdf' must end in \.png"):
        PlotCurves(tmp_path / "curves.pdf")


def test_a_run_that_ends_early_draws_nothing_more(tmp_path: Path) -> None:
    callback = PlotCurves(tmp_path / "curves.png")
    callback.on_epoch_begin(run_with(1))
    callback.on_fit_end(run_with(1))
    assert not list(tmp_path.iterdir())


def test_metrics_have_curves(tmp_path: Path) -> None:
    run, path = run_with(0), tmp_path / "curves.png"
    run.history.records += [record(e, metrics={"train_top5": 0.1 * e, "test_top5": 0.2 * e}) for e in range(1, 5)]
    PlotCurves(path).on_epoch_end(run)
    assert (214, 39, 40) in size_and_colours(path)[1]
