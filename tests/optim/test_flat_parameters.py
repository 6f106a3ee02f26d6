"""Parameters side by side: where they are, what brings them back, and that nothing of it shows in the numbers."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn, optim
from numbacnn.backends import Backend
from numbacnn.nn.state import StepCounter
from numbacnn.optim.flat_parameters import ALIGNMENT, flat_groups
from numbacnn.optim.parameter_groups import parameter_groups
from tests.recorder import Recorder

SHAPES = [(2, 3), (), (40,), (0, 3), (5, 1, 2)]
MAKERS: dict[str, Any] = {
    "plain": lambda p: optim.SGD(p, 0.1, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: optim.AdamW(p, lr=0.1),
    "nadam": lambda p: optim.NAdam(p, lr=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, momentum=0.5, centered=True),
    "adagrad": lambda p: optim.Adagrad(p, initial_accumulator_value=0.5),
    "lion": lambda p: optim.Lion(p, lr=0.1),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def parameters(seed: int = 0, dtypes: tuple[Any, ...] = (np.float32, np.float64)) -> list[nn.Parameter]:
    rng = np.random.default_rng(seed)
    return [nn.Parameter(rng.standard_normal(s).astype(dtypes[i % len(dtypes)])) for i, s in enumerate(SHAPES)]


def backward(parameters: list[nn.Parameter], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for parameter in parameters:
        parameter.accumulate(rng.standard_normal(parameter.shape))


def arrays(parameters: list[nn.Parameter]) -> list[np.ndarray]:
    return [np.array(p.backend.to_numpy(x)) for p in parameters for x in (p.value, p.grad)]


def assert_same(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_parameters_are_views_of_one_array_each_kind(backend: Backend) -> None:
    params = parameters()
    backward(params, 1)
    before = arrays(params)
    state = [{"velocity": nn.Buffer(np.full(p.shape, i, p.dtype))} for i, p in enumerate(params)]
    (whole,) = parameter_groups(params, optim.SGD, {"lr": 0.1})
    groups = flat_groups([whole], state, [True] * len(params), [StepCounter()] * len(params))
    assert [(group.value.dtype, len(group.parameters)) for group in groups] == [(np.float32, 3), (np.float64, 2)]
    assert_same(arrays(params), before)
    for i, parameter in enumerate(params):
        group, position = groups[i % 2], i // 2
        kept = sum(-(-p.size // ALIGNMENT) for p in group.parameters[:position]) * ALIGNMENT
        for flat, array in ((group.value, parameter.value), (group.gradient, parameter.grad)):
            np.testing.assert_array_equal(
                backend.to_numpy(flat)[kept : kept + parameter.size], backend.to_numpy(array).ravel()
            )
        assert (backend.to_numpy(group.state["velocity"])[kept : kept + parameter.size] == i).all()
    for group in groups:
        for parameter in group.parameters:
            parameter.value = np.zeros(parameter.shape)
        backend.fill_zero(group.gradient)
        assert not backend.to_numpy(group.value).any() and not backend.to_numpy(group.gradient).any()
    assert not any(array.any() for array in arrays(params))


@every_maker
def test_what_lies_between_parameters_stays_zero(backend: Backend, make: Any) -> None:
    optimizer = make(parameters())
    for step in range(3):
        backward(optimizer.parameters, step)
        optimizer.step()
    for group in optimizer._flat:
        inside = sum(parameter.size for parameter in group.parameters)
        for name, flat in {"value": group.value, "gradient": group.gradient, **group.state}.items():
            assert np.count_nonzero(backend.to_numpy(flat)) == (1 if name == "mu_product" else inside)


@every_maker
def test_together_and_one_by_one_are_the_same_bits(backend: Backend, make: Any) -> None:
    together, apart = parameters(), parameters()
    optimizers = [make(together)], [make([parameter]) for parameter in apart]
    for step in range(3):
        for params, makers in zip((together, apart), optimizers, strict=True):
            for optimizer in makers:
                optimizer.zero_grad()
            backward(params, step)
            for optimizer in makers:
                optimizer.step()
    assert_same(arrays(together), arrays(apart))


@every_maker
@pytest.mark.parametrize("zero", ["optimizer", "parameters", "both"])
def test_gradients_may_be_zeroed_either_way(backend: Backend, make: Any, zero: str) -> None:
    results = []
    for either in ("optimizer", zero):
        optimizer = make(parameters())
        for step in range(3):
            if either != "optimizer":
                for parameter in optimizer.parameters:
                    parameter.zero_grad()
            if either != "parameters":
                optimizer.zero_grad()
            backward(optimizer.parameters, step)
            optimizer.step()
        results.append(arrays(optimizer.parameters))
    assert_same(*results)


def test_an_array_read_before_a_parameter_s_zero_grad_keeps_its_numbers(backend: Backend) -> None:
    (parameter,) = params = [nn.Parameter([1.0, 2.0])]
    optimizer = optim.SGD(params, lr=1)
    parameter.accumulate([3.0, 4.0])
    read = parameter.grad
    parameter.zero_grad()
    parameter.accumulate([1.0, 1.0])
    optimizer.step()
    np.testing.assert_array_equal(backend.to_numpy(read), [3, 4])
    np.testing.assert_array_equal(backend.to_numpy(parameter.value), [0, 1])


@every_maker
def test_only_some_parameters_of_a_model(backend: Backend, make: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    frozen = model[0].state_dict()
    optimizer = make(model[1].parameters())
    values = [parameter.value for parameter in model[0].parameters()]
    for _ in range(2):
        model.backward(model(np.ones((2, 3))))
        optimizer.step()
        optimizer.zero_grad()
    assert all(p.value is value for p, value in zip(model[0].parameters(), values, strict=True))
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())
    assert all(backend.to_numpy(parameter.grad).any() for parameter in model[0].parameters())
    for name, array in model[0].state_dict().items():
        np.testing.assert_array_equal(array, frozen[name])


@every_maker
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_train_on_their_own(backend: Backend, make: Any, duplicate: Any) -> None:
    params = parameters()
    optimizer = make(params)
    backward(params, 0)
    optimizer.step()
    other_params, other = duplicate((params, optimizer))
    former = arrays(params)
    for p, o in ((other_params, other), (params, optimizer)):
        assert_same(arrays(p), former)
        o.zero_grad()
        backward(p, 1)
        o.step()
    assert all(p is mine for p, mine in zip(other.parameters, other_params, strict=True))
    assert_same(arrays(other_params), arrays(params))
    assert not any(np.array_equal(a, b) for a, b in zip(arrays(params)[:2], former[:2], strict=True))


@every_maker
def test_two_optimizers_may_take_turns(backend: Backend, make: Any) -> None:
    shared, alone = parameters(), parameters()
    turns, single = [make(shared), optim.SGD(shared, lr=0.5)], optim.SGD(alone, lr=0.5)
    turns[0].lr, turns[0].weight_decay = 0, 0
    for step in range(4):
        backward(shared, step)
        turns[step % 2].step()
        backward(alone, step)
        single.lr = 0.5 * (step % 2)
        single.step()
    assert_same(arrays(shared), arrays(alone))


def test_the_version_grows_with_new_arrays_and_choices(backend: Backend) -> None:
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    optimizer.step()
    versions = [optimizer.version]
    for change in (
        lambda: setattr(optimizer, "lr", 0.2),
        lambda: params[0].zero_grad(),
        lambda: setattr(params[0], "value", np.ones(SHAPES[0])),
        lambda: optimizer.load_state_dict(optimizer.state_dict()),
        lambda: setattr(optimizer, "nesterov", True),
        lambda: optim.SGD(params[:1], lr=1),
    ):
        change()
        optimizer.step()
        versions.append(optimizer.version)
    assert np.diff(versions).tolist() == [0, 1, 0, 0, 1, 1]


def test_one_call_of_the_backend_for_a_group_and_settings_only_when_they_change() -> None:
    class Counting(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def __getattr__(self, name: str) -> Any:
            if name in ("adam_step", "assign", "increment", "asarray"):
                self.calls.append(name)
            return super().__getattr__(name)

    counting = Counting()
    with backends.use_backend("reference"):
        params = parameters(dtypes=(np.float32,))
    for parameter in params:
        parameter.to(counting)
    optimizer = optim.Adam(params, lr=0.1)
    optimizer.step()
    counting.calls.clear()
    optimizer.step()
    assert counting.calls == ["increment", "adam_step"]
    counting.calls.clear()
    optimizer.lr = 0.2
    optimizer.step()
    assert counting.calls == ["asarray", "assign", "increment", "adam_step"]


def test_parameters_on_two_backends_in_one_optimizer() -> None:
    with backends.use_backend("reference"):
        still, moved = parameters(), parameters()
    optimizers = optim.Adam(still, lr=0.1), optim.Adam(moved, lr=0.1)
    for step in range(4):
        if step == 2:
            for parameter in moved[:2]:
                parameter.to(Recorder())
        for params, optimizer in zip((still, moved), optimizers, strict=True):
            optimizer.zero_grad()
            backward(params, step)
            optimizer.step()
    assert_same(arrays(moved), arrays(still))
    state, expected = (optimizer.state_dict() for optimizer in optimizers)
    assert state["steps"] == 4
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value)
