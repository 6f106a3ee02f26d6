"""Batch normalisation folded away: same outputs, fewer layers, the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.backends import Backend
from tests.strategies import SIMULATED


def settle(model: nn.Layer, seed: int = 0) -> None:
    """Give norms weights and statistics, as training does."""
    rng = np.random.default_rng(seed)
    for layer in model.layers():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for state in (layer.weight, layer.running_var):
                state.value = rng.uniform(0.5, 2, state.shape)
            for state in (layer.bias, layer.running_mean):
                state.value = rng.standard_normal(state.shape)


def residual(dtype: Any = np.float32) -> nn.Sequential:
    def conv(*arguments: Any, **options: Any) -> nn.Conv2d:
        return nn.Conv2d(*arguments, **options, algorithm="loops" if SIMULATED else "auto", dtype=dtype)

    def norm(channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=1e-3, dtype=dtype)

    return nn.Sequential(
        {
            "conv1": conv(2, 4, 3, padding=1, bias=False),
            "bn1": norm(4),
            "relu": nn.ReLU(),
            "block": nn.Add(
                nn.Identity(),
                nn.Sequential(
                    {"conv2": conv(4, 4, 3, padding=1, groups=2), "bn2": norm(4), "twice": norm(4), "relu": nn.ReLU()}
                ),
            ),
            "dense": nn.Concat(
                nn.Identity(), nn.Sequential(norm(4), nn.ReLU(), conv(4, 2, 1, bias=False), norm(2), nn.Tanh())
            ),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(6 * 9, 5, dtype=dtype),
            "bn3": nn.BatchNorm1d(5, dtype=dtype),
        }
    )


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_outputs_stay_the_same(backend: Backend, dtype: Any, bound: float) -> None:
    nn.init.manual_seed(0)
    model = residual(dtype)
    settle(model)
    state, names = model.state_dict(), [name for name, _ in model.named_layers()]
    folded = nn.fold_batch_norm(model)
    x = np.random.default_rng(1).standard_normal((3, 2, 3, 3))
    assert all(layer.training for layer in model.layers()) and not any(layer.training for layer in folded.layers())
    expected = backend.to_numpy(model.predict(x))
    y = backend.to_numpy(folded(x))
    assert y.dtype == dtype and np.abs(y - expected).max() <= bound * np.abs(expected).max()

    gone = ["bn1", "block.1.bn2", "block.1.twice", "dense.1.3", "bn3"]
    assert [name for name, _ in folded.named_layers()] == [name for name in names if name not in gone]
    new = ["conv1.bias", "dense.1.2.bias"]
    kept = [key for key in state if key.rpartition(".")[0] not in gone]
    assert sorted(folded.state_dict()) == sorted([*kept, *new])
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[key])
    folded["conv1"].weight.value = np.zeros((4, 2, 3, 3))
    np.testing.assert_array_equal(model.state_dict()["conv1.weight"], state["conv1.weight"])
    assert folded["conv1"].bias.grad.shape == (4,) and folded["conv1"].bias.backend is backend


KINDS: dict[str, tuple[Callable[[Any], nn.Layer], type[nn.Layer], tuple[int, ...]]] = {
    "Conv1d": (lambda dtype: nn.Conv1d(4, 6, 3, padding=1, groups=2, dtype=dtype), nn.BatchNorm1d, (3, 4, 5)),
    "Conv2d reflecting": (
        lambda dtype: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", dtype=dtype), nn.BatchNorm2d, (2, 4, 3, 4)
    ),
    "ConvTranspose1d": (
        lambda dtype: nn.ConvTranspose1d(4, 6, 3, 2, groups=2, bias=False, dtype=dtype), nn.BatchNorm1d, (3, 4, 5)
    ),
    "ConvTranspose2d": (
        lambda dtype: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, dtype=dtype), nn.BatchNorm2d, (2, 4, 3, 3)
    ),
    "ConvTranspose2d in groups": (
        lambda dtype: nn.ConvTranspose2d(4, 6, 2, groups=2, dtype=dtype), nn.BatchNorm2d, (2, 4, 3, 3)
    ),
    "Linear": (lambda dtype: nn.Linear(4, 6, bias=False, dtype=dtype), nn.BatchNorm1d, (5, 4)),
}  # fmt: skip


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("in_graph", [True, False])
@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_layer(
    backend: Backend, kind: str, dtype: Any, bound: float, in_graph: bool, affine: bool
) -> None:
    nn.init.manual_seed(0)
    make, norm_kind, shape = KINDS[kind]
    layer, norm = make(dtype), norm_kind(6, affine=affine, dtype=dtype)
    rng = np.random.default_rng(0)
    for state, low in ((norm.weight, 0.5), (norm.bias, -1), (norm.running_mean, -1), (norm.running_var, 0.5)):
        if state is not None:
            state.value = rng.uniform(low, 2, state.shape)
    if in_graph:
        model: nn.Layer = nn.Graph({"layer": (layer, "x"), "norm": (norm, "layer"), "end": (nn.Tanh(), "norm")})
    else:
        model = nn.Sequential(layer, norm, nn.Tanh())
    x = rng.standard_normal(shape)
    expected, folded = backend.to_numpy(model.predict(x)), nn.fold_batch_norm(model)
    assert [type(child) for child in folded.children()] == [type(layer), nn.Tanh]
    y = backend.to_numpy(folded(x))
    assert y.dtype == dtype and np.abs(y - expected).max() <= bound


def test_numbers_that_can_be_checked_by_eye(backend: Backend) -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1, eps=1))
    model[0].weight.value, model[0].bias.value = [[1, 2]], [5]
    norm = model[1]
    norm.weight.value, norm.bias.value, norm.running_mean.value, norm.running_var.value = [6], [7], [2], [8]
    folded = nn.fold_batch_norm(model)
    assert len(folded) == 1
    np.testing.assert_array_equal(folded[0].weight.value, [[2, 4]])
    np.testing.assert_array_equal(folded[0].bias.value, [(5 - 2) * 2 + 7])


class Doubled(nn.Conv2d):
    """A convolution with a forward pass of its own."""

    def forward(self, x):
        return super().forward(np.asarray(x) * 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm2d(2),
        lambda: nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)),
        lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)),
        lambda: nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 1)), nn.BatchNorm2d(2)),
        lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, dtype=np.float64)),
        lambda: nn.Sequential(Doubled(2, 2, 1), nn.BatchNorm2d(2)),
        lambda: nn.Add(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)),
        lambda: nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm2d(2)),
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 1), nn.BatchNorm2d(2)),
    ],
)
def test_other_norms_stay(backend: Backend, make) -> None:
    model = make()
    settle(model)
    folded = nn.fold_batch_norm(model)
    assert folded is not model and repr(folded) == repr(model) and not folded.training
    assert not {id(layer) for layer in folded.layers()} & {id(layer) for layer in model.layers()}
    for (name, array), other in zip(model.state_dict().items(), folded.state_dict().values(), strict=True):
        np.testing.assert_array_equal(array, other, err_msg=name)


def test_layers_and_weights_in_two_places_keep_their_values(backend: Backend) -> None:
    class Heads(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(2, 2)
            self.first = nn.Sequential(self.stem, nn.BatchNorm1d(2))
            self.second = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
            self.second[0].weight = self.tied = nn.Parameter(np.eye(2, dtype=np.float32))

    model = Heads()
    settle(model)
    folded = nn.fold_batch_norm(model)
    assert [len(folded.first), len(folded.second)] == [2, 1]
    for name in ("stem.weight", "stem.bias", "tied"):
        np.testing.assert_array_equal(folded.state_dict()[name], model.state_dict()[name])


def test_a_constant_channel_without_eps_is_infinite_and_warns_of_nothing(backend: Backend) -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, eps=0))
    model[0].weight.value, model[1].running_var.value = [[1]], [0]
    assert np.isinf(backend.to_numpy(nn.fold_batch_norm(model)[0].weight.value)).all()


def test_summary_and_printing(backend: Backend) -> None:
    model = residual()
    folded = nn.fold_batch_norm(model)
    shape = (1, 2, 3, 3)
    before, after = nc.summary(model, shape), nc.summary(folded, shape)
    assert "BatchNorm2d" in str(before) and str(after).count("BatchNorm2d") == 1 and "BatchNorm1d" not in str(after)
    # Two numbers a channel of every norm that is gone, less the new biases.
    assert before.parameters - after.parameters == 2 * (4 + 4 + 4 + 2 + 5) - 4 - 2
    assert before.flops == after.flops and before.memory > after.memory
    rows = {row.name: row for row in after.rows}
    assert rows["dense"].output_shape == (1, 6, 3, 3) and rows["dense"].receptive_field.size == (5, 5)
    assert (
        repr(folded["dense"])
        == """\
Concat(
  (0): Identity()
  (1): Sequential(
    (0): BatchNorm2d(4, eps=0.001, momentum=0.1)
    (1): ReLU()
    (2): Conv2d(4, 2, kernel_size=(1, 1), stride=(1, 1)ALGORITHM)
    (4): Tanh()
  )
)""".replace("ALGORITHM", ", algorithm='loops'" if SIMULATED else "")
    )


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracks", [True, False])
def test_norms_without_parameters_or_averages(backend: Backend, affine: bool, tracks: bool) -> None:
    norm = nn.BatchNorm2d(3, affine=affine, track_running_stats=tracks, dtype=np.float64)
    model = nn.Sequential(nn.Conv2d(2, 3, 2, dtype=np.float64), norm)
    x = np.random.default_rng(0).normal(size=(4, 2, 5, 5))
    for _ in range(2):
        model(x)
    folded = nn.fold_batch_norm(model)
    assert len(folded) == (1 if tracks else 2)
    np.testing.assert_allclose(folded(x), model.eval()(x), rtol=1e-9, atol=1e-12)
