"""The command line prints what is in a file, and what it says of a picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.onnx.__main__ import main
from tests.onnx.graphs import node, written


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = nn.Graph(
        {
            "conv": (nn.Conv2d(3, 4, 3, padding=1), "x"),
            "sum": (nn.Sum(), "conv", "conv"),
            "pool": (nn.GlobalAvgPool2d(), "sum"),
            "flat": (nn.Flatten(), "pool"),
            "head": (nn.Linear(4, 7), "flat"),
        }
    )
    nc.onnx.save(model, tmp_path / "model.onnx", (1, 3, 8, 10))
    return tmp_path / "model.onnx"


def picture(path: Path) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    image.fromarray(pixels).save(path)
    return pixels


def test_the_graph_and_its_sizes(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(saved)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "IR version 8, written by numbacnn" in lines[0]
    assert lines[1].startswith("operators of ai.onnx 17: 1 Conv, 1 Add")
    assert lines[2:4] == ["input x (n, 3, 8, 10) float32", "output y (n, 7) float32"]
    assert lines[5] == "name layer inputs output shape parameters MFLOPs"
    assert lines[6].startswith("conv Conv2d(3, 4,") and lines[6].endswith("x (2, 4, 8, 10) 112 0.035")
    assert lines[7] == "sum Sum() conv, conv (2, 4, 8, 10) 0 0.000"
    assert lines[-1] == "147 parameters, 0.035 MFLOPs for inputs [(2, 3, 8, 10)]"


def test_a_picture_is_run(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = picture(tmp_path / "p.png")
    argv = [str(saved), "--run", str(tmp_path / "p.png"), "--mean", "0.5", "0.4", "0.3", "--std", "0.25"]
    assert main(argv) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-6:]]
    assert lines[0][:3] == ["output", "0", "(1,"]
    x = (pixels.transpose(2, 0, 1)[None] / 255 - np.reshape([0.5, 0.4, 0.3], (3, 1, 1))) / 0.25
    expected = nc.onnx.load(saved).predict(x.astype(np.float32))[0]
    order = np.argsort(-expected)[:5]
    assert [int(line[0]) for line in lines[1:]] == order.tolist()
    np.testing.assert_allclose([float(line[1]) for line in lines[1:]], expected[order], rtol=1e-4)


def test_what_cannot_be_used_is_one_line(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "p.png")
    run = [str(saved), "--run", str(tmp_path / "p.png")]
    for argv, said in (
        ([*run, "--std", "0"], "--std 0: must be 1 or 3 numbers, not 0"),
        ([*run, "--mean", "1", "2"], "--mean 1 2: must be 1 or 3 numbers"),
        ([str(saved), "--run", str(tmp_path / "none.png")], "there is no file"),
        ([str(tmp_path / "none.onnx")], "there is no file"),
    ):
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and said in err and err.count("\n") == 1


def test_what_is_not_supported_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "m.onnx", [node("Det", ["x"], "y", "d")], {"x": (2, 2)})
    assert main([str(path)]) == 1
    assert "- node 'd' (Det): this operator is not supported" in capsys.readouterr().out
    (tmp_path / "m.onnx").write_bytes(b"\x12\xff")
    assert main([str(path)]) == 1
    assert "is no ONNX model" in capsys.readouterr().out


def test_a_shape_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "m.onnx", [node("Relu", ["x"], "y")], {"x": None})
    assert main([str(path)]) == 1
    assert main([str(path), "--shape", "1,3,4,5"]) == 0
    assert "inputs [(2, 3, 4, 5)]" in capsys.readouterr().out


def test_it_runs_as_a_module(saved: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "numbacnn.onnx", str(saved)], capture_output=True, text=True)
    assert done.returncode == 0 and "147 parameters" in done.stdout and not done.stderr
