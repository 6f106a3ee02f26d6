"""Winograd's transforms, of every width of vectors, and the convolution that they make up."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu import conv_direct, conv_winograd, winograd
from numbacnn.backends.cpu import winograd_routines as routines
from numbacnn.backends.geometry import Conv2dGeometry

MATRICES = {
    f"{name} of {outputs}, {taps}": matrix
    for outputs, taps in [(4, 3), (2, 3), (4, 5)]
    for name, matrix in zip(("x", "weights", "y"), routines.matrices(outputs, taps), strict=True)
}


@pytest.mark.parametrize("taps", [1, 3, 4, 5])
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_matrices_are_a_correlation(outputs, taps):
    of_x, of_weights, of_products = (np.array(m, object) for m in routines.matrices(outputs, taps))
    x, w = np.arange(3, 3 + len(of_x)) ** 2, np.arange(2, 2 + taps) ** 3
    y = of_products @ ((of_weights @ w) * (of_x @ x))
    assert list(y) == [sum(x[i + k] * w[k] for k in range(taps)) for i in range(outputs)]


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("name", MATRICES)
def test_transformation(dtype, size, name):
    matrix = MATRICES[name]
    routine = routines.transformation("test", matrix, size)
    run = numba.njit(lambda r, source, target: routines.transform(r, source, 1, 300, 33, target, 2, 310, 35, 2))
    source = np.random.default_rng(0).standard_normal(1 + 8 * 300 + 8 * 33 + 64).astype(dtype)
    target = np.zeros(2 + 8 * 310 + 8 * 35 + 64, dtype)
    expected = target.copy()
    vectors_apart = 2 * size // np.dtype(dtype).itemsize
    assert vectors_apart <= 33
    routine.definition(source, 1, 300, 33, expected, 2, 310, 35, 2)
    run(routine.address(np.dtype(dtype)), source, target)
    np.testing.assert_allclose(target, expected, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("transforms", routines.TRANSFORMS, ids=lambda t: f"F({t.outputs}, {t.taps})")
@pytest.mark.parametrize(
    "descriptor", ["n3c5h7w9k6r{}s1p1", "n1c2h5k2r{}s1p2", "n2c3h{0}k1r{0}s1p0", "n1c1h3k1r{}s1p1"]
)
def test_every_size_of_tiles(monkeypatch, transforms, descriptor):
    """Whatever the plan would take: whole and cut tiles, one and several images to a band."""
    monkeypatch.setattr(winograd, "TRANSFORMS", [transforms])
    winograd._plan.cache_clear()
    g = Conv2dGeometry.parse(descriptor.format(transforms.taps))
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (rng.standard_normal(s) for s in (g.x_shape, g.weight_shape, (g.k,), g.y_shape))
    y, dx = conv_winograd.forward(x, weight, bias, g, 0), conv_winograd.backward_input(dy, weight, g)
    winograd._plan.cache_clear()
    assert conv_winograd._applies(g, "forward") and conv_winograd._applies(g, "backward_input")
    np.testing.assert_allclose(y, conv_direct.forward(x, weight, bias, g, 0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx, conv_direct.backward_input(dy, weight, g), rtol=0, atol=1e-12)
