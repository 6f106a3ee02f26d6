"""Layers beside PyTorch's: the list, its reasons, and what its rows hold."""

from __future__ import annotations

import numpy as np
import pytest

from bench import layer_rows, tables
from bench.command import WrongResultError
from bench.timing import interleave
from numbacnn import backends, nn
from tests.registry import ENTRIES

# What others are made of, what is measured as a part of a network, and what PyTorch has no layer for.
ELSEWHERE = {
    "Identity", "Concatenate", "Product", "Sum", "GlobalAvgPool2d", "Reshape", "ConstantPad2d", "InstanceNorm1d",
    "LPPool2d", "SyncBatchNorm", "ZeroPadChannels",
}  # fmt: skip


def layer_of(text: str) -> nn.Layer:
    return eval(text, {name: getattr(nn, name) for name in nn.__all__})


def test_every_layer_of_the_registry_is_measured():
    measured = {type(layer_of(text)).__name__ for text in layer_rows.LAYERS}
    assert set(ENTRIES) - measured <= ELSEWHERE


@pytest.mark.parametrize("text", layer_rows.LAYERS)
def test_a_layer_takes_its_inputs(text):
    layer = layer_of(text)
    assert layer.output_shape(*layer_rows.LAYERS[text])


def test_a_reason_is_that_of_a_layer():
    for starts in layer_rows.REASONS:
        for start in starts:
            assert any(text.startswith(start) for text in layer_rows.LAYERS), start
    assert not layer_rows.reason_of("Tanh()")


def test_a_layer_that_is_slower_for_no_known_reason_is_not_shown():
    row = {"kernel": "Tanh()", "pass": "forward", "ratio": 0.5}
    results = {"machine": {}, "measured": "2026", "commit": "0123456789", "rows": [], "layers": [row]}
    assert tables.faults({"kernels-cpu": results}) == [
        "kernels-cpu: Tanh() forward is at 0.50 of PyTorch's speed: give a reason or mend it"
    ]
    row["kernel"] = "Flatten()"
    assert not tables.faults({"kernels-cpu": results})


@pytest.mark.torch
def test_rows_beside_pytorch(monkeypatch):
    monkeypatch.setitem(layer_rows.LAYERS, "GroupNorm(2, 4)", ((2, 4, 5, 6),))
    rows = list(
        layer_rows.rows_of(["GroupNorm(2, 4)"], backends.get("cpu"), 1, lambda calls: interleave(calls, budget=0.01))
    )
    assert [row.pass_ for row in rows] == ["forward", "backward"]
    assert all(row.ratio == pytest.approx(row.peer_milliseconds / row.milliseconds) for row in rows)


@pytest.mark.torch
def test_results_that_differ_are_an_error(monkeypatch):
    monkeypatch.setitem(layer_rows.LAYERS, "ReLU()", ((2, 4, 5, 6),))
    # The other process has its own.
    monkeypatch.setattr(layer_rows, "inputs_of", lambda shapes: [np.ones(shape, np.float32) for shape in shapes])
    with pytest.raises(WrongResultError, match=r"ReLU\(\) forward: ours and PyTorch's differ by"):
        list(layer_rows.rows_of(["ReLU()"], backends.get("cpu"), 1, lambda calls: interleave(calls, budget=0.01)))
