"""What every loss has to stand: its definition, the other backends, PyTorch, a capture, any memory, an empty batch."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
from numba import get_num_threads, set_num_threads
from numba.core import config

from numbacnn import nn, use_backend
from numbacnn.backends import Backend
from tests.numeric import assert_gradients
from tests.registry.losses_registry import LOSSES, LossCase
from tests.strategies import DTYPES, IN_PYTHON

DRAWS = 3 if IN_PYTHON else 12
TOLERANCE = {np.float32: 1e-4, np.float64: 1e-10}

each = pytest.mark.parametrize("name", LOSSES)
"""A test of each entry."""


def cases(name: str, dtype: Any = np.float64, draws: int = DRAWS) -> list[LossCase]:
    return [LOSSES[name](np.random.default_rng(seed), dtype) for seed in range(draws)]


def cotangent(loss: nn.Loss, value: Any) -> Any:
    """A drawn one of the losses, or None where there is one number."""
    if loss.reduction != "none":
        return None
    return np.random.default_rng(1).standard_normal(tuple(value.shape)).astype(value.dtype)


def passes(loss: nn.Loss, prediction: Any, target: Any) -> dict[str, np.ndarray]:
    """The loss and the gradient of the prediction."""
    backend = loss.backend
    value = loss.compute(backend.asarray(prediction), backend.asarray(target))
    dy = cotangent(loss, value)
    dx = loss.backward() if dy is None else loss.backward(backend.asarray(dy))
    return {"loss": np.array(backend.to_numpy(value)), "dx": np.array(backend.to_numpy(dx))}


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def assert_near(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        atol = tolerance * max(1.0, float(np.abs(value).max(initial=0)))
        np.testing.assert_allclose(found[name], value, rtol=0, atol=atol, err_msg=name)


def test_every_loss_is_registered() -> None:
    found = {
        name for name in nn.__all__ if inspect.isclass(getattr(nn, name)) and issubclass(getattr(nn, name), nn.Loss)
    }
    assert found - {"Loss"} == LOSSES.keys()


@each
def test_the_gradient_is_a_central_difference(name: str) -> None:
    with use_backend("reference"):
        for seed, case in enumerate(cases(name)):
            loss = case.loss()
            value = loss.compute(case.prediction, case.target)
            dy = cotangent(loss, value)
            dx = loss.backward() if dy is None else loss.backward(dy)
            assert_gradients(
                lambda x, loss=loss, case=case: loss.compute(x, case.target),
                [case.prediction],
                [dx],
                np.ones(()) if dy is None else dy,
                seed,
            )


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_backend_does_what_the_reference_does(backend: Backend, name: str, dtype: Any) -> None:
    if backend.name == "reference" and dtype == np.float64:
        pytest.skip("it is the reference")
    for case, of_float64 in zip(cases(name, dtype), cases(name), strict=True):
        with use_backend("reference"):
            expected = passes(of_float64.loss(), of_float64.prediction, of_float64.target)
        loss = case.loss()
        found = passes(loss, case.prediction, case.target)
        assert found["dx"].dtype == dtype
        assert found["loss"].dtype == (dtype if loss.reduction == "none" else np.float64)
        assert_near(found, expected, TOLERANCE[dtype])


@each
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_capture_does_the_same(backend: Backend, name: str, dtype: Any) -> None:
    if backend.capture(lambda: None) is None:
        pytest.skip("it captures nothing")
    for case in cases(name, dtype, DRAWS):
        expected = passes(case.loss(), case.prediction, case.target)
        loss = case.loss()
        prediction = backend.asarray(case.prediction + dtype(1))
        target = backend.asarray(case.target[::-1].copy())
        dy = cotangent(loss, expected["loss"])
        given = None if dy is None else backend.asarray(dy)
        results: dict[str, Any] = {}

        def step(
            loss: nn.Loss = loss, prediction: Any = prediction, target: Any = target, given: Any = given,
            results: dict[str, Any] = results,
        ) -> None:  # fmt: skip
            results["loss"] = loss.compute(prediction, target)
            results["dx"] = loss.backward() if given is None else loss.backward(given)

        step()
        launches = backend.capture(step)
        assert launches is not None
        backend.assign(prediction, backend.asarray(case.prediction))
        backend.assign(target, backend.asarray(case.target))
        launches[0]()
        assert_same_bits({key: np.array(backend.to_numpy(x)) for key, x in results.items()}, expected)


@each
def test_memory_in_another_order_gives_the_same_bits(backend: Backend, name: str) -> None:
    for case in cases(name, np.float32, 6):
        turned = [np.array(x.T, order="C").T for x in (case.prediction, case.target)]
        assert_same_bits(passes(case.loss(), *turned), passes(case.loss(), case.prediction, case.target))


@each
def test_images_with_neighbouring_channels_give_the_same(backend: Backend, name: str) -> None:
    """What layers of the cpu backend give lies so; order of sums is another, as elements lie in another order."""
    for case in cases(name, np.float32):
        if case.prediction.ndim == 4:
            x = backend.empty(case.prediction.shape, np.float32)
            backend.assign(x, backend.asarray(case.prediction))
            assert_near(passes(case.loss(), x, case.target), passes(case.loss(), case.prediction, case.target), 1e-6)


@each
def test_an_empty_batch(backend: Backend, name: str) -> None:
    for case in cases(name, np.float32, 6):
        loss = case.loss()
        for array in ("weight", "pos_weight"):  # which may be of samples
            if getattr(loss, array, None) is not None and name == "BCEWithLogitsLoss":
                setattr(loss, array, None)
        with np.errstate(all="ignore"):
            found = passes(loss, case.prediction[:0], case.target[:0])
        expected = {"mean": np.nan, "sum": 0.0, "none": case.target[:0] if found["loss"].shape else 0.0}
        if loss.reduction == "none":
            assert found["loss"].shape[0] == 0
        else:
            np.testing.assert_array_equal(found["loss"], expected[loss.reduction])
        assert found["dx"].shape == case.prediction[:0].shape


@each
def test_threads_do_not_change_a_bit(name: str) -> None:
    threads = get_num_threads()
    if IN_PYTHON or threads < 2:
        pytest.skip("there is one thread")
    with use_backend("cpu"):
        for case in cases(name, np.float32):
            large = [np.concatenate([x] * 50) for x in (case.prediction, case.target)]
            loss = case.loss()
            if name == "BCEWithLogitsLoss":
                loss.weight = loss.pos_weight = None
            found = []
            for number in (1, threads):
                set_num_threads(number)
                found.append(passes(loss, *large))
            assert_same_bits(*found)


@each
def test_what_backward_takes_is_what_the_reduction_asks_for(backend: Backend, name: str) -> None:
    for case in cases(name, np.float32, 6):
        loss = case.loss()
        value = loss.compute(case.prediction, case.target)
        wrong = None if loss.reduction == "none" else np.ones(tuple(value.shape), np.float32)
        with pytest.raises(ValueError, match=r"`dy` must be (given|None)"):
            loss.backward(wrong)


@each
def test_it_is_copied_pickled_and_printed(backend: Backend, name: str) -> None:
    for case in cases(name, np.float32, 4):
        loss = case.loss()
        assert repr(loss).startswith(f"{name}(reduction=")
        expected = passes(loss, case.prediction, case.target)
        for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert repr(other) == repr(loss)
            assert_same_bits(passes(other, case.prediction, case.target), expected)


@each
@pytest.mark.torch
def test_pytorch_does_the_same(backend: Backend, name: str) -> None:
    torch = pytest.importorskip("torch")
    if config.ENABLE_CUDASIM and backend.name == "cuda":
        pytest.skip("the simulator is compared with the reference")
    for case in cases(name, draws=10 * DRAWS):
        found = passes(case.loss(), case.prediction, case.target)
        x = torch.from_numpy(case.prediction).requires_grad_()
        loss = case.torch(torch)(x, torch.from_numpy(case.target))
        if loss.shape:
            loss.backward(torch.from_numpy(np.random.default_rng(1).standard_normal(tuple(loss.shape))))
        else:
            loss.backward()
        assert_near(found, {"loss": loss.detach().numpy(), "dx": x.grad.numpy()}, 1e-9)
