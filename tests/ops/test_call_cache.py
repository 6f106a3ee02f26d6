"""Operations whose arguments were checked before: the same results, and the same errors, as if they never were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import backends, nn, ops
from numbacnn.ops import call_cache
from tests.counting import calls_of

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is done again without the compiler")

TIMES = 5


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def norm(x: np.ndarray, *parameters: np.ndarray, **named: Any) -> Any:
    return ops.batch_norm(x, *parameters, backend="cpu", **named)


OPERATIONS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "conv2d": (lambda *a: ops.conv2d(*a, 1, 1, activation="relu", backend="cpu"), [(2, 3, 6, 5), (4, 3, 3, 3), (4,)]),
    "linear": (lambda *a: ops.linear(*a, backend="cpu"), [(2, 7), (5, 7), (5,)]),
    "max_pool2d": (lambda x: ops.max_pool2d(x, 2, backend="cpu"), [(2, 3, 6, 5)]),
    "indices": (lambda x: ops.max_pool2d(x, 2, return_indices=True, backend="cpu")[1], [(2, 3, 6, 5)]),
    "avg_pool2d": (lambda x: ops.avg_pool2d(x, 3, 1, 1, backend="cpu"), [(2, 3, 6, 5)]),
    "batch_norm": (lambda x, *p: norm(x, *p[:3], p[3] ** 2), [(2, 3, 6, 5), (3,), (3,), (3,), (3,)]),
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was not known, each time."""
    return calls_of(monkeypatch, call_cache, "observed")


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_same_bits_whether_asked_or_known(name: str, asked: list[Any]) -> None:
    operation, shapes = OPERATIONS[name]
    for turn in range(TIMES):
        arrays = [normal(*shape, seed=turn + i) for i, shape in enumerate(shapes)]
        before = len(asked)
        results = [operation(*arrays) for _ in range(2)]
        with nc.precision("strict"):  # of another kind, which is not known before its third time
            expected = operation(*arrays)
        assert results[0] is not results[1]
        for result in results:
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
            assert result.tobytes() == results[0].tobytes()
    assert len(asked) - before <= 1, "the strict one at most was asked for anew"


def test_arguments_that_are_equal_but_of_other_kinds_are_refused() -> None:
    x, weight = normal(2, 3, 6, 5), normal(4, 3, 3, 3)
    for _ in range(TIMES):
        ops.conv2d(x, weight, stride=1, padding=(1, 1), backend="cpu")
    for stride in (True, 1.0):
        with pytest.raises(TypeError, match="`stride`"):
            ops.conv2d(x, weight, stride=stride, padding=(1, 1), backend="cpu")
    with pytest.raises(TypeError, match="`padding`"):
        ops.conv2d(x, weight, stride=1, padding=(True, 1), backend="cpu")
    with pytest.raises(ValueError, match="takes 3"):
        ops.conv2d(normal(2, 4, 6, 5), weight, stride=1, padding=(1, 1), backend="cpu")
    with pytest.raises(TypeError, match="must be real"):
        ops.conv2d(x.astype(np.complex64), weight, stride=1, padding=(1, 1), backend="cpu")


def test_an_array_that_was_two_arguments_is_told_from_two_arrays() -> None:
    x, ones = normal(2, 3, 6, 5), np.ones(3, np.float32)
    for _ in range(TIMES):
        norm(x, ones, ones, ones, ones)
    other = [normal(3, seed=i) ** 2 + 1 for i in range(4)]
    expected = ops.batch_norm(x, *other, backend="reference")
    np.testing.assert_allclose(norm(x, *other), expected, rtol=1e-5, atol=1e-5)


def test_training_updates_statistics_each_time() -> None:
    x, mean, variance = normal(4, 3, 6, 5), np.zeros(3, np.float32), np.ones(3, np.float32)
    seen = []
    for _ in range(TIMES):
        norm(x, np.ones(3, np.float32), np.zeros(3, np.float32), mean, variance, training=True)
        seen.append(mean.tobytes())
    assert len(set(seen)) == TIMES


def test_a_capture_records_what_is_known() -> None:
    with backends.use_backend("cpu"):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)).eval()
    x = normal(2, 3, 6, 5)
    expected = [model.forward(x) for _ in range(TIMES)][-1]
    session = nn.InferenceSession(model)
    for seed in range(TIMES):
        other = normal(2, 3, 6, 5, seed=seed)
        np.testing.assert_allclose(session(other), model.forward(other), rtol=1e-5, atol=1e-6)
    assert session.mode == "captured"
    np.testing.assert_allclose(session(x), expected, rtol=1e-5, atol=1e-6)
