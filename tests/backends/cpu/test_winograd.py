"""Winograd's transforms, of every width of vectors, and the convolution that they make up."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu import conv_direct, conv_winograd, winograd
from numbacnn.backends.cpu import winograd_routines as routines
from numbacnn.backends.geometry import Conv2dGeometry

MATRICES = {"x": routines._B_4, "weights": routines._G_4, "y": routines._A_4, "x of 2": routines._B_2}


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("name", MATRICES)
def test_transformation(dtype, size, name):
    matrix = MATRICES[name]
    routine = routines.transformation("test", matrix, size)
    run = numba.njit(lambda r, source, target: routines.transform(r, source, 1, 200, 33, target, 2, 210, 35, 2))
    source = np.random.default_rng(0).standard_normal(1 + 6 * 200 + 6 * 33 + 64).astype(dtype)
    target = np.zeros(2 + 6 * 210 + 6 * 35 + 64, dtype)
    expected = target.copy()
    vectors_apart = 2 * size // np.dtype(dtype).itemsize
    assert vectors_apart <= 33
    routine.definition(source, 1, 200, 33, expected, 2, 210, 35, 2)
    run(routine.address(np.dtype(dtype)), source, target)
    np.testing.assert_allclose(target, expected, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("descriptor", ["n3c5h7w9k6r3s1p1", "n1c2h3k2r3s1p2", "n2c3h3k1r3s1p0", "n1c1h1k1r3s1p1"])
def test_both_sizes_of_tiles(monkeypatch, outputs, descriptor):
    """Whatever the plan would take: whole and cut tiles, one and several images to a band."""
    monkeypatch.setattr(winograd, "TRANSFORMS", {outputs: routines.TRANSFORMS[outputs]})
    winograd._plan.cache_clear()
    g = Conv2dGeometry.parse(descriptor)
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (rng.standard_normal(s) for s in (g.x_shape, g.weight_shape, (g.k,), g.y_shape))
    y, dx = conv_winograd.forward(x, weight, bias, g, 0), conv_winograd.backward_input(dy, weight, g)
    winograd._plan.cache_clear()
    assert conv_winograd._applies(g, "forward") and conv_winograd._applies(g, "backward_input")
    np.testing.assert_allclose(y, conv_direct.forward(x, weight, bias, g, 0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx, conv_direct.backward_input(dy, weight, g), rtol=0, atol=1e-12)
