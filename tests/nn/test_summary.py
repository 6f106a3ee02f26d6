"""The table of a model."""

from __future__ import annotations

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.backends import Backend


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5, algorithm="im2col"),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, 10),
    )


def test_lenet(backend: Backend) -> None:
    table = nc.summary(lenet(), (1, 1, 28, 28))
    assert table.parameters == 61706
    assert table.flops == 2 * (6 * 25 * 28 * 28 + 16 * 150 * 10 * 10 + 400 * 120 + 120 * 84 + 84 * 10)
    whole, *rows = table.rows
    assert (whole.layer, whole.depth, whole.output_shape, whole.parameters) == ("Sequential", 0, (1, 10), 61706)
    assert [row.output_shape for row in rows] == [
        (1, 6, 28, 28),
        (1, 6, 28, 28),
        (1, 6, 14, 14),
        (1, 16, 10, 10),
        (1, 16, 10, 10),
        (1, 16, 5, 5),
        (1, 400),
        (1, 120),
        (1, 120),
        (1, 84),
        (1, 84),
        (1, 10),
    ]
    assert [row.parameters for row in rows if row.parameters] == [156, 2416, 48120, 10164, 850]
    assert [row.receptive_field.size[0] for row in rows[:7]] == [5, 5, 6, 14, 14, 16, 28]
    assert [row.receptive_field.jump[0] for row in rows[:7]] == [1, 1, 2, 2, 2, 4, 0]
    assert table.memory == 4 * sum(int(np.prod(row.output_shape)) for row in rows)
    assert set(rows[3].algorithms.values()) == {"im2col"} and list(rows[3].algorithms) == [
        "forward",
        "backward_input",
        "backward_weight",
    ]
    assert set(rows[0].algorithms.values()) <= set(backend.conv2d_algorithms())


def test_the_printed_table(backend: Backend) -> None:
    lines = str(nc.summary(lenet(), (2, 1, 28, 28))).splitlines()
    assert repr(nc.summary(lenet(), (2, 1, 28, 28))).splitlines() == lines
    assert lines[0].split() == [
        "layer",
        "output",
        "shape",
        "parameters",
        "MFLOPs",
        "sees",
        "jump",
        "algorithm",
        "memory",
    ]
    assert lines[2].split() == ["Sequential", "(2,", "10)", "61,706", "1.666", "28x28"]
    assert lines[6].split()[:6] == ["(3)", "Conv2d", "(2,", "16,", "10,", "10)"]
    assert lines[6].split()[6:] == ["2,416", "0.960", "14x14", "2x2", "im2col", "12.5", "KiB"]
    assert lines[-1] == (
        "61,706 parameters, 1.666 MFLOPs forward, 117.2 KiB of activations for an input (2, 1, 28, 28)"
    )
    numbers = [line.index(word) + len(word) for line, word in ((lines[0], "parameters"), (lines[6], "2,416"))]
    assert numbers[0] == numbers[1]


def test_branches_and_nesting(backend: Backend) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, dtype=np.float64),
        nn.Concat(
            nn.Sequential(nn.Conv2d(2, 3, 1, dtype=np.float64), nn.Conv2d(3, 3, 5, padding=2, dtype=np.float64)),
            nn.MaxPool2d(3, stride=1, padding=1),
        ),
        nn.GlobalAvgPool2d(),
    )
    rows = nc.summary(model, (1, 1, 8, 8)).rows
    assert [(row.depth, row.name, row.layer) for row in rows] == [
        (0, "", "Sequential"),
        (1, "0", "Conv2d"),
        (1, "1", "Concat"),
        (2, "0", "Sequential"),
        (3, "0", "Conv2d"),
        (3, "1", "Conv2d"),
        (2, "1", "MaxPool2d"),
        (1, "2", "GlobalAvgPool2d"),
    ]
    assert [row.receptive_field.size for row in rows] == [
        (8, 8),
        (3, 3),
        (7, 7),
        (7, 7),
        (3, 3),
        (7, 7),
        (5, 5),
        (8, 8),
    ]
    assert rows[2].output_shape == (1, 5, 8, 8) and rows[2].memory == 0 and rows[6].memory == 8 * 2 * 64
    assert rows[2].parameters == 3 * 2 + 3 + 3 * 3 * 25 + 3
    assert rows[2].flops == rows[3].flops == rows[4].flops + rows[5].flops == 2 * 64 * (3 * 2 + 3 * 3 * 25)


def test_what_a_layer_of_one_s_own_sees_is_unknown(backend: Backend) -> None:
    class Enlarged(nn.Layer):
        def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
            return (*shape[:2], 2 * shape[2], 2 * shape[3])

    class Pixelwise(Enlarged):
        def window(self) -> None:
            return None

    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Add(Enlarged()), nn.MaxPool2d(2))
    table = nc.summary(model, (1, 1, 8, 8))
    assert [row.receptive_field and row.receptive_field.size for row in table.rows] == [None, (3, 3), None, None, None]
    shown = [line.split() for line in str(table).splitlines()]
    assert [line.count("?") for line in shown[2:7]] == [2, 0, 2, 2, 2]
    with pytest.raises(NotImplementedError, match=r"layer '1\.0', Enlarged\(\): Enlarged must define `window`"):
        nn.receptive_field(model, (1, 1, 8, 8))
    model[1] = Pixelwise()
    assert nn.receptive_field(model, (1, 1, 8, 8)).size == (4, 4)


def test_inputs_that_are_no_images(backend: Backend) -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.ReLU())
    table = nc.summary(model, (7, 5))
    assert table.parameters == 5 * 3 + 3 + 6 and [row.receptive_field for row in table.rows] == [None] * 4
    assert "sees" in str(table)
    for shape in (7, "ab", (1.5, 5), (-1, 5)):
        with pytest.raises((TypeError, ValueError), match="`input_shape`"):
            nc.summary(model, shape)


def test_the_model_is_neither_run_nor_changed(backend: Backend) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout())
    nc.summary(model, (64, 3, 10_000, 10_000))
    assert model[0].num_batches_tracked.value == 0 and model[1].calls == 0
