"""Units: how a number comes about adds up to what the layer gives, for layers of every kind, and what it sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn import backends, nn
from numbacnn.backends import Backend
from numbacnn.backends.geometry import Conv2dGeometry, Pool2dGeometry
from numbacnn.explain import Largest, Mean, Unit, WeightedSum, unit
from numbacnn.explain.units import Unit as UnitClass
from tests.models.variants import build
from tests.strategies import CHECKS, conv2d_geometries, dtypes, pool2d_geometries, seeds

MOST_POSITIONS = 12
"""That are looked at in one output."""


def units(model: nn.Layer, x: Any, name: str = "0") -> list[Unit]:
    """Some of the output's, each adding up to its value."""
    y = np.asarray(model.backend.to_numpy(nn.outputs(model, x, [name])[name]))[0]
    places = np.random.default_rng(0).permutation(y.size)[:MOST_POSITIONS]
    found = []
    for place in places:
        position = tuple(int(i) for i in np.unravel_index(place, y.shape))
        one = unit(model, x, name, position)
        assert one.value == y[position] and one.sum is not None
        scale = max(1.0, *[abs(term.value) for term in one.sum.terms if np.isfinite(term.value)] or [1.0])
        np.testing.assert_allclose(one.sum.total, one.value, rtol=1e-4, atol=1e-5 * scale * len(one.sum.terms) ** 0.5)
        found.append(one)
    return found


def randomized(model: nn.Layer, seed: int = 0) -> nn.Layer:
    """With numbers in all parameters and buffers that say what is what."""
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        parameter.value = rng.standard_normal(parameter.shape)
    for name, buffer in model.named_buffers():
        if buffer.shape:
            buffer.value = rng.uniform(0.5, 2, buffer.shape) if name.endswith("var") else rng.normal(size=buffer.shape)
    return model


def padding_of(g: Conv2dGeometry | Pool2dGeometry) -> Any:
    return (g.pt, g.pb), (g.pl, g.pr)


@CHECKS
@given(g=conv2d_geometries(), mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]), dtype=dtypes,
       bias=st.booleans(), seed=seeds)  # fmt: skip
def test_convolution(backend: Backend, g: Conv2dGeometry, mode: str, dtype: Any, bias: bool, seed: int) -> None:
    layer = nn.Conv2d(
        g.c, g.k, (g.kh, g.kw), (g.sh, g.sw), padding_of(g), (g.dh, g.dw), g.groups, bias, mode, dtype=dtype
    )
    try:
        layer.output_shape((1, g.c, g.h, g.w))
    except ValueError:
        assume(False)
    x = np.random.default_rng(seed).standard_normal((1, g.c, g.h, g.w))
    for one in units(nn.Sequential(randomized(layer, seed), nn.ReLU()), x):
        assert isinstance(one.sum, WeightedSum)
        assert one.sum.inputs.shape == one.sum.weights.shape == one.sum.inside.shape == (g.c // g.groups, g.kh, g.kw)
        assert (one.sum.bias is not None) is bias
        assert mode != "zeros" or not one.sum.inputs[~one.sum.inside].any()
        assert np.isin(one.sum.inputs[one.sum.inside], x).all()
        if mode == "zeros" and (g.dh, g.dw) == (1, 1):
            assert one.patch is not None
            assert one.sum.inside[0].sum() == one.patch[0].size


@pytest.mark.parametrize("padding", ["valid", "same", "same_lower"])
def test_padding_in_words(backend: Backend, padding: str) -> None:
    layer = nn.Conv2d(2, 3, (4, 3), padding=padding, dilation=(1, 2))
    found = units(nn.Sequential(layer), np.random.default_rng(0).standard_normal((1, 2, 6, 6)))
    assert any(not one.sum.inside.all() for one in found if one.sum) is (padding != "valid")


@st.composite
def transposed(draw: st.DrawFn) -> tuple[nn.ConvTranspose2d, tuple[int, ...]]:
    groups = draw(st.integers(1, 2))
    kernel, stride, dilation = (draw(st.tuples(*[st.integers(1, most)] * 2)) for most in (3, 3, 2))
    more = tuple(draw(st.integers(0, max(axis) - 1)) for axis in zip(stride, dilation, strict=True))
    sides = draw(st.tuples(*[st.tuples(*[st.integers(0, 2)] * 2)] * 2))
    c, k = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    layer = nn.ConvTranspose2d(c, k, kernel, stride, sides, more, groups, draw(st.booleans()), dilation)
    return layer, (1, c, draw(st.integers(1, 4)), draw(st.integers(1, 4)))


@CHECKS
@given(data=st.data(), seed=seeds)
def test_transposed_convolution(backend: Backend, data: st.DataObject, seed: int) -> None:
    layer, shape = data.draw(transposed())
    try:
        layer.output_shape(shape)
    except ValueError:
        assume(False)
    x = np.random.default_rng(seed).standard_normal(shape)
    for one in units(nn.Sequential(randomized(layer, seed)), x):
        assert isinstance(one.sum, WeightedSum) and np.isin(one.sum.inputs[one.sum.inside], x).all()
        assert one.sum.weights.shape == (shape[1] // layer.groups, *layer.kernel_size)


@CHECKS
@given(g=pool2d_geometries(max_dilation=2), seed=seeds)
def test_max_pooling(backend: Backend, g: Pool2dGeometry, seed: int) -> None:
    layer = nn.MaxPool2d((g.kh, g.kw), (g.sh, g.sw), padding_of(g), (g.dh, g.dw), g.ceil_mode)
    x = np.random.default_rng(seed).standard_normal((1, g.c, g.h, g.w))
    for one in units(nn.Sequential(layer), x):
        assert isinstance(one.sum, Largest) and one.sum.inputs.shape == (g.kh, g.kw)
        assert (one.sum.chosen is None) is not one.sum.inside.any()
        assert one.sum.chosen is None or one.sum.inputs[one.sum.chosen] == one.sum.total


@CHECKS
@given(g=pool2d_geometries(), include=st.booleans(), divisor=st.sampled_from([None, None, 3]), seed=seeds)
def test_average_pooling(backend: Backend, g: Pool2dGeometry, include: bool, divisor: int | None, seed: int) -> None:
    layer = nn.AvgPool2d((g.kh, g.kw), (g.sh, g.sw), padding_of(g), g.ceil_mode, include, divisor)
    x = np.random.default_rng(seed).standard_normal((1, g.c, g.h, g.w))
    for one in units(nn.Sequential(layer), x):
        assert isinstance(one.sum, Mean) and one.sum.inputs.shape == (g.kh, g.kw)
        assert one.sum.divisor == (divisor or max(one.sum.counts.sum(), 1))


IMAGE, LINE, ROW = (1, 4, 5, 6), (1, 4, 9), (1, 8)
OTHERS: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: nn.Linear(8, 3), ROW),
    (lambda: nn.Linear(6, 3, bias=False), IMAGE),
    (lambda: nn.Conv1d(4, 6, 3, 2, padding="valid", dilation=2, groups=2), LINE),
    (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="reflect"), LINE),
    (lambda: nn.ConvTranspose1d(4, 6, 3, 2, padding=1, output_padding=1, groups=2), LINE),
    (lambda: nn.MaxPool1d(3, 2, padding=1), LINE),
    (lambda: nn.AvgPool1d(3, 2, padding=1, ceil_mode=True), LINE),
    (lambda: nn.GlobalAvgPool2d(), IMAGE),
    (lambda: nn.AdaptiveAvgPool2d((3, 4)), IMAGE),
    (lambda: nn.AdaptiveAvgPool2d((7, None)), IMAGE),
    (lambda: nn.AdaptiveMaxPool2d((3, 4)), IMAGE),
    (lambda: nn.BatchNorm2d(4), IMAGE),
    (lambda: nn.BatchNorm2d(4, affine=False), IMAGE),
    (lambda: nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    (lambda: nn.BatchNorm1d(8), ROW),
    (lambda: nn.BatchNorm1d(4), LINE),
    (lambda: nn.GroupNorm(2, 4), IMAGE),
    (lambda: nn.GroupNorm(2, 8, affine=False), ROW),
    (lambda: nn.InstanceNorm2d(4), IMAGE),
    (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    (lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True), LINE),
    (lambda: nn.LayerNorm((5, 6)), IMAGE),
    (lambda: nn.LayerNorm(IMAGE), IMAGE),
    (lambda: nn.LayerNorm(8, bias=False), ROW),
    *((kind, IMAGE) for kind in (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish)),
    *((kind, ROW) for kind in (nn.Softplus, nn.Softsign, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.ReLU6)),
    (lambda: nn.GELU("tanh"), ROW),
    (lambda: nn.LeakyReLU(0.2), IMAGE),
    (lambda: nn.PReLU(4), IMAGE),
    (lambda: nn.PReLU(), ROW),
    (lambda: nn.Add(nn.Identity(), nn.Conv2d(4, 4, 1)), IMAGE),
    (lambda: nn.Concat(nn.Identity(), nn.Conv2d(4, 3, 1), nn.ReLU()), IMAGE),
    (lambda: nn.DenseBlock(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)), nn.Conv2d(6, 2, 1)), IMAGE),
    (lambda: nn.DenseBlock(), IMAGE),
    (lambda: nn.Identity(), IMAGE),
    (lambda: nn.Flatten(), IMAGE),
    (lambda: nn.Reshape(3, -1), IMAGE),
    (lambda: nn.Unflatten(1, (2, 2, 2)), ROW),
    (lambda: nn.ZeroPad2d((1, 2, -1, 3)), IMAGE),
    (lambda: nn.ConstantPad2d(2, 7.0), IMAGE),
    (lambda: nn.ReflectionPad2d(2), IMAGE),
    (lambda: nn.ReplicationPad2d((2, 0, 1, 3)), IMAGE),
    (lambda: nn.CircularPad2d(2), IMAGE),
    (lambda: nn.ZeroPadChannels((2, -1)), IMAGE),
    (lambda: nn.ChannelShuffle(2), IMAGE),
    (lambda: nn.PixelShuffle(2), IMAGE),
    (lambda: nn.PixelUnshuffle(2), (1, 3, 4, 6)),
    (lambda: nn.Upsample((8, 7)), IMAGE),
    (lambda: nn.Upsample(scale_factor=(2, 1.5), mode="bilinear"), IMAGE),
    (lambda: nn.Upsample(3, mode="bilinear", align_corners=True), IMAGE),
    (lambda: nn.Dropout(), ROW),
    (lambda: nn.Dropout2d(), IMAGE),
    (lambda: nn.Sequential(nn.ReLU(), nn.Linear(8, 3)), ROW),
    (lambda: nn.Graph({"out": (nn.Linear(8, 3), "act"), "act": (nn.ReLU(), "x")}, outputs="out"), ROW),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape"), OTHERS)
def test_other_layers(backend: Backend, make: Any, shape: tuple[int, ...]) -> None:
    nn.init.manual_seed(0)
    units(nn.Sequential(randomized(make())), np.random.default_rng(1).standard_normal(shape))


def test_where_numbers_come_from(backend: Backend) -> None:
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    model = nn.Sequential(nn.ConstantPad2d(1, 5.0), nn.PixelUnshuffle(1), nn.Flatten())
    texts = [
        unit(model, x, name, position).sum.text()  # type: ignore[union-attr]
        for name, position in [("0", (1, 2, 3)), ("0", (1, 4, 5)), ("1", (1, 2, 3)), ("2", (45,))]
    ]
    assert texts == ["input at (1, 1, 2) = 18", "padding = 5", "input at (1, 2, 3) = 18", "input at (1, 2, 3) = 18"]


def test_layers_of_several_inputs(backend: Backend) -> None:
    nn.init.manual_seed(0)
    model = nn.Graph(
        {
            "gate": (nn.Sequential(nn.GlobalAvgPool2d(), nn.Conv2d(4, 4, 1)), "x"),
            "product": (nn.Product(), "x", "gate", "x"),
            "sum": (nn.Sum(), "product", "x"),
            "concatenate": (nn.Concatenate(), "product", "sum", "x"),
        }
    )
    x = np.random.default_rng(1).standard_normal(IMAGE)
    for name in ("product", "sum", "concatenate"):
        units(model, x, name)
    position = (5, 2, 3)
    assert unit(model, x, "concatenate", position).sum.text().startswith("input 1 at (1, 2, 3) = ")  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["resnet18", "densenet", "squeezenet", "cifar_resnet20", "unet_bilinear"])
def test_every_layer_of_a_network(name: str) -> None:
    with backends.use_backend("reference"):
        model, x = build(name)
        randomized(model)
        names = list(dict(model.named_layers()))
        outputs = nn.outputs(model, x[:1], names)
        for layer, y in outputs.items():
            position = tuple(size // 2 for size in y.shape[1:])
            one = unit(model, x[:1], layer, position)
            assert one.field is not None and one.sum is not None
            np.testing.assert_allclose(one.sum.total, y[(0, *position)], rtol=1e-9)


def test_what_is_seen(backend: Backend) -> None:
    """A pixel outside of the field changes nothing."""
    nn.init.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(2, 2, 2, stride=2)
    )
    x = np.random.default_rng(0).standard_normal((1, 1, 14, 17)).astype(np.float32)
    for position in [(0, 0, 0), (1, 3, 4), (0, 5, 7)]:
        one = unit(model, x, "3", position)
        assert one.kind == "ConvTranspose2d" and one.field is not None and one.patch is not None
        (top, bottom), (left, right) = one.field
        assert 0 <= top <= bottom < 14 and 0 <= left <= right < 17
        np.testing.assert_array_equal(one.patch, x[0, :, top : bottom + 1, left : right + 1])
        other = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
        other[0, :, top : bottom + 1, left : right + 1] = one.patch
        assert unit(model, other, "3", position).value == one.value
    assert unit(model, x, "0", (0, 0, 0)).field == ((0, 1), (0, 1))


def test_a_number_that_sees_nothing() -> None:
    """Of the pixels that a transposed convolution spreads, and of one of padding alone."""
    with backends.use_backend("reference"):
        model = nn.Sequential(nn.ConvTranspose2d(1, 1, 1, stride=3))
        one = unit(model, np.ones((1, 1, 2, 2)), "0", (0, 1, 3))
        assert one.field == ((1, 0), (1, 1)) and one.patch is not None and one.patch.shape == (1, 0, 1)
        assert isinstance(one.sum, WeightedSum) and not one.sum.inside.any()
        assert one.value == one.sum.bias
        model = nn.Sequential(nn.Conv2d(1, 1, 1, padding=3))
        for place, field in (((0, 0, 0), ((0, -1), (0, -1))), ((0, 7, 7), ((2, 1), (2, 1)))):
            one = unit(model, np.ones((1, 1, 2, 2)), "0", place)
            assert one.field == field and one.patch is not None and one.patch.size == 0


class Own(nn.Layer):
    """Says nothing of what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.unused = nn.ReLU(), nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.relu(self.relu(x) - 1)


class Doubled(nn.ReLU):
    """Computes otherwise than the class that it is made of."""

    def forward(self, x: Any) -> Any:
        return 2 * super().forward(x)


def test_what_is_not_known() -> None:
    with backends.use_backend("reference"):
        x = np.full(IMAGE, 3.0)
        one = unit(nn.Sequential(Own()), x, "0", (0, 0, 0))
        assert (one.value, one.kind, one.field, one.patch, one.sum) == (2, "Own", None, None, None)
        inner = unit(nn.Sequential(Own()), x, "0.relu", (0, 0, 0))
        assert inner.field is None and inner.sum is not None and inner.sum.text() == "ReLU(2) = 2"
        doubled = unit(nn.Sequential(Doubled()), x, "0", (0, 0, 0))
        assert doubled.value == 6 and doubled.sum is None and doubled.field == ((0, 0), (0, 0))
        assert unit(nn.Sequential(nn.ReLU()), np.ones(LINE), "0", (0, 0)).field is None
        assert unit(nn.Sequential(nn.Linear(8, 2)), np.ones(ROW), "0", (1,)).patch is None
        assert unit(nn.Sequential(nn.Softmax(1)), np.ones(ROW), "0", (1,)).sum is None
        assert unit(nn.Sequential(), np.ones(ROW), "", (1,)).value == 1


def test_models_of_several_inputs() -> None:
    with backends.use_backend("reference"):
        model = nn.Graph({"sum": (nn.Sum(), "a", "b")}, inputs=["a", "b"])
        one = unit(model, (np.ones(ROW), np.full(ROW, 2)), "sum", (1,))
        assert one.value == 3 and one.field is None and one.sum is not None and one.sum.text() == "1 + 2 = 3"


def test_pixels_in_bytes_are_scaled(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 2))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 1, 4, 4), np.uint8)
    (one, *_) = units(model, pixels)
    assert one.patch is not None and one.patch.max() <= 1


def test_the_model_is_as_before(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout()).train()
    model[1].eval()
    x = np.random.default_rng(0).standard_normal((2, *IMAGE[1:])).astype(np.float32)
    dy = np.random.default_rng(1).standard_normal(model(x).shape).astype(np.float32)
    expected = backend.to_numpy(model.backward(dy)).copy()
    modes, state, random = [layer.training for layer in model.layers()], model.state_dict(), model.random_state()
    unit(model, x[:1], "3", (0, 0, 0))
    assert [layer.training for layer in model.layers()] == modes and model.random_state() == random
    assert not any("forward" in vars(layer) for layer in model.layers())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    np.testing.assert_array_equal(backend.to_numpy(model.backward(dy)), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": np.ones((2, 4, 5, 6))}, ValueError, r"`x` \(2, 4, 5, 6\) must be one sample"),
        ({"layer": "1"}, ValueError, "`layer` '1' must be a layer of the model, which has 0, 0.relu, 0.unused"),
        ({"layer": "0.unused"}, ValueError, "`layer` '0.unused', a ReLU, is not run by the model's forward pass"),
        ({"position": (4, 0, 0)}, ValueError, r"`position\[0\]` 4 must be"),
        ({"position": (0, 0, -1)}, ValueError, r"`position\[2\]` -1 must be"),
        ({"position": (0, 0)}, ValueError, r"`position` \(0, 0\) must have 3 numbers, .* '0' gives \(4, 5, 6\)"),
        ({"position": (0, 0, 0.5)}, TypeError, r"`position\[2\]` 0.5 must be"),
        ({"position": 3}, TypeError, "`position` 3 must be a tuple of ints"),
    ],
)
def test_what_cannot_be_asked(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with backends.use_backend("reference"), pytest.raises(error, match=words):
        unit(nn.Sequential(Own()), **{"x": np.ones(IMAGE), "layer": "0", "position": (0, 0, 0), **arguments})


def test_a_layer_of_several_outputs() -> None:
    class Two(nn.Layer):
        def forward(self, x: Any) -> Any:
            return x, x

    with backends.use_backend("reference"), pytest.raises(TypeError, match="'', a Two, gives several outputs"):
        unit(Two(), np.ones(ROW), "", (0,))


def test_the_room_is_there_when_asked_for() -> None:
    assert nc.explain.unit is unit and nc.explain.Unit is UnitClass
