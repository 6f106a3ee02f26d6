"""Where the time goes, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import models, nn, ops


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Add(nn.Identity(), nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())), nn.Flatten(),
        nn.Linear(128, 10),
    )  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
def test_every_layer_has_its_time(backend, training):
    model = network()
    found = nc.profile(model, (2, 3, 8, 8), training=training, rounds=2)
    rows = {row.name: row for row in found.rows}
    assert [name for name in rows if name not in ("loss", "optimizer")] == [
        "0", "1", "2", "3", "4", "4.0", "4.1.0", "4.1.1", "5", "6",
    ]  # fmt: skip
    assert ("loss" in rows, "optimizer" in rows) == (training, training)
    assert rows["0"].layer == "Conv2d" and rows["0"].output_shape == (2, 8, 8, 8)
    assert all(rows[name].seconds[0] > 0 for name in ("0", "1", "3", "4", "4.1.0", "6"))
    # The layer before does the work of these.
    assert rows["2"].seconds[0] == rows["4.1.1"].seconds[0] == 0
    assert all((rows[name].seconds[1] > 0) == training for name in ("0", "1", "2", "3", "4.1.0", "4.1.1", "6"))
    assert 0 < sum(row.total for row in found.rows) <= found.seconds * (1 + 1e-9)
    conv = 2 * 2 * 8 * 8 * 8 * 27
    assert rows["0"].flops == conv * (2 if training else 1)  # the images need no gradient
    assert rows["6"].flops == 2 * 2 * 128 * 10 * (3 if training else 1)
    assert rows["0"].bytes >= 4 * (2 * 3 * 64 + 2 * 8 * 64 + 8 * 28)
    captures = backend.name == "cpu" and not config.DISABLE_JIT
    assert found.mode == ("captured" if captures else "plain")
    assert rows["0"].layout == ("nhwc" if backend.name == "cpu" else "nchw") and rows["6"].layout == ""
    table = str(found).splitlines()
    assert len(table) == len(found.rows) + 4 and "(4.1.0) Conv2d" in str(found)
    assert ("backward" in table[0]) == training


def test_the_model_stays_as_it_is(backend):
    model = network().train()
    before = {name: np.array(backend.to_numpy(value)) for name, value in model.state_dict().items()}
    nc.profile(model, (2, 3, 8, 8), training=True, rounds=1)
    assert model.training
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(backend.to_numpy(value), before[name])
    assert not any("wrapped" in repr(getattr(kind, "forward", "")) for kind in (nn.Conv2d, nn.ReLU))


def test_a_shortcut_lies_as_what_it_is_added_to(backend):
    body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Add(body, nn.Identity()), nn.Conv2d(4, 2, 1))
    rows = {row.name: row for row in nc.profile(model, (2, 3, 8, 8), rounds=1).rows}
    assert {rows[name].layout for name in ("0", "1", "1.0.0", "2")} == {"nhwc" if backend.name == "cpu" else "nchw"}


def test_shares_of_the_roof(backend):
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    found = nc.profile(model, (1, 1, 8, 8), rounds=1, peak_gflops=1e-3, bandwidth_gbytes=1e9)
    (row,) = found.rows
    assert found.share_of_roof(row) == pytest.approx(2 * 36 * 18 / 1e6 / row.total)
    assert str(found).splitlines()[0].endswith("of roof")
    assert nc.profile(model, (1, 1, 8, 8), rounds=1).share_of_roof(row) is None
    slow = nc.profile(model, (1, 1, 8, 8), rounds=1, peak_gflops=1e9, bandwidth_gbytes=1e-3)
    cached = nc.profile(model, (1, 1, 8, 8), rounds=1, peak_gflops=1e9, bandwidth_gbytes=1e-3, cache_bytes=1 << 20)
    assert slow.share_of_roof(slow.rows[0]) > 1e3 * cached.share_of_roof(cached.rows[0])


def test_dense_blocks_and_models(backend):
    if backend.name == "cuda":
        pytest.skip("takes long in the simulator")
    found = nc.profile(models.densenet(), (1, 1, 32, 32), rounds=1)
    convolutions = [row for row in found.rows if row.layer == "Conv2d"]
    assert all(row.total > 0 for row in convolutions)


class Own(nn.Layer):
    """A layer of one's own."""

    def output_shape(self, shape):
        return shape

    def forward(self, x):
        return ops.relu(x, backend=self.backend)


def test_layers_of_one_s_own(backend):
    found = nc.profile(nn.Sequential(Own(), nn.Flatten()), (2, 1, 4, 4), rounds=1)
    assert found.rows[0].layer == "Own" and found.rows[0].total > 0


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"model": "lenet"}, TypeError, "`model` 'lenet' must be a Layer"),
        ({"rounds": 0}, ValueError, "`rounds` 0"),
        ({"peak_gflops": 1.0}, ValueError, "`bandwidth_gbytes` None go together"),
        ({"input_shape": (1, 2, 8, 8)}, ValueError, "1"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        nc.profile(**{"model": nn.Conv2d(1, 1, 3), "input_shape": (1, 1, 8, 8), **arguments})
