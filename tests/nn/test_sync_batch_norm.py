"""Batch normalisation that can be synchronised, where nothing is: tests/training/test_lockstep.py has the rest."""

from __future__ import annotations

import copy
import pickle

import numpy as np

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.backends import Backend
from numbacnn.io import load, save
from tests.training.toy import assert_same


class Own(nn.BatchNorm2d):
    """A subclass, which may compute anything."""


class Parts(nn.Layer):
    """A layer of one's own that keeps layers in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [nn.BatchNorm2d(3, affine=False), Own(3)]

    def forward(self, x):
        for part in self.parts:
            x = part.forward(x)
        return x

    def backward(self, dy, input_gradient=True):
        for part in reversed(self.parts):
            dy = part.backward(dy)
        return dy


def network() -> nn.Sequential:
    nc.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    twice = nn.Graph({"a": (norm, "x"), "b": (nn.Tanh(), "a"), "c": (norm, "b")})
    return nn.Sequential(
        nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3, momentum=0.3), nn.ReLU(), twice, Parts(),
        nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4, track_running_stats=False),
    )  # fmt: skip


def test_all_norms_of_a_model_are_made_synchronised_where_they_are(backend: Backend) -> None:
    model, twin = network(), network()
    x = np.random.default_rng(0).standard_normal((3, 2, 3, 3)).astype(np.float32)
    for each in (model, twin):
        each.eval()(x)  # which finds out what an evaluation comes down to
        each.train()
    layers = model.layers()
    optimizer = optim.SGD(model.parameters(), 0.1)
    assert nn.SyncBatchNorm.convert_sync_batchnorm(model) is model
    assert model.layers() == layers and optimizer.parameters == model.parameters()
    kinds = [type(layer) for layer in layers if hasattr(layer, "running_mean")]
    assert kinds == [nn.SyncBatchNorm, nn.SyncBatchNorm, nn.SyncBatchNorm, Own, nn.SyncBatchNorm]
    assert repr(model[1]) == "SyncBatchNorm(3, eps=1e-05, momentum=0.3)"
    assert model[3]["a"] is model[3]["c"]
    left = []
    for each in (model, twin):
        y = each(x)
        each.backward(y)
        values = {name: np.array(parameter.grad) for name, parameter in each.named_parameters()}
        left.append({**each.state_dict(), **{f"{name}.grad": value for name, value in values.items()}, "y": y})
        left[-1]["evaluated"] = each.predict(x)
    assert_same(*({name: np.array(backend.to_numpy(value)) for name, value in each.items()} for each in left))


def test_copies_and_files_have_it(tmp_path) -> None:
    with nc.use_backend("reference"):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3)))
        x = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
        model(x)
        expected = model.predict(x)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert type(other[1]) is nn.SyncBatchNorm
            np.testing.assert_array_equal(other.predict(x), expected)
        save(tmp_path / "weights.safetensors", model)
        plain = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3))
        load(tmp_path / "weights.safetensors", plain)
        np.testing.assert_array_equal(plain.predict(x), expected)
        nc.onnx.save(model, tmp_path / "model.onnx", (1, 2, 3, 3))
        np.testing.assert_allclose(nc.onnx.load(tmp_path / "model.onnx").predict(x), expected, rtol=1e-5, atol=1e-6)
        folded = nn.fold_batch_norm(model)
        assert len(folded) == 1
        np.testing.assert_allclose(folded.predict(x), expected, rtol=1e-5, atol=1e-6)
