"""Layers that know what they come down to: the same results, and the same errors, as if they did not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import backends, nn
from numbacnn.nn import forward_cache
from tests.counting import calls_of

pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is done again without the compiler"),
    pytest.mark.skipif(backends.available()["cpu"] is not None, reason="the cpu backend cannot be used"),
]

TIMES = 5

LAYERS: dict[str, tuple[Callable[[], nn.Layer], tuple[int, ...]]] = {
    "conv": (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 5)),
    "without bias": (lambda: nn.Conv2d(3, 4, 3, bias=False), (2, 3, 6, 5)),
    "depthwise": (lambda: nn.Conv2d(3, 3, 3, groups=3), (2, 3, 6, 5)),
    "linear": (lambda: nn.Linear(7, 5), (2, 7)),
    "norm": (lambda: nn.BatchNorm2d(3), (2, 3, 6, 5)),
    "norm of features": (lambda: nn.BatchNorm1d(3), (4, 3)),
    "norm of the batch": (lambda: nn.BatchNorm2d(3, affine=False, track_running_stats=False), (2, 3, 6, 5)),
    "norm of groups": (lambda: nn.GroupNorm(2, 4), (2, 4, 6, 5)),
    "norm of channels": (lambda: nn.InstanceNorm2d(3), (2, 3, 6, 5)),
    "response norm": (lambda: nn.LocalResponseNorm(3), (2, 3, 6, 5)),
    "relu": (nn.ReLU, (2, 3, 6, 5)),
    "sigmoid": (nn.Sigmoid, (2, 3, 6, 5)),
    "tanh": (nn.Tanh, (4, 3)),
    "max pool": (lambda: nn.MaxPool2d(2), (2, 3, 6, 5)),
    "average pool": (lambda: nn.AvgPool2d(3, 1, 1), (2, 3, 6, 5)),
    "mean": (nn.GlobalAvgPool2d, (2, 3, 6, 5)),
}  # fmt: skip


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def on_cpu(build: Callable[[], nn.Layer]) -> nn.Layer:
    with nc.use_backend("cpu"):
        return build().eval()


def by_definition(layer: nn.Layer, x: np.ndarray) -> np.ndarray:
    return np.asarray(copy.deepcopy(layer).to("reference").forward(x))


def knowing(layer: nn.Layer, *shape: int) -> nn.Layer:
    for seed in range(TIMES):
        layer.forward(normal(*shape, seed=seed))
    return layer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was not known, each time."""
    return calls_of(monkeypatch, forward_cache, "observed")


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_known_is_not_asked_again_and_is_right(name: str, asked: list[Any]) -> None:
    build, shape = LAYERS[name]
    layer = knowing(on_cpu(build), *shape)
    before = len(asked)
    for seed in range(TIMES):
        x = normal(*shape, seed=seed)
        results = [layer.forward(x) for _ in range(2)]
        np.testing.assert_allclose(results[0], by_definition(layer, x), rtol=1e-5, atol=1e-5)
        assert results[0].tobytes() == results[1].tobytes() == copy.deepcopy(layer).forward(x).tobytes()
        assert not np.shares_memory(*results)
    if name != "mean":
        assert len(asked) == before + 2 * TIMES, "copies, which know nothing yet, ask each time, and nobody else"


@pytest.mark.parametrize("name", LAYERS)
def test_another_kind_of_input_is_as_good_as_new(name: str) -> None:
    build, shape = LAYERS[name]
    layer = knowing(on_cpu(build), *shape)
    others = [normal(shape[0] + 3, *shape[1:]), np.asfortranarray(normal(*shape)), normal(*shape).astype(np.float64)]
    others.append(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    for x in [*others, normal(*shape).tolist()]:
        result = layer.forward(x)
        np.testing.assert_allclose(result, by_definition(layer, np.asarray(x)), rtol=1e-5, atol=1e-5)
    with nc.precision("strict"):
        np.testing.assert_allclose(layer.forward(normal(*shape)), by_definition(layer, normal(*shape)), atol=1e-5)


def test_a_setting_that_changes_counts() -> None:
    conv = knowing(on_cpu(lambda: nn.Conv2d(3, 4, 3)), 2, 3, 6, 5)
    x = normal(2, 3, 6, 5)
    conv.stride = 2
    assert conv.forward(x).shape == (2, 4, 2, 2)
    norm = knowing(on_cpu(lambda: nn.BatchNorm2d(3)), 2, 3, 6, 5)
    norm.eps = 3.0
    np.testing.assert_allclose(norm.forward(x), x / 2, rtol=1e-6)


def test_a_list_that_changes_within_counts() -> None:
    pool: Any = knowing(on_cpu(lambda: nn.MaxPool2d([2, 2], 1)), 2, 3, 6, 6)
    pool.kernel_size[0] = 3
    x = normal(2, 3, 6, 6)
    np.testing.assert_array_equal(pool.forward(x), by_definition(pool, x))


@pytest.mark.parametrize("change", ["value", "in place", "replaced", "state dict", "moved there and back"])
def test_weights_that_change_count(change: str) -> None:
    layer = knowing(on_cpu(lambda: nn.Linear(7, 5)), 2, 7)
    new = normal(5, 7, seed=9)
    if change == "value":
        layer.weight.value = new
    elif change == "in place":
        layer.weight.value[...] = new
    elif change == "replaced":
        layer.weight = nn.Parameter(new, "cpu")
    elif change == "state dict":
        layer.load_state_dict({**layer.state_dict(), "weight": new})
    else:
        layer.to("reference").weight.value = new
        assert type(layer.to("cpu").forward(normal(2, 7))) is np.ndarray
    x = normal(2, 7, seed=3)
    np.testing.assert_allclose(layer.forward(x), x @ new.T + layer.bias.value, rtol=1e-5, atol=1e-5)


def test_running_averages_that_training_changed_count() -> None:
    norm = knowing(on_cpu(lambda: nn.BatchNorm2d(3)), 4, 3, 6, 5)
    x = normal(4, 3, 6, 5)
    before = norm.forward(x)
    norm.train()
    norm.forward(x + 7)
    norm.eval()
    assert not np.allclose(norm.forward(x), before)
    np.testing.assert_allclose(norm.forward(x), by_definition(norm, x), rtol=1e-5, atol=1e-5)


def test_who_saves_is_not_answered_by_what_is_known() -> None:
    conv = knowing(on_cpu(lambda: nn.Conv2d(3, 4, 3)), 2, 3, 6, 5)
    x, dy = normal(2, 3, 6, 5), normal(2, 4, 4, 3)
    with nn.enable_grad():
        conv.forward(x)
    assert conv.backward(dy) is not None
    conv.forward(x)
    with pytest.raises(RuntimeError, match="evaluation mode"):
        conv.backward(dy)


def test_a_wrong_input_is_refused_as_before() -> None:
    conv = knowing(on_cpu(lambda: nn.Conv2d(3, 4, 3)), 2, 3, 6, 5)
    with pytest.raises(ValueError, match="takes 3"):
        conv.forward(normal(2, 4, 6, 5))
    with pytest.raises(TypeError, match="must be real"):
        conv.forward(normal(2, 3, 6, 5).astype(np.complex64))


def test_the_first_channels_of_more_are_another_pass() -> None:
    norm = on_cpu(lambda: nn.BatchNorm2d(3))
    x = normal(2, 5, 6, 4)
    for _ in range(TIMES):
        first = norm.forward_first(x)
    np.testing.assert_allclose(first, norm.forward(x[:, :3]), rtol=1e-6)
    with pytest.raises(ValueError, match="c = 3"):
        norm.forward_with(x, None)


def test_copies_know_nothing_of_the_original_s() -> None:
    layer = knowing(on_cpu(lambda: nn.Linear(7, 5)), 2, 7)
    x = normal(2, 7)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.copy(layer)):
        assert not vars(other)["_forward_cache"]
        np.testing.assert_array_equal(other.forward(x), layer.forward(x))
        assert dict(other.named_parameters()).keys() == {"weight", "bias"}
    twin = copy.deepcopy(layer)
    twin.weight.value = np.zeros((5, 7), np.float32)
    np.testing.assert_array_equal(twin.forward(x), np.broadcast_to(twin.bias.value, (2, 5)))


def test_what_is_known_does_not_grow_without_end() -> None:
    layer = on_cpu(nn.ReLU)
    for n in range(1, 2 * forward_cache.MAX_KINDS):
        knowing(layer, n, 3)
    assert 0 < len(vars(layer)["_forward_cache"]) <= forward_cache.MAX_KINDS
