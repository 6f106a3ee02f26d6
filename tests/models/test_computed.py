"""What every architecture computes: its gradients, and the same on every backend, captured or not."""

from __future__ import annotations

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.backends import Backend
from tests.models.variants import BOOK, DCGANS, LATER, UNETS, build
from tests.nn.test_gradients import check_gradients
from tests.strategies import SIMULATED

SERIES = ("series_fcn", "series_resnet")


@pytest.mark.parametrize("name", [*BOOK, *UNETS, *DCGANS, *SERIES])
def test_gradients(name: str) -> None:
    model, x = build(name)
    check_gradients(model, x, np.random.default_rng(1))


@pytest.mark.skipif(SIMULATED, reason="whole models take minutes in the simulator")
@pytest.mark.parametrize("name", [*BOOK, *LATER, "efficientnet_lite0", "resnext50", *SERIES, *UNETS, *DCGANS])
def test_every_backend_computes_the_same(fast_backend: Backend, name: str) -> None:
    results = []
    for where in ("reference", fast_backend.name):
        with nc.use_backend(where):
            model, x = build(name)
        y = model(x)
        dx = model.backward(np.cos(np.arange(y.size)).reshape(y.shape))
        evaluated = model.eval()(x)
        results.append([np.asarray(array) for array in (y, dx, evaluated, *(p.grad for p in model.parameters()))])
    for expected, array in zip(*results, strict=True):
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-9 * (1 + np.abs(expected).max()))
    session = nn.InferenceSession(model)
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(session(x)), results[-1][2])
    assert session.mode is not None and session.mode.startswith("captured")
