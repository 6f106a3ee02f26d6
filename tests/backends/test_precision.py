"""The switch for algorithms that round more."""

from __future__ import annotations

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, ops, optim, training
from numbacnn.backends import autotune, cpu, precision

GEOMETRY = ops.conv2d_geometry((4, 64, 24, 24), (64, 64, 3, 3), padding=1)


def names():
    return set(ops.conv2d_choice(GEOMETRY, backend="cpu").values())


@pytest.fixture(autouse=True)
def _as_it_was():
    former = precision._mode
    yield
    precision._mode = former


def test_auto_takes_no_algorithm_that_rounds_more():
    with nc.precision("fast"):
        assert "winograd" in names()
        with nc.precision("strict") as mode:
            assert mode == "strict"
            assert "winograd" not in names()
            assert set(ops.conv2d_choice(GEOMETRY, "winograd", backend="cpu").values()) == {"winograd"}
        assert "winograd" in names()
    nc.precision("strict")
    assert "winograd" not in names()


def test_results_are_those_of_direct():
    x, weight = (
        np.random.default_rng(0).standard_normal(s, np.float32) for s in (GEOMETRY.x_shape, GEOMETRY.weight_shape)
    )
    direct = ops.conv2d(x, weight, padding=1, algorithm="direct", backend="cpu")
    with nc.precision("strict"):
        np.testing.assert_array_equal(ops.conv2d(x, weight, padding=1, backend="cpu"), direct)
    with nc.precision("fast"):
        assert (ops.conv2d(x, weight, padding=1, backend="cpu") != direct).any()


def test_what_tuning_found_is_not_taken_either(monkeypatch):
    monkeypatch.setattr(autotune, "choice", lambda backend, geometry, pass_: "winograd")
    with nc.precision("strict"):
        assert "winograd" not in names()


def test_environment(monkeypatch):
    precision._mode = None
    for value, has_winograd in ("strict", False), ("", True):
        precision._of_the_environment.cache_clear()
        monkeypatch.setenv("NUMBACNN_PRECISION", value)
        assert ("winograd" in names()) == has_winograd
    precision._of_the_environment.cache_clear()
    monkeypatch.setenv("NUMBACNN_PRECISION", "tf32,strict")
    assert precision.in_force() == ("strict", "tf32")
    precision._of_the_environment.cache_clear()
    monkeypatch.setenv("NUMBACNN_PRECISION", "exact")
    with pytest.raises(ValueError, match=r"`NUMBACNN_PRECISION` 'exact' must be one of 'fast', 'strict', 'float32'"):
        names()
    precision._of_the_environment.cache_clear()


def test_the_two_settings_are_independent():
    with nc.precision("strict"), nc.precision("tf32") as mode:
        assert mode == "tf32" and precision.in_force() == ("strict", "tf32")
        with nc.precision("fast"):
            assert precision.in_force() == ("fast", "tf32")
            nc.precision("bf16")
        assert precision.in_force() == ("strict", "tf32")
    assert precision.in_force() == ("fast", "float32")


@pytest.mark.parametrize("mode", ["tf32", "tf32x3", "bf16"])
def test_operands_are_a_matter_of_the_gpu_alone(mode, monkeypatch):
    x, weight = (np.random.default_rng(0).standard_normal(s, np.float32) for s in ((4, 17, 9, 9), (16, 17, 3, 3)))
    monkeypatch.setitem(autotune._table(cpu), autotune._key(cpu, GEOMETRY, "forward"), "loops")
    for backend in "cpu", "reference":
        full = (
            ops.conv2d(x, weight, backend=backend),
            ops.linear(x[0, 0], weight[0, 0, :, :1].repeat(9, 1), backend=backend),
        )
        with nc.precision(mode):
            np.testing.assert_array_equal(ops.conv2d(x, weight, backend=backend), full[0])
            same = ops.linear(x[0, 0], weight[0, 0, :, :1].repeat(9, 1), backend=backend)
            np.testing.assert_array_equal(same, full[1])
    with nc.precision(mode):  # what was measured on the cpu is still known
        assert ops.conv2d_choice(GEOMETRY, backend="cpu")["forward"] == "loops"


def test_unknown_mode():
    with pytest.raises(
        ValueError, match=r"`mode` 'exact' must be one of 'fast', 'strict', 'float32', 'tf32', 'tf32x3', 'bf16'"
    ):
        nc.precision("exact")


def test_sessions_follow():
    x = np.random.default_rng(1).standard_normal(GEOMETRY.x_shape, np.float32)
    with nc.use_backend("cpu"):
        model = nn.Conv2d(64, 64, 3, padding=1)
    session = nn.InferenceSession(model)
    for mode in ("fast", "strict", "fast"):
        with nc.precision(mode):
            np.testing.assert_array_equal(session(x), model(x))


def test_training_steps_follow():
    x = np.random.default_rng(1).standard_normal(GEOMETRY.x_shape, np.float32)
    y = np.array([1, 2, 3, 4])

    def parameters(mode):
        nc.manual_seed(0)
        with nc.use_backend("cpu"):
            layers = [nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1), nn.GlobalAvgPool2d()]
            model = nn.Sequential(*layers, nn.Flatten())
        step = training.TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        with nc.precision("fast"):
            step(x, y)
        with nc.precision(mode):
            step(x, y)
        return np.concatenate([cpu.to_numpy(parameter.value).ravel() for parameter in model.parameters()])

    assert (parameters("fast") != parameters("strict")).any()
