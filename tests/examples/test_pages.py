"""The short examples print the numbers that they are about, and draw them if they are asked to."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from examples import channels, cross_correlation, figures, lenet_shapes, padding_and_stride, pooling
from numbacnn import backends


def rows(text: str) -> list[str]:
    """Lines without brackets and repeated spaces."""
    return [" ".join(re.sub(r"[\[\]]", " ", line).split()) for line in text.splitlines()]


def test_cross_correlation(backend: backends.Backend, capsys: pytest.CaptureFixture[str]) -> None:
    assert cross_correlation.main([]) == 0
    lines = rows(capsys.readouterr().out)
    assert lines[1:3] == ["19. 25.", "37. 43."]
    assert lines[4:10] == ["0. 1. 0. 0. 0. -1. 0."] * 6
    assert lines[11:19] == ["0. 0. 0. 0. 0."] * 8
    losses = [re.fullmatch(r"epoch (\d+), loss (\d+\.\d{3})", line) for line in lines[20:25]]
    assert [match and match[1] for match in losses] == ["2", "4", "6", "8", "10"]
    assert float(losses[-1][2]) < min(1, float(losses[0][2]))
    weight = [float(number) for number in lines[25].removeprefix("weight ").split()]
    np.testing.assert_allclose(weight, [1, -1], atol=0.1)
    assert len(lines) == 26


def test_padding_and_stride(backend: backends.Backend, capsys: pytest.CaptureFixture[str]) -> None:
    assert padding_and_stride.main([]) == 0
    sizes = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert sizes == {
        "kernel_size=3, padding=1": "8x8",
        "kernel_size=(5, 3), padding=(2, 1)": "8x8",
        "kernel_size=3, padding=1, stride=2": "4x4",
        "kernel_size=(3, 5), padding=(0, 1), stride=(3, 4)": "2x2",
        "kernel_size=4, padding='same'": "8x8",
        "kernel_size=4, padding='same_lower'": "8x8",
        "kernel_size=4, padding=((2, 1), (2, 1))": "8x8",
    }


def test_channels(backend: backends.Backend, capsys: pytest.CaptureFixture[str]) -> None:
    assert channels.main([]) == 0
    assert [line for line in rows(capsys.readouterr().out) if line] == [
        "two input channels: cross-correlate each with its kernel and add up",
        *("56. 72.", "104. 120."),
        "three output channels: kernels of shape (3, 2, 2, 2)",
        *("56. 72.", "104. 120.", "76. 100.", "148. 172.", "96. 128.", "192. 224."),
        "a 1x1 convolution is a matrix product over the channels: True",
    ]


def test_pooling(backend: backends.Backend, capsys: pytest.CaptureFixture[str]) -> None:
    assert pooling.main([]) == 0
    lines = [line for line in rows(capsys.readouterr().out) if re.match(r"\d", line)]
    assert lines == [
        *("4. 5.", "7. 8."),
        *("2. 3.", "5. 6."),
        "10.",
        *("5. 7.", "13. 15."),
        *("5. 7.", "13. 15."),
        *("5. 7.", "13. 15.", "6. 8.", "14. 16."),
        *("0. 0. 1. 0.", "0. 0. 1. 0."),
    ]


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is drawn, instead of a file."""
    pytest.importorskip("matplotlib")
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.update(figure=figure, path=path))
    return drawn


def numbers(axes: Any) -> np.ndarray:
    """What is written in the cells of a panel, row by row, which is also what they are coloured by."""
    h, w = axes.images[0].get_array().shape
    left, right, _, top = axes.images[0].get_extent()
    size = (right - left) / w
    written = np.full((h, w), np.nan)
    for text in axes.texts:
        x, y = text.get_position()
        written[int((y - top) / size), int((x - left) / size)] = float(text.get_text())
    np.testing.assert_allclose(written, axes.images[0].get_array(), atol=0.005)
    return written


def test_the_picture_of_the_edge_detector(figure: dict[str, Any], tmp_path: Path) -> None:
    assert cross_correlation.main([f"--output={tmp_path / 'new' / 'x.png'}"]) == 0
    assert figure["path"] == tmp_path / "new" / "x.png" and figure["path"].parent.is_dir()
    image, edges, learned, weights = figure["figure"].axes
    np.testing.assert_array_equal(numbers(image), [[1, 1, 0, 0, 0, 0, 1, 1]] * 6)
    np.testing.assert_array_equal(numbers(edges), [[0, 1, 0, 0, 0, -1, 0]] * 6)
    np.testing.assert_allclose(numbers(learned), numbers(edges), atol=0.1)
    left, true_left, right, true_right = (np.asarray(line.get_ydata()) for line in weights.lines)
    assert len(left) == len(right) == cross_correlation.EPOCHS + 1
    assert set(true_left) == {1} and set(true_right) == {-1}
    for curve, target in ((left, 1), (right, -1)):
        assert abs(curve[-1] - target) < 0.1 < abs(curve[0] - target)


def test_the_picture_of_channels(figure: dict[str, Any]) -> None:
    assert channels.main(["--output=x.png"]) == 0
    grid = np.reshape(figure["figure"].axes, (4, 5))
    assert [axes.axison for axes in grid[0]] == [False, False, True, True, False]
    totals = ([[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]])
    for line, total in zip(grid[1:], totals, strict=True):
        *_, first, second, last = map(numbers, line)
        np.testing.assert_array_equal(last, total)
        np.testing.assert_array_equal(first + second, last)


def test_the_picture_of_pooling(figure: dict[str, Any]) -> None:
    assert pooling.main(["--output=x.png"]) == 0
    upper, lower = np.reshape(figure["figure"].axes, (2, 4))
    for before, after in zip(upper[:2], lower[:2], strict=True):
        assert not np.array_equal(numbers(before), numbers(after))
    for line in (upper, lower):
        np.testing.assert_array_equal(numbers(line[2]), [[0, 0, 1, 0]] * 3)
        np.testing.assert_array_equal(numbers(line[3]), [[0, 0, 0.5, 0]] * 3)
        assert line[2].images[0].get_extent() == line[1].images[0].get_extent()


def test_the_picture_of_padding_and_stride(figure: dict[str, Any]) -> None:
    assert padding_and_stride.main(["--output=x.png"]) == 0
    *panels, legend = figure["figure"].axes
    assert len(panels) == len(padding_and_stride.CASES) and len(legend.get_legend().get_texts()) == 5
    assert [axes.get_xlabel() for axes in panels] == [f"{n}x{n} outputs" for n in (8, 8, 4, 2, 8, 8, 8)]
    axes = panels[3]  # windows of 3x5 in steps of 3x4, a column of padding on both sides
    assert [(*patch.get_xy(), patch.get_height(), patch.get_width()) for patch in axes.patches] == [
        (-1, 0, 3, 5),
        (3, 3, 3, 5),
    ]
    x, y = axes.lines[-1].get_data()
    assert sorted(zip(x.tolist(), y.tolist(), strict=True)) == [(1.5, 1.5), (1.5, 4.5), (5.5, 1.5), (5.5, 4.5)]
    cells = np.ma.filled(axes.collections[0].get_array(), np.nan).reshape(8, 10)
    np.testing.assert_array_equal(np.isnan(cells), np.broadcast_to([True, *[False] * 8, True], (8, 10)))


@pytest.mark.parametrize("example", [channels, cross_correlation, padding_and_stride, pooling])
def test_pictures_are_written_as_png(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert example.main([f"--output={tmp_path / 'x.png'}"]) == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.endswith(f"wrote {tmp_path / 'x.png'}\n")


def test_a_picture_without_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert channels.main([f"--output={tmp_path / 'x.png'}"]) == 2
    assert capsys.readouterr().err == 'error: pictures need matplotlib: pip install "numbacnn[plot]"\n'
    assert not list(tmp_path.iterdir())


def test_lenet_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    with backends.use_backend("reference"):
        lenet_shapes.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'lenet(pooling="avg"), 61706 parameters'
    assert lines[1] == "Conv2d output shape:\t(1, 6, 28, 28)"
    assert lines[6:8] == ["AvgPool2d output shape:\t(1, 16, 5, 5)", "Flatten output shape:\t(1, 400)"]
    assert lines[13] == 'lenet(pooling="max"), 44426 parameters'
    assert lines[20] == "Flatten output shape:\t(1, 256)"
    assert lines[25] == "Linear output shape:\t(1, 10)"
    assert len(lines) == 26
