"""The short examples print the numbers that they are about."""

from __future__ import annotations

import re

import numpy as np
import pytest

from examples import channels, cross_correlation, lenet_shapes, padding_and_stride, pooling
from numbacnn import backends


def rows(text: str) -> list[str]:
    """Lines without brackets and repeated spaces."""
    return [" ".join(re.sub(r"[\[\]]", " ", line).split()) for line in text.splitlines()]


def test_cross_correlation(backend: backends.Backend, capsys: pytest.CaptureFixture[str]) -> None:
    cross_correlation.main()
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
    padding_and_stride.main()
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
    channels.main()
    assert [line for line in rows(capsys.readouterr().out) if line] == [
        "two input channels: cross-correlate each with its kernel and add up",
        *("56. 72.", "104. 120."),
        "three output channels: kernels of shape (3, 2, 2, 2)",
        *("56. 72.", "104. 120.", "76. 100.", "148. 172.", "96. 128.", "192. 224."),
        "a 1x1 convolution is a matrix product over the channels: True",
    ]


def test_pooling(backend: backends.Backend, capsys: pytest.CaptureFixture[str]) -> None:
    pooling.main()
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
