"""Convolutions of lines, and transposed ones: what the registry does not ask."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, ops
from numbacnn.backends import Backend, autotune

LAYERS = {
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, 2, ((1, 2),), groups=2), (2, 4, 9)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, groups=2), (2, 4, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), (2, 4, 3, 3)),
}
each = pytest.mark.parametrize("name", LAYERS)


def case(backend: Backend, name: str) -> tuple[Any, Any, Any]:
    nc.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make()
    rng = np.random.default_rng(0)
    x, dy = (backend.asarray(rng.standard_normal(s).astype(np.float32)) for s in (shape, layer.output_shape(shape)))
    return layer, x, dy


@each
def test_the_gradient_goes_where_the_optimizer_reads_it(backend: Backend, name: str) -> None:
    layer, x, dy = case(backend, name)
    layer(x)
    layer.backward(dy)
    expected = np.array(backend.to_numpy(layer.weight.grad))
    layer.weight.clear_grad()
    place = layer.weight.destination()
    layer.backward(dy)
    assert layer.weight.grad is place
    np.testing.assert_array_equal(backend.to_numpy(place), expected)
    layer.backward(dy)
    np.testing.assert_allclose(backend.to_numpy(layer.weight.grad), 2 * expected, rtol=1e-6)


@each
@pytest.mark.parametrize("bias", [True, False])
def test_a_sequential_computes_the_activation_along(backend: Backend, name: str, bias: bool) -> None:
    layer, x, dy = case(backend, name)
    if not bias:
        layer.bias = None
    model = nn.Sequential(layer, nn.Tanh())
    y = np.array(backend.to_numpy(model(x)))
    dx = np.array(backend.to_numpy(model.backward(dy)))
    plain = layer(x)
    tanh = nn.Tanh()
    np.testing.assert_allclose(backend.to_numpy(tanh(plain)), y, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(backend.to_numpy(layer.backward(tanh.backward(dy))), dx, rtol=1e-5, atol=1e-6)


@each
def test_every_algorithm_gives_the_same(backend: Backend, name: str) -> None:
    layer, x, dy = case(backend, name)
    y = np.array(backend.to_numpy(layer(x)))
    dx = np.array(backend.to_numpy(layer.backward(dy)))
    for algorithm in backend.conv2d_algorithms():
        layer.algorithm = algorithm
        assert set(layer.algorithms(x.shape).values()) == {algorithm}
        np.testing.assert_allclose(backend.to_numpy(layer(x)), y, atol=1e-5)
        np.testing.assert_allclose(backend.to_numpy(layer.backward(dy)), dx, atol=1e-5)


def test_the_choice_of_a_pass_is_that_of_the_convolution_s(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"forward": "im2col", "backward_input": "loops", "backward_weight": "im2col"}
    monkeypatch.setattr(autotune, "choice", lambda backend, geometry, pass_: found[pass_])
    with nc.use_backend("reference"):
        layer = nn.ConvTranspose2d(2, 3, 3, stride=2)
    assert layer.algorithms((1, 2, 4, 4)) == {**found, "forward": "loops", "backward_input": "im2col"}
    called = []
    for pass_ in ("conv2d", "conv2d_backward_input", "conv2d_backward_weight"):
        compute = getattr(layer.backend, pass_)
        monkeypatch.setattr(
            layer.backend, pass_,
            lambda *arguments, pass_=pass_, compute=compute: called.append((pass_, *arguments)) or compute(*arguments),
        )  # fmt: skip
    layer.backward(layer(np.ones((1, 2, 4, 4), np.float32)))
    assert [(pass_, next(a for a in arguments if isinstance(a, str))) for pass_, *arguments in called] == [
        ("conv2d_backward_input", "loops"),
        ("conv2d", "im2col"),
        ("conv2d_backward_weight", "im2col"),
    ]


def test_tuning_measures_the_convolution_of_a_transposed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # The package offers the function under the name of its module.
    tune_module = importlib.import_module("numbacnn.nn.tune")
    tuned = []
    monkeypatch.setattr(tune_module, "_tune", lambda backend, geometry, pass_, dtype: tuned.append((geometry, pass_)))
    with nc.use_backend("reference"):
        layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1)
        lines = nn.Sequential(nn.Conv1d(1, 2, 3))
    nc.tune(layer, (5, 2, 4, 4), passes=["forward"])
    nc.tune(lines, (5, 1, 9), passes=["forward"])
    assert [(geometry.descriptor, pass_) for geometry, pass_ in tuned] == [
        ("n5c3h8k2r3s2p1", "backward_input"),
        ("n5c1h1w9k2r1rw3s1p0", "forward"),
    ]


def test_sizes_and_work_of_a_transposed_convolution() -> None:
    layer = nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1, groups=2)
    assert layer.output_shape((4, 16, 7, 5)) == (4, 8, 14, 10)
    assert layer.flops((4, 16, 7, 5)) == 2 * 4 * 16 * 7 * 5 * 4 * 9
    assert repr(layer) == (
        "ConvTranspose2d(16, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1), groups=2)"
    )
    lines = nn.ConvTranspose1d(16, 8, 3, output_padding=1, dilation=2, bias=False, dtype=np.float64)
    assert lines.output_shape((4, 16, 7)) == (4, 8, 12)
    assert repr(lines) == (
        "ConvTranspose1d(16, 8, kernel_size=(3,), stride=(1,), output_padding=(1,), dilation=(2,), bias=False, "
        "dtype=float64)"
    )


def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x, y, weight = (rng.standard_normal(shape) for shape in ((2, 4, 9, 8), (2, 6, 4, 8), (6, 2, 3, 2)))
    options: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": 2}
    forth = backend.to_numpy(ops.conv2d(x, weight, **options))[:, :, :4, :]
    assert forth.shape == (2, 6, 4, 9)
    y = rng.standard_normal(forth.shape)
    back = backend.to_numpy(ops.conv_transpose2d(y, weight, output_padding=(1, 0), **options))
    assert back.shape == x.shape
    np.testing.assert_allclose(np.vdot(back, x), np.vdot(y, forth))


def test_rows_that_nothing_reaches_are_the_bias(backend: Backend) -> None:
    y = ops.conv_transpose2d(
        np.ones((1, 1, 2, 1)), np.ones((1, 1, 2, 1)), [5.0], output_padding=(2, 0), dilation=(3, 1)
    )
    np.testing.assert_array_equal(backend.to_numpy(y)[0, 0, :, 0], [6, 6, 5, 6, 6, 5, 5])
