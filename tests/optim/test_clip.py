"""Gradients clipped by their norm, and weight decay for some parameters only."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn import nn, optim
from numbacnn.backends import Backend, reference
from tests.numeric import normal
from tests.on_numpy import OnNumPy
from tests.recorder import Recorder
from tests.strategies import SIMULATED

SHAPES = [(2, 3), (), (40,), (0, 3)]
FEW = settings(max_examples=4 if SIMULATED else 20)


def parameters(dtypes: tuple[Any, ...] = (np.float32, np.float64)) -> list[nn.Parameter]:
    """With gradients."""
    found = [nn.Parameter(normal(shape, 1, dtypes[i % len(dtypes)])) for i, shape in enumerate(SHAPES)]
    for i, parameter in enumerate(found):
        parameter.accumulate(normal(parameter.shape, i + 7, parameter.dtype))
    return found


def gradients(params: list[nn.Parameter]) -> list[np.ndarray]:
    return [np.array(p.backend.to_numpy(p.grad)) for p in params]


@FEW
@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.sampled_from([np.float32, np.float64]))
def test_global_norm(ours: OnNumPy, sizes: list[int], dtype: Any) -> None:
    arrays = [normal((size,), size, dtype) for size in sizes]
    expected = np.sqrt(sum(np.square(a.astype(np.float64)).sum() for a in arrays))
    for backend in (ours, reference):
        actual = backend.global_norm(arrays)
        assert actual.shape == () and actual.dtype == np.float64
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_the_norm_of_many_chunks(ours: OnNumPy) -> None:
    size = 70 if SIMULATED else 300_000
    arrays = [normal((size,), 1, np.float32), normal((3, 11), 2, np.float64)]
    np.testing.assert_allclose(ours.global_norm(arrays), reference.global_norm(arrays), rtol=1e-10)
    np.testing.assert_array_equal(ours.global_norm(arrays), ours.global_norm(arrays))


def test_a_norm_does_not_overflow_in_float32(backend: Backend) -> None:
    x = backend.asarray(np.full(4, 1e30, np.float32))
    np.testing.assert_allclose(backend.to_numpy(backend.global_norm([x])), 2e30, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm", [0.0, 1.0, 2.0, 2.000001, 50.0, np.inf, np.nan])
def test_clip_scale(ours: OnNumPy, norm: float, dtype: Any) -> None:
    x, expected = normal((3, 7), 0, dtype), normal((3, 7), 0, np.float64)
    before = x.copy()
    ours.clip_scale(x, np.array(norm), 2.0)
    reference.clip_scale(expected, np.array(norm), 2.0)
    np.testing.assert_allclose(x, expected, rtol=1e-6 if dtype == np.float32 else 1e-14)
    assert np.array_equal(x, before) == (norm < 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("divisor", [1.0, 3.0, 0.1, 0.0, np.inf, np.nan])
def test_divide(ours: OnNumPy, divisor: float, dtype: Any) -> None:
    x, expected = np.append(normal((3, 7), 0, dtype), dtype(0)), np.append(normal((3, 7), 0, dtype), dtype(0))
    for backend, array in ((ours, x), (reference, expected)):
        backend.divide(array, np.array(divisor))
    np.testing.assert_array_equal(x, expected)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(x, np.append(normal((3, 7), 0, dtype), dtype(0)) / dtype(divisor))


@pytest.mark.parametrize("of", ["optimizer", "parameters"])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_clipping(backend: Backend, of: str, max_norm: float) -> None:
    params = parameters()
    before = gradients(params)
    norm = np.sqrt(sum(np.square(g, dtype=np.float64).sum() for g in before))
    optimizer = optim.SGD(params, lr=0.1) if of == "optimizer" else None
    result = optim.clip_grad_norm(optimizer or params, max_norm)
    assert backend.is_array(result)
    np.testing.assert_allclose(backend.to_numpy(result), norm, rtol=1e-6)
    for actual, former in zip(gradients(params), before, strict=True):
        np.testing.assert_allclose(actual, former * min(1, max_norm / (norm + 1e-6)), rtol=1e-5)


def test_nothing_is_read_by_the_host() -> None:
    recorder = Recorder()
    params = parameters()
    for parameter in params:
        parameter.to(recorder)
    optimizer = optim.SGD(params, lr=0.1)
    before = recorder.read
    optim.clip_grad_norm(optimizer, 0.1)
    assert recorder.read == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: optim.clip_grad_norm(p, -1), ValueError, "`max_norm` -1 must be at least 0"),
        (lambda p: optim.clip_grad_norm(p, None), TypeError, "`max_norm` None must be a number"),
        (lambda p: optim.clip_grad_norm([], 1), ValueError, "gradients on one backend, not on none"),
        (lambda p: optim.clip_grad_norm(p[0], 1), TypeError, "`gradients_of` is a single Parameter"),
        (lambda p: optim.clip_grad_norm([1.0], 1), TypeError, r"`gradients_of`\[0\] of type float"),
    ],
)
def test_arguments_that_are_refused(backend: Backend, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(parameters())


def test_two_backends_are_refused(backend: Backend) -> None:
    params = parameters()
    params[0].to(Recorder())
    with pytest.raises(ValueError, match=r"on one backend, not on .*recorder"):
        optim.clip_grad_norm(params, 1)


MAKERS: dict[str, Any] = {
    "sgd": lambda p, **options: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.5, **options),
    "adam": lambda p, **options: optim.Adam(p, 0.1, weight_decay=0.5, **options),
    "adamw": lambda p, **options: optim.AdamW(p, 0.1, weight_decay=0.5, **options),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_some_parameters_do_not_decay(backend: Backend, make: Any) -> None:
    params, decaying, still = parameters(), parameters(), parameters()
    optimizer = make(params, no_decay=params[1:3])
    apart = make(decaying), make(still)
    apart[1].weight_decay = 0
    # Halfway, a change that reaches the one group only, and a copy, which has to know as well.
    for step in range(4):
        if step == 2:
            optimizer.weight_decay = apart[0].weight_decay = 0.1
            params, optimizer = copy.deepcopy((params, optimizer))
        for each in (optimizer, *apart):
            each.step()
    for i, parameter in enumerate(params):
        expected = (still if i in (1, 2) else decaying)[i]
        np.testing.assert_array_equal(backend.to_numpy(parameter.value), backend.to_numpy(expected.value))
    assert list(optimizer.state_dict()) == list(apart[0].state_dict())


def test_norms_and_biases(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2, bias=False))
    exempt = optim.norms_and_biases(model.named_parameters())
    names = [name for name, p in model.named_parameters() if any(p is other for other in exempt)]
    assert names == ["0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize(
    ("no_decay", "error", "message"),
    [
        (lambda p: p[1], TypeError, "`no_decay` is a single Parameter, must be a list"),
        (lambda p: [p[0], 3], TypeError, r"`no_decay`\[1\] of type int must be a Parameter"),
        (lambda p: [p[1]], ValueError, r"`no_decay`\[0\] is not in `parameters`"),
    ],
)
def test_exemptions_that_are_refused(backend: Backend, no_decay: Any, error: type[Exception], message: str) -> None:
    params = parameters()
    with pytest.raises(error, match=message):
        optim.SGD(params[:1], 0.1, no_decay=no_decay(params))
