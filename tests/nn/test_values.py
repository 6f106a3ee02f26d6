"""What each layer computes, on numbers that can be checked by eye."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn import nn, optim
from numbacnn.backends import Backend
from tests.nn.stacks import stacks
from tests.strategies import SIMULATED

GRID = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
EDGES = np.ones((1, 1, 6, 8), np.float32)
EDGES[..., 2:6] = 0


def edge_detector() -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False)
    layer.weight.value = [[[[1, -1]]]]
    return layer


def test_convolution(backend: Backend) -> None:
    layer = nn.Conv2d(2, 3, kernel_size=2)
    kernel = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 4]]])
    layer.weight.value = np.stack([kernel, kernel + 1, kernel + 2])
    layer.bias.value = [0, 0, 1000]
    x = np.array([[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
    y = layer(x[None])
    assert y.dtype == np.float32
    expected = [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[1096, 1128], [1192, 1224]]]
    np.testing.assert_array_equal(y, [expected])
    dx = np.asarray(layer.backward(np.ones((1, 3, 2, 2))))
    np.testing.assert_array_equal(layer.bias.grad, [4, 4, 4])
    np.testing.assert_array_equal(np.asarray(layer.weight.grad)[2], [[[8, 12], [20, 24]], [[12, 16], [24, 28]]])
    np.testing.assert_array_equal(dx[0, 0], [[3, 9, 6], [12, 30, 18], [9, 21, 12]])


def test_edge_detector(backend: Backend) -> None:
    layer = edge_detector()
    np.testing.assert_array_equal(layer(EDGES), [[[[0, 1, 0, 0, 0, -1, 0]] * 6]])
    assert not np.asarray(layer(EDGES.transpose(0, 1, 3, 2))).any()


@pytest.mark.parametrize("seed", range(5))
def test_edge_detector_learned_from_data(backend: Backend, seed: int) -> None:
    target = edge_detector()(EDGES)
    nn.init.manual_seed(seed)
    layer = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False)
    loss, optimizer = nn.MSELoss("sum"), optim.SGD(layer.parameters(), lr=3e-2)
    for _ in range(10):
        value = loss.forward(layer(EDGES), target)
        layer.zero_grad()
        assert layer.backward(loss.backward(), input_gradient=False) is None
        optimizer.step()
    assert value < 1
    np.testing.assert_allclose(layer.weight.value, [[[[1, -1]]]], atol=0.15)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel_size": 3, "padding": 1}, (8, 8)),
        ({"kernel_size": (5, 3), "padding": (2, 1)}, (8, 8)),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, (4, 4)),
        ({"kernel_size": (3, 5), "padding": (0, 1), "stride": (3, 4)}, (2, 2)),
        ({"kernel_size": 4, "padding": "same"}, (8, 8)),
        ({"kernel_size": 4, "padding": "same_lower"}, (8, 8)),
        ({"kernel_size": 4, "padding": "valid"}, (5, 5)),
        ({"kernel_size": 2, "padding": ((1, 0), (2, 3))}, (8, 12)),
    ],
)
def test_convolution_sizes(backend: Backend, options: dict, size: tuple[int, int]) -> None:
    layer = nn.Conv2d(1, 1, **options)
    assert layer.output_shape((1, 1, 8, 8)) == (1, 1, *size)
    assert layer(np.ones((1, 1, 8, 8))).shape == (1, 1, *size)


def test_lopsided_same_padding(backend: Backend) -> None:
    x = np.array([[[[1, 2, 3]]]])
    after, before = (nn.Conv2d(1, 1, (1, 2), padding=padding, bias=False) for padding in ("same", "same_lower"))
    for layer in (after, before):
        layer.weight.value = [[[[10, 1]]]]
    np.testing.assert_array_equal(after(x), [[[[12, 23, 30]]]])
    np.testing.assert_array_equal(before(x), [[[[1, 12, 23]]]])


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: nn.MaxPool2d(3), [[10]]),
        (lambda: nn.MaxPool2d(3, padding=1, stride=2), [[5, 7], [13, 15]]),
        (lambda: nn.MaxPool2d((2, 3), stride=(2, 3), padding=(0, 1)), [[5, 7], [13, 15]]),
        (lambda: nn.MaxPool2d(2, dilation=2), [[10]]),
        (lambda: nn.MaxPool2d(2, stride=1, dilation=2), [[10, 11], [14, 15]]),
        (lambda: nn.MaxPool2d(3, ceil_mode=True), [[10, 11], [14, 15]]),
        (lambda: nn.AvgPool2d(2), [[2.5, 4.5], [10.5, 12.5]]),
        (lambda: nn.AvgPool2d(3, ceil_mode=True), [[5, 7], [13, 15]]),
        (lambda: nn.AvgPool2d(2, padding=1), [[0, 0.75, 0.75], [3, 7.5, 4.5], [3, 6.75, 3.75]]),
        (lambda: nn.AvgPool2d(2, padding=1, count_include_pad=False), [[0, 1.5, 3], [6, 7.5, 9], [12, 13.5, 15]]),
        (lambda: nn.GlobalAvgPool2d(), [[7.5]]),
    ],
)
def test_pooling(backend: Backend, layer, expected: list) -> None:
    np.testing.assert_array_equal(layer()(GRID), [[expected]])
    channels = np.asarray(layer()(np.concatenate([GRID, GRID[:, :, ::-1] + 100], axis=1)))
    np.testing.assert_array_equal(channels[0, 0], expected)


def test_pooling_gradients(backend: Backend) -> None:
    most, mean, whole = nn.MaxPool2d(2), nn.AvgPool2d(2), nn.GlobalAvgPool2d()
    for layer in (most, mean, whole):
        layer(GRID)
    dy = np.array([[[[4, 8], [12, 16]]]])
    np.testing.assert_array_equal(most.backward(dy), [[[[0] * 4, [0, 4, 0, 8], [0] * 4, [0, 12, 0, 16]]]])
    np.testing.assert_array_equal(mean.backward(dy), [[[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]]])
    np.testing.assert_array_equal(whole.backward([[[[32]]]]), np.full((1, 1, 4, 4), 2))


def test_pooling_tolerates_a_small_shift_of_an_edge(backend: Backend) -> None:
    model = nn.Sequential(edge_detector(), nn.MaxPool2d(2))
    for column in (3, 4):
        image = np.ones((1, 1, 6, 9), np.float32)
        image[..., column:] = 0
        np.testing.assert_array_equal(model(image), [[[[0, 1, 0, 0]] * 3]])


def test_linear(backend: Backend) -> None:
    layer = nn.Linear(3, 2)
    layer.weight.value, layer.bias.value = [[1, 2, 3], [0, 0, 1]], [10, 20]
    np.testing.assert_array_equal(layer([[1, 1, 1], [1, 0, 0]]), [[16, 21], [11, 20]])
    np.testing.assert_array_equal(layer.backward([[1, 0], [0, 2]]), [[1, 2, 3], [0, 0, 2]])
    np.testing.assert_array_equal(layer.weight.grad, [[1, 1, 1], [2, 0, 0]])
    np.testing.assert_array_equal(layer.bias.grad, [1, 2])
    bare = nn.Linear(3, 2, bias=False)
    bare.weight.value = layer.weight.value
    np.testing.assert_array_equal(bare([[1, 1, 1]]), [[6, 1]])
    assert bare.bias is None and len(bare.parameters()) == 1


def test_activations(backend: Backend) -> None:
    x = np.array([[-1.0, 0.0, 2.0]])
    dy = np.array([[10.0, 20.0, 30.0]])
    sigmoid, tanh = 1 / (1 + np.exp(-x)), np.tanh(x)
    for layer, y, dx in (
        (nn.ReLU(), [[0, 0, 2]], [[0, 0, 30]]),
        (nn.Sigmoid(), sigmoid, dy * sigmoid * (1 - sigmoid)),
        (nn.Tanh(), tanh, dy * (1 - tanh**2)),
        (nn.Identity(), x, dy),
    ):
        np.testing.assert_allclose(layer(x), y, rtol=1e-6)
        np.testing.assert_allclose(layer.backward(dy), dx, rtol=1e-6)
        assert layer.backward(dy, input_gradient=False) is None


def test_flatten_and_its_gradient(backend: Backend) -> None:
    layer = nn.Flatten()
    y = layer(GRID)
    np.testing.assert_array_equal(y, np.arange(16)[None])
    np.testing.assert_array_equal(layer.backward(y), GRID)


def test_results_are_the_callers_to_keep(backend: Backend) -> None:
    values = np.full((2, 1, 4, 4), 0.5, np.float32)
    x, dy = backend.asarray(values), backend.asarray(values)
    same = (nn.Identity(), nn.Sequential(), nn.Dropout().eval(), nn.Flatten(), nn.Add(nn.Identity()))
    for layer in same:
        with nn.enable_grad():
            y = layer(x)
            kept = np.array(y)
            layer(values + 1)
        np.testing.assert_array_equal(y, kept)
        dx = layer.backward(dy.reshape(y.shape))
        for result, source in ((y, x), (dx, dy)):
            backend.fill_zero(result)
            np.testing.assert_array_equal(source, values)


@given(stacks(), st.integers(0, 100))
@settings(max_examples=15 if SIMULATED else 30)
def test_output_shape_is_that_of_running(
    backend: Backend, drawn: tuple[nn.Sequential, tuple[int, ...]], n: int
) -> None:
    model, shape = drawn
    model.eval()
    for batch in (shape[0], n % 3):
        x = np.ones((batch, *shape[1:]))
        with nn.enable_grad():
            y = model(x)
        assert y.shape == model.output_shape(x.shape)
        assert model.backward(np.ones_like(y)).shape == x.shape


def test_an_empty_batch_goes_through_forward_and_backward(backend: Backend) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 3 * 3, 4)
    )
    y = model(np.zeros((0, 1, 8, 8)))
    assert y.shape == (0, 4) and model.backward(y).shape == (0, 1, 8, 8)
    assert not any(np.asarray(parameter.grad).any() for parameter in model.parameters())


@given(*[st.integers(1, 4)] * 4, st.booleans(), st.integers(4, 6), st.integers(4, 6))
@settings(max_examples=25)
def test_parameter_counts(
    backend: Backend, c_in: int, c_out: int, kh: int, kw: int, bias: bool, h: int, w: int
) -> None:
    layer = nn.Conv2d(c_in, c_out, (kh, kw), bias=bias)
    assert sum(p.size for p in layer.parameters()) == c_in * c_out * kh * kw + c_out * bias
    n, _, oh, ow = layer.output_shape((1, c_in, h, w))
    full = nn.Sequential(nn.Flatten(), nn.Linear(c_in * h * w, c_out * oh * ow, bias=False))
    assert sum(p.size for p in full.parameters()) == c_in * h * w * c_out * oh * ow
    assert full.output_shape((n, c_in, h, w)) == (n, c_out * oh * ow)


def test_float64_layers_take_and_give_float64(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, dtype=np.float64), nn.BatchNorm2d(2, dtype=np.float64), nn.Flatten())
    y = model(GRID)
    assert y.dtype == np.float64 and model.backward(np.asarray(y, np.float32)).dtype == np.float64
    assert {parameter.dtype for parameter in model.parameters()} == {np.dtype(np.float64)}
