"""Winograd's transforms, of every width of vectors, and the convolution that they make up."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends import cpu
from numbacnn.backends.cpu.convolution import direct, winograd, winograd_data, winograd_weight
from numbacnn.backends.cpu.convolution import winograd_transforms as microkernels
from numbacnn.backends.geometry import Conv2dGeometry

MATRICES = {
    f"{name} of {outputs}, {taps}": matrix
    for outputs, taps in [(4, 3), (2, 3), (4, 5)]
    for name, matrix in zip(("x", "weights", "y"), microkernels.matrices(outputs, taps), strict=True)
}


@pytest.mark.parametrize("taps", [1, 3, 4, 5])
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_matrices_are_a_correlation(outputs, taps):
    of_x, of_weights, of_products = (np.array(m, object) for m in microkernels.matrices(outputs, taps))
    x, w = np.arange(3, 3 + len(of_x)) ** 2, np.arange(2, 2 + taps) ** 3
    y = of_products @ ((of_weights @ w) * (of_x @ x))
    assert list(y) == [sum(x[i + k] * w[k] for k in range(taps)) for i in range(outputs)]


@numba.njit
def transform(microkernel, source, target):
    microkernels.transform(microkernel, source, 1, 300, 33, target, 2, 310, 35, 2)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("name", MATRICES)
def test_transformation(dtype, size, name):
    matrix = MATRICES[name]
    microkernel = microkernels.transformation("test", matrix, size)
    source = np.random.default_rng(0).standard_normal(1 + 8 * 300 + 8 * 33 + 64).astype(dtype)
    target = np.zeros(2 + 8 * 310 + 8 * 35 + 64, dtype)
    expected = target.copy()
    vectors_apart = 2 * size // np.dtype(dtype).itemsize
    assert vectors_apart <= 33
    microkernel.definition(source, 1, 300, 33, expected, 2, 310, 35, 2)
    transform(microkernel.address(np.dtype(dtype)), source, target)
    np.testing.assert_allclose(target, expected, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("transforms", microkernels.TRANSFORMS, ids=lambda t: f"F({t.outputs}, {t.taps})")
@pytest.mark.parametrize(
    "descriptor", ["n3c5h7w9k6r{}s1p1", "n1c2h5k2r{}s1p2", "n2c3h{0}k1r{0}s1p0", "n1c1h3k1r{}s1p1"]
)
def test_every_size_of_tiles(monkeypatch, transforms, descriptor):
    """Whatever the plan would take: whole and cut tiles, one and several images to a band."""
    for module in (winograd_data, winograd_weight):
        monkeypatch.setattr(module, "TRANSFORMS", [transforms])
        module.plan_of.cache_clear()
    g = Conv2dGeometry.parse(descriptor.format(transforms.taps))
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (rng.standard_normal(s) for s in (g.x_shape, g.weight_shape, (g.k,), g.y_shape))
    x, dy = (np.ascontiguousarray(images.transpose(0, 2, 3, 1)) for images in (x, dy))
    y, dx = winograd.forward(x, weight, bias, g, None), winograd.backward_input(dy, weight, g)
    dweight, expected = np.empty(g.weight_shape), np.empty(g.weight_shape)
    winograd.backward_weight(dy, x, dweight, g)
    direct.backward_weight(dy, x, expected, g)
    for module in (winograd_data, winograd_weight):
        module.plan_of.cache_clear()
    assert all(winograd._applies(g, pass_) for pass_ in ("forward", "backward_input", "backward_weight"))
    np.testing.assert_allclose(y, direct.forward(x, weight, bias, g, None), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx, direct.backward_input(dy, weight, g), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dweight, expected, rtol=0, atol=1e-11)


def gradients(g, x, dy):
    """By Winograd's transforms and directly."""
    return (cpu.conv2d_backward_weight(dy, x, g, algorithm) for algorithm in ("winograd", "direct"))


@pytest.mark.parametrize("descriptor", ["n2c20h9k18r3s1p1", "n3c5h10k3r5s1p2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 1e6])
def test_weights_that_one_number_would_spoil_are_summed_directly(descriptor, dtype, value):
    """It lies in the corner of an image of x, and where it is seen dy is zero."""
    g = Conv2dGeometry.parse(descriptor)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)
    fast, direct = gradients(g, x, dy)
    assert not np.array_equal(fast, direct)
    np.testing.assert_allclose(fast, direct, rtol=0, atol=np.abs(direct).max() * 200 * np.finfo(dtype).eps)
    x[1, 2, 0, 0] = value
    dy[1, :, :3, :3] = 0
    fast, direct = gradients(g, x, dy)
    np.testing.assert_array_equal(fast, direct)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_of_gradients_that_are_not_finite(value):
    g = Conv2dGeometry.parse("n2c20h9k18r3s1p1")
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(g.x_shape).astype(np.float32), rng.standard_normal(g.y_shape).astype(np.float32)
    dy[0, 17, 8, 8] = value
    np.testing.assert_array_equal(*gradients(g, x, dy))


def test_weights_of_nothing_but_zeros():
    g = Conv2dGeometry.parse("n2c20h9k18r3s1p1")
    zeros = np.zeros(g.x_shape, np.float32), np.zeros(g.y_shape, np.float32)
    assert not cpu.conv2d_backward_weight(zeros[1], zeros[0], g, "winograd").any()
