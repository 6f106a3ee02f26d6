"""Padding, resampling and shuffling layers: what they refuse, what is known of them, and convolutions that pad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, ops
from numbacnn.backends import Backend
from tests.strategies import SIMULATED


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.ZeroPad2d(1.0), TypeError, "`padding` 1.0 must be an int or four ints"),
        (lambda: nn.ZeroPad2d((1, 2)), ValueError, r"`padding` \(1, 2\) must be .* not 2 entries"),
        (lambda: nn.ReflectionPad2d((1, 2, None, 1)), TypeError, r"`padding` \(1, 2, None, 1\) must be"),
        (lambda: nn.ReplicationPad2d(2**31), ValueError, "`padding` 2147483648 must be at most 2147483647"),
        (lambda: nn.ConstantPad2d(1, "a"), TypeError, "`value` 'a' must be a number"),
        (lambda: nn.Upsample(), ValueError, "one of `size` None and `scale_factor` None must be given"),
        (lambda: nn.Upsample(2, 2), ValueError, "one of `size` 2 and `scale_factor` 2.0 must be given"),
        (lambda: nn.Upsample(0), ValueError, "`size` 0 must be at least 1"),
        (lambda: nn.Upsample(2.5), TypeError, "`size` 2.5 must be an int or a pair"),
        (lambda: nn.Upsample(scale_factor=0), ValueError, "`scale_factor` 0 must be above 0"),
        (lambda: nn.Upsample(scale_factor=-1), ValueError, "`scale_factor` -1 must be at least 0"),
        (lambda: nn.Upsample(scale_factor=(1, 2, 3)), ValueError, r"`scale_factor` \(1, 2, 3\) must be .* not 3"),
        (lambda: nn.Upsample(2, mode="bicubic"), ValueError, "`mode` 'bicubic' must be one of 'nearest', 'bilinear'"),
        (lambda: nn.Upsample(2, align_corners=False), ValueError, "`align_corners` False must be None for `mode`"),
        (lambda: nn.Upsample(2, mode="bilinear", align_corners=1), TypeError, "`align_corners` 1 must be True or"),
        (lambda: nn.PixelShuffle(0), ValueError, "`upscale_factor` 0 must be at least 1"),
        (lambda: nn.PixelUnshuffle(2.0), TypeError, "`downscale_factor` 2.0 must be an int"),
        (lambda: nn.ChannelShuffle(0), ValueError, "`groups` 0 must be at least 1"),
        (lambda: nn.ZeroPadChannels(1.5), TypeError, "`padding` 1.5 must be an int or a pair of ints"),
        (lambda: nn.ZeroPadChannels((1, 2, 3)), ValueError, r"`padding` \(1, 2, 3\) must be .* not 3 entries"),
        (lambda: nn.Unflatten(0, (1, 2)), ValueError, "`dim` 0 must be an axis after the batch"),
        (lambda: nn.Unflatten(1.0, (1, 2)), TypeError, "`dim` 1.0 must be an int"),
        (lambda: nn.Unflatten(1, (-1, -1)), ValueError, r"`unflattened_size` \(-1, -1\) must hold sizes of at least 1"),
        (lambda: nn.Unflatten(1, ()), TypeError, r"`unflattened_size` \(\) must be one or more ints"),
        (lambda: nn.Reshape(), TypeError, r"`shape` \(\) must be one or more ints"),
        (lambda: nn.Reshape(0, 2), ValueError, r"`shape` \(0, 2\) must hold sizes of at least 1"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="constant"), ValueError, "`padding_mode` 'constant' must be one of"),
    ],
)
def test_refused_when_made(backend: Backend, make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: nn.ReflectionPad2d(4), (1, 1, 4, 9), r"`padding` \(4, 4, 4, 4\) must be at most 3 for the 4 rows"),
        (lambda: nn.CircularPad2d((0, 4, -1, 0)), (1, 1, 4, 3), "must be at most 3 for the 3 columns of `x`"),
        (lambda: nn.CircularPad2d((4, -1, 0, 0)), (1, 1, 4, 4), "must be at most 3 for the 4 columns of `x`"),
        (lambda: nn.ZeroPad2d(-2), (1, 1, 4, 9), "must leave some of the 4 rows of `x`"),
        (lambda: nn.ZeroPad2d(1), (1, 4, 9), r"\(1, 4, 9\) must have 4 axes"),
        (lambda: nn.Upsample(scale_factor=0.2), (1, 1, 4, 9), "`scale_factor` 0.2 leaves nothing of the images"),
        (lambda: nn.Upsample(3), (1, 1, 0, 9), "must have images of at least one pixel"),
        (lambda: nn.PixelShuffle(2), (1, 6, 4, 4), "the square of `upscale_factor` 2 must divide the 6 channels"),
        (lambda: nn.PixelUnshuffle(2), (1, 6, 4, 5), "`downscale_factor` 2 must divide height and width"),
        (lambda: nn.ChannelShuffle(4), (1, 6, 4), "`groups` 4 must divide the 6 channels"),
        (lambda: nn.ZeroPadChannels((2, -4)), (1, 4, 9), "must leave some of the 4 channels of `x`"),
        (lambda: nn.ZeroPadChannels(1), (6,), "must have 2 or more axes"),
        (lambda: nn.ChannelShuffle(4), (6,), "must have 2 or more axes"),
        (lambda: nn.Unflatten(2, (2, 2)), (1, 4), "`dim` 2 must be an axis after the batch, of the input"),
        (lambda: nn.Unflatten(-2, (2, 2)), (1, 4), "`dim` -2 must be an axis after the batch, of the input"),
        (lambda: nn.Unflatten(1, (3, -1)), (1, 4), r"`unflattened_size` \(3, -1\) must hold the 4 numbers of axis 1"),
        (lambda: nn.Unflatten(1, (2, 1)), (1, 4), r"`unflattened_size` \(2, 1\) must hold the 4 numbers of axis 1"),
        (lambda: nn.Reshape(5, -1), (2, 3, 4), r"`shape` \(5, -1\) must hold the 12 numbers of a sample"),
        (lambda: nn.Conv2d(1, 1, 3, padding=4, padding_mode="reflect"), (1, 1, 4, 9), r"must be at most 3 for the 4"),
        (
            lambda: nn.Conv2d(2, 1, 3, padding=1, padding_mode="circular"),
            (1, 1, 4, 9),
            r"`x` \(1, 1, 4, 9\) has 1 channels",
        ),
    ],
)
def test_refused_when_run_and_when_asked_for_the_shape(
    backend: Backend, make: Any, shape: tuple[int, ...], message: str
) -> None:
    layer = make()
    with pytest.raises(ValueError, match=message):
        layer(np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=message):
        layer.output_shape(shape)


def test_a_gradient_of_another_shape_is_refused(backend: Backend) -> None:
    x = np.ones((2, 4, 4, 4), np.float32)
    layers = (nn.ZeroPad2d(1), nn.Upsample(2), nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2))
    for layer in (*layers, nn.ZeroPadChannels(1), nn.Reshape(-1), nn.Unflatten(1, (2, 2))):
        layer(x)
        with pytest.raises(ValueError, match="`dy`"):
            layer.backward(np.ones((2, 4, 4, 3), np.float32))


def test_settings_are_printed_as_pytorch_does(backend: Backend) -> None:
    assert repr(nn.ZeroPad2d((1, 2, 3, -4))) == "ZeroPad2d((1, 2, 3, -4))"
    assert repr(nn.ConstantPad2d(1, 3)) == "ConstantPad2d(padding=(1, 1, 1, 1), value=3.0)"
    assert (
        repr(nn.Upsample(scale_factor=(2, 1.5), mode="bilinear"))
        == "Upsample(scale_factor=(2.0, 1.5), mode='bilinear')"
    )
    assert repr(nn.Upsample((2, 3))) == "Upsample(size=(2, 3), mode='nearest')"
    assert repr(nn.Unflatten(1, [2, -1])) == "Unflatten(dim=1, unflattened_size=(2, -1))"
    assert repr(nn.Reshape((2, -1))) == "Reshape(2, -1)"
    conv = nn.Conv2d(1, 2, 3, padding=1, bias=False, padding_mode="reflect", algorithm="loops")
    text = "padding=(1, 1), bias=False, padding_mode='reflect', algorithm='loops'"
    assert repr(conv) == f"Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), {text})"


def test_settings_that_change_are_checked(backend: Backend) -> None:
    layer = nn.Upsample(2)
    with pytest.raises(ValueError, match=r"one of `size` 2 and `scale_factor` 3.0 must be given.*Upsample\("):
        layer.scale_factor = 3
    assert layer.scale_factor is None
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    conv = nn.Conv2d(1, 1, 3, padding=1).eval()
    conv.weight.value = np.ones((1, 1, 3, 3))
    conv.bias = None
    assert float(np.asarray(conv(x))[0, 0, 0, 0]) == 0 + 1 + 3 + 4
    conv.padding_mode = "replicate"
    assert float(np.asarray(conv(x))[0, 0, 0, 0]) == 0 * 4 + 1 * 2 + 3 * 2 + 4


def test_a_padding_convolution_is_padding_and_a_convolution(backend: Backend) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)
    conv = nn.Conv2d(3, 4, 3, padding=((2, 1), (0, 2)), padding_mode="circular", algorithm="loops").eval()
    expected = ops.conv2d(ops.pad2d(x, (0, 2, 2, 1), "circular"), conv.weight.value, conv.bias.value, algorithm="loops")
    np.testing.assert_array_equal(np.asarray(conv(x)), np.asarray(expected))
    zeros = nn.Conv2d(3, 4, 3, padding=((2, 1), (0, 2)))
    assert conv.output_shape(x.shape) == zeros.output_shape(x.shape) == (2, 4, 7, 5)
    assert conv.flops(x.shape) == zeros.flops(x.shape)
    assert conv.window() == zeros.window()
    g = conv.geometry(x.shape)
    assert (g.h, g.w, g.pt, g.pb, g.pl, g.pr) == (9, 7, 0, 0, 0, 0)
    assert set(conv.algorithms(x.shape).values()) == {"loops"}


def test_a_padding_convolution_is_fused_and_folded(backend: Backend) -> None:
    nc.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect", algorithm="loops")
    norm = nn.BatchNorm2d(4)
    norm.running_mean.value, norm.running_var.value = np.arange(4.0), np.arange(4.0) + 0.5
    model = nn.Sequential(conv, norm, nn.ReLU()).eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    separate = ops.relu(norm(conv(x)))
    np.testing.assert_array_equal(np.asarray(model(x)), np.asarray(separate))
    folded = nn.fold_batch_norm(model)
    assert len(folded) == 2 and folded[0].padding_mode == "reflect"
    np.testing.assert_allclose(np.asarray(folded(x)), np.asarray(separate), atol=1e-5)
    fused = nn.Sequential(conv, nn.Sigmoid()).train()
    y = fused(x)
    # In the simulator sums are wider than what is stored.
    expected = np.asarray(ops.sigmoid(conv.forward(x)))
    np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-6 if SIMULATED else 0)


def test_receptive_fields(backend: Backend) -> None:
    def field(*layers: nn.Layer) -> tuple[Any, ...]:
        return nn.receptive_field(nn.Sequential(*layers), (1, 4, 20, 30))

    conv = nn.Conv2d(4, 4, 3)
    assert field(nn.ZeroPad2d((1, 2, 3, 4)), conv) == field(nn.Conv2d(4, 4, 3, padding=((3, 4), (1, 2))))
    assert field(nn.ZeroPad2d(-2), conv) == ((3, 3), (1, 1), (2, 2))
    assert field(nn.PixelUnshuffle(2), nn.ChannelShuffle(2)) == ((2, 2), (2, 2), (0, 0))
    assert field(nn.Unflatten(1, (2, 2))) == ((1, 1), (1, 1), (0, 0))
    assert field(nn.Reshape(-1)) == ((20, 30), (0, 0), (0, 0))


def test_views_between_layers_copy_nothing(backend: Backend) -> None:
    """A decoder: a vector becomes an image and grows; its gradients are those of the layers one by one."""
    nc.manual_seed(0)
    layers = [nn.Linear(5, 24), nn.Unflatten(1, (6, 2, 2)), nn.Upsample(scale_factor=2, mode="bilinear")]
    layers += [nn.Conv2d(6, 4, 3, padding=1, padding_mode="replicate"), nn.PixelShuffle(2), nn.Reshape(-1)]
    model, x = nn.Sequential(*layers), np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    y = x
    for layer in layers:
        y = layer(y)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    dx = dy
    for layer in reversed(layers):
        dx = layer.backward(dx)
    np.testing.assert_array_equal(np.asarray(model(x)), np.asarray(y))
    np.testing.assert_array_equal(np.asarray(model.backward(dy)), np.asarray(dx))
