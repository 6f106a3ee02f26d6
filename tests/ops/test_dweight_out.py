"""Gradients of weights that are written where the caller says."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn import ops


def gradients(backend, **options):
    """Of a convolution and of linear layers of a few samples and of more."""
    rng = np.random.default_rng(0)

    def array(*shape):
        return backend.asarray(rng.standard_normal(shape).astype(np.float32))

    found = [ops.conv2d_backward(array(2, 4, 3, 3), array(2, 3, 5, 5), array(4, 3, 3, 3), **options.get("conv", {}))]
    found += [
        ops.linear_backward(array(n, 5), array(n, 7), array(5, 7), **options.get(f"linear{n}", {})) for n in (1, 9)
    ]
    return found


def test_the_array_is_what_is_returned(backend):
    outputs = [backend.asarray(np.full(shape, np.nan, np.float32)) for shape in ((4, 3, 3, 3), (5, 7), (5, 7))]
    options = [{"dweight_out": out} for out in outputs]
    found = gradients(backend, conv=options[0], linear1=options[1], linear9=options[2])
    for (dx, dweight, dbias), out, expected in zip(found, outputs, gradients(backend), strict=True):
        assert dweight is out
        for ours, plain in zip((dx, dweight, dbias), expected, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(ours), backend.to_numpy(plain))


@pytest.mark.parametrize(
    "out, error, message",
    [
        (np.zeros((4, 3, 3, 2), np.float32), ValueError, r"`dweight_out` \(4, 3, 3, 2\) must have the shape"),
        (np.zeros((4, 3, 3, 3)), ValueError, "`dweight_out` of dtype float64 must have float32"),
        (np.zeros((8, 3, 3, 3), np.float32)[::2], ValueError, "`dweight_out` must be C-contiguous"),
        ([[0.0]], TypeError, "`dweight_out` of type list must be an array of the backend 'cpu'"),
    ],
)
def test_what_cannot_be_written_to_is_refused(out, error, message):
    x, weight = np.ones((2, 3, 5, 5), np.float32), np.ones((4, 3, 3, 3), np.float32)
    with pytest.raises(error, match=message):
        ops.conv2d_backward(np.ones((2, 4, 3, 3)), x, weight, dweight_out=out, backend="cpu")
    with pytest.raises((ValueError, TypeError), match="`dweight_out`"):
        ops.linear_backward(np.ones((2, 4)), np.ones((2, 3)), np.ones((4, 3)), dweight_out=out, backend="cpu")
