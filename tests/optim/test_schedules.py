"""Learning-rate schedules against closed forms and, where it is installed, PyTorch."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn import backends, nn, optim

Maker = Callable[[optim.Optimizer], optim.Schedule]

MAKERS: dict[str, Maker] = {
    "step": lambda o: optim.StepLR(o, 3, gamma=0.5),
    "multi": lambda o: optim.MultiStepLR(o, [5, 2, 5, 9]),
    "cosine": lambda o: optim.CosineAnnealingLR(o, 7, eta_min=0.01),
    "one cycle": lambda o: optim.OneCycleLR(o, 2.0, 20),
    "one cycle linear": lambda o: optim.OneCycleLR(o, 2.0, 20, 0.45, "linear", 10, 100, base_momentum=0.7),
    "one cycle lr": lambda o: optim.OneCycleLR(o, 2.0, 13, cycle_momentum=False),
    "warm step": lambda o: optim.LinearWarmup(4, optim.StepLR(o, 3)),
    "warm cosine": lambda o: optim.LinearWarmup(3, optim.CosineAnnealingLR(o, 9), start_factor=0.1),
}
STEPS = 12
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@pytest.fixture(autouse=True)
def reference_by_default() -> Iterator[None]:
    with backends.use_backend("reference"):
        yield


def optimizer_of(lr: float = 0.4, momentum: float = 0.5) -> optim.SGD:
    return optim.SGD([nn.Parameter([1.0])], lr, momentum)


def course(schedule: optim.Schedule, steps: int = STEPS) -> list[tuple[float, float]]:
    """Learning rate and momentum, now and after each step."""
    optimizer = schedule.optimizer
    found = [(optimizer.lr, optimizer.momentum)]
    for _ in range(steps):
        schedule.step()
        found.append((optimizer.lr, optimizer.momentum))
    return found


def rates(schedule: optim.Schedule, steps: int = STEPS) -> list[float]:
    return [lr for lr, _ in course(schedule, steps)]


def test_step_lr_by_hand() -> None:
    actual = rates(optim.StepLR(optimizer_of(), 3, gamma=0.5), 7)
    assert actual == [0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1]


def test_multi_step_lr_by_hand() -> None:
    actual = rates(optim.MultiStepLR(optimizer_of(), (4, 1, 4), gamma=0.5), 5)
    assert actual == [0.4, 0.2, 0.2, 0.2, 0.05, 0.05]
    assert rates(optim.MultiStepLR(optimizer_of(), ()), 2) == [0.4] * 3


def test_cosine_by_hand() -> None:
    actual = rates(optim.CosineAnnealingLR(optimizer_of(), 4, eta_min=0.2), 6)
    part = math.sqrt(0.5)
    expected = [0.4, 0.3 + 0.1 * part, 0.3, 0.3 - 0.1 * part, 0.2, 0.3 - 0.1 * part, 0.3]
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_one_cycle_by_hand() -> None:
    schedule = optim.OneCycleLR(optimizer_of(), 1.0, 10, 0.5, "linear", div_factor=5, final_div_factor=4)
    up, down = [0.2, 0.4, 0.6, 0.8, 1.0], [1 - 0.95 * i / 5 for i in range(1, 6)]
    np.testing.assert_allclose(rates(schedule, 9), up + down, rtol=1e-12)
    schedule = optim.OneCycleLR(optimizer_of(), 1.0, 10, 0.5, base_momentum=0.7, max_momentum=0.9)
    expected = [0.8 + 0.1 * math.cos(math.pi * i / 4) for i in range(5)]
    np.testing.assert_allclose([momentum for _, momentum in course(schedule, 4)], expected, rtol=1e-12)


def test_warm_up_by_hand() -> None:
    actual = rates(optim.LinearWarmup(4, optim.StepLR(optimizer_of(), 2), start_factor=0.2), 8)
    np.testing.assert_allclose(actual, [0.08, 0.16, 0.24, 0.32, 0.4, 0.4, 0.04, 0.04, 0.004], rtol=1e-12)


def torch_course(name: str, lr: float = 0.4, momentum: float = 0.5) -> list[tuple[float, float]]:
    import torch
    from torch.optim import lr_scheduler as theirs

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr, momentum)

    def warm(start: float, steps: int, then: Any) -> Any:
        linear = theirs.LinearLR(optimizer, start, total_iters=steps)
        return theirs.SequentialLR(optimizer, [linear, then], [steps])

    scheduler = {
        "step": lambda: theirs.StepLR(optimizer, 3, 0.5),
        "multi": lambda: theirs.MultiStepLR(optimizer, [5, 2, 5, 9]),
        "cosine": lambda: theirs.CosineAnnealingLR(optimizer, 7, 0.01),
        "one cycle": lambda: theirs.OneCycleLR(optimizer, 2.0, 20),
        "one cycle linear": lambda: theirs.OneCycleLR(
            optimizer,
            2.0,
            20,
            pct_start=0.45,
            anneal_strategy="linear",
            div_factor=10,
            final_div_factor=100,
            base_momentum=0.7,
        ),
        "one cycle lr": lambda: theirs.OneCycleLR(optimizer, 2.0, 13, cycle_momentum=False),
        "warm step": lambda: warm(1 / 3, 4, theirs.StepLR(optimizer, 3)),
        "warm cosine": lambda: warm(0.1, 3, theirs.CosineAnnealingLR(optimizer, 9)),
    }[name]()
    group, found = optimizer.param_groups[0], []
    for _ in range(STEPS + 1):
        found.append((group["lr"], group["momentum"]))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MAKERS)
def test_the_numbers_are_pytorch_s(name: str) -> None:
    np.testing.assert_allclose(course(MAKERS[name](optimizer_of())), torch_course(name), rtol=1e-9, atol=1e-15)


@every_maker
def test_each_step_is_a_function_of_the_count(make: Maker) -> None:
    schedule = make(optimizer_of())
    whole = course(schedule)
    assert (schedule.count, schedule.optimizer.lr) == (STEPS, whole[-1][0])
    for count, (lr, _) in enumerate(whole):
        assert schedule.lr_at(count) == lr
    assert schedule.count == STEPS


@every_maker
@pytest.mark.parametrize("before", [0, 3, 5])
def test_a_saved_state_continues_to_the_same_bits(make: Maker, before: int) -> None:
    whole = course(make(optimizer_of()))
    first = make(optimizer_of())
    for _ in range(before):
        first.step()
    state, settings = json.loads(json.dumps(first.state_dict())), first.optimizer.state_dict()
    optimizer = optimizer_of(lr=7)
    optimizer.load_state_dict(settings)
    second = make(optimizer)  # which takes the rate of the moment for the one that it scales
    second.load_state_dict(state)
    assert course(second, STEPS - before) == whole[before:]
    assert second.state_dict() == {**state, "count": STEPS}


@given(st.integers(1, 30), st.floats(0, 1), st.sampled_from(["cos", "linear"]))
def test_one_cycle_stays_within_its_bounds(total: int, start: float, strategy: str) -> None:
    schedule = optim.OneCycleLR(optimizer_of(), 2.0, total, start, strategy)
    for lr, momentum in course(schedule, total):
        assert 2.0 / 25 / 1e4 * (1 - 1e-9) <= lr <= 2.0 * (1 + 1e-9)
        assert 0.85 - 1e-9 <= momentum <= 0.95 + 1e-9
    with pytest.raises(ValueError, match=f"step {total + 1} is beyond `total_steps` {total}"):
        schedule.step()
    assert schedule.count == total


def test_momentum_is_cycled_where_there_is_one() -> None:
    plain = optimizer_of(momentum=0)
    optim.OneCycleLR(plain, 1.0, 10).step()
    assert plain.momentum == 0
    adam = optim.AdamW([nn.Parameter([1.0])], betas=(0.9, 0.99))
    optim.OneCycleLR(adam, 1.0, 10, pct_start=0.2).step()
    assert (adam.lr, adam.beta1, adam.beta2) == (1.0, 0.85, 0.99)


def test_a_captured_step_s_settings_follow(backend: backends.Backend) -> None:
    (parameter,) = parameters = [nn.Parameter(np.zeros(2))]
    optimizer = optim.SGD(parameters, lr=1.0)
    schedule = optim.StepLR(optimizer, 1, gamma=0.5, per="batch")
    optimizer.prepare()
    version = optimizer.version
    for _ in range(3):
        optimizer.zero_grad()
        parameter.accumulate([1.0, 2.0])
        optimizer.step()
        schedule.step()
    np.testing.assert_array_equal(backend.to_numpy(parameter.value), [-1.75, -3.5])
    assert optimizer.version == version


def test_when_fit_steps() -> None:
    optimizer = optimizer_of()
    assert optim.StepLR(optimizer, 1).per == optim.CosineAnnealingLR(optimizer, 1).per == "epoch"
    assert optim.OneCycleLR(optimizer, 1.0, 1).per == "batch"
    assert optim.LinearWarmup(1, optim.MultiStepLR(optimizer, [1], per="batch")).per == "batch"
    assert repr(optim.StepLR(optimizer_of(), 1)) == "StepLR(count=0, per='epoch', lr=0.4)"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: optim.StepLR(0.1, 2), TypeError, "`optimizer` of type float must be an Optimizer"),
        (lambda o: optim.StepLR(o, 0), ValueError, "`step_size` 0 must be at least 1"),
        (lambda o: optim.StepLR(o, 1, -1), ValueError, "`gamma` -1 must be at least 0"),
        (lambda o: optim.StepLR(o, 1, per="step"), ValueError, "`per` 'step' must be one of 'batch', 'epoch'"),
        (lambda o: optim.MultiStepLR(o, [2, 1.5]), TypeError, "`milestones` 1.5 must be an int"),
        (lambda o: optim.CosineAnnealingLR(o, 0), ValueError, "`t_max` 0 must be at least 1"),
        (lambda o: optim.CosineAnnealingLR(o, 5, -0.1), ValueError, "`eta_min` -0.1 must be"),
        (lambda o: optim.OneCycleLR(o, -1, 5), ValueError, "`max_lr` -1 must be at least 0"),
        (lambda o: optim.OneCycleLR(o, 1, 0), ValueError, "`total_steps` 0 must be at least 1"),
        (lambda o: optim.OneCycleLR(o, 1, 5, 1.5), ValueError, "`pct_start` 1.5 must be in 0"),
        (lambda o: optim.OneCycleLR(o, 1, 5, anneal_strategy="log"), ValueError, "`anneal_strategy` 'log' must be"),
        (lambda o: optim.OneCycleLR(o, 1, 5, div_factor=0), ValueError, "`div_factor` 0 must be above 0"),
        (lambda o: optim.OneCycleLR(o, 1, 5, max_momentum=1), ValueError, "`max_momentum` 1 must be"),
        (
            lambda o: optim.OneCycleLR(optimizer_of(momentum=0), 1, 5, cycle_momentum=True),
            ValueError,
            "`cycle_momentum` needs an optimizer with momentum",
        ),
        (lambda o: optim.LinearWarmup(3, o), TypeError, "`then` of type SGD must be a Schedule"),
        (lambda o: optim.LinearWarmup(0, optim.StepLR(o, 1)), ValueError, "`steps` 0 must be at least 1"),
        (lambda o: optim.LinearWarmup(1, optim.StepLR(o, 1), 0), ValueError, "`start_factor` 0 must be above 0"),
        (lambda o: optim.LinearWarmup(1, optim.StepLR(o, 1), 2), ValueError, r"`start_factor` 2\S* must be in 0"),
    ],
)
def test_arguments_that_are_refused(make: Maker, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(optimizer_of())


@every_maker
@pytest.mark.parametrize(
    ("change", "error"),
    [
        *(({"count": count}, ValueError) for count in (-1, 2**63, 10**400)),
        *(({"count": count}, TypeError) for count in (1.5, True, "1", None)),
        *(({"base_lr": rate}, ValueError) for rate in (-1, math.nan, math.inf, 10**400)),
        ({"base_lr": "1"}, TypeError),
        *(({key: 1}, ValueError) for key in ("x", 1)),
    ],
)
def test_states_that_do_not_fit(make: Maker, change: dict[str, Any], error: type[Exception]) -> None:
    schedule = make(optimizer_of())
    schedule.step()
    former, lr = schedule.state_dict(), schedule.optimizer.lr
    with pytest.raises(error):
        schedule.load_state_dict({**former, **change})
    assert (schedule.state_dict(), schedule.optimizer.lr) == (former, lr)


def test_a_count_beyond_the_end_is_refused_as_a_whole() -> None:
    schedule = optim.OneCycleLR(optimizer_of(), 1.0, 5)
    with pytest.raises(ValueError, match="step 6 is beyond `total_steps` 5"):
        schedule.load_state_dict({"count": 6, "base_lr": 0.5})
    assert schedule.state_dict() == {"count": 0, "base_lr": 1.0}


class Halving(optim.Schedule):
    """What the base class asks of a subclass, and no more."""

    def lr_at(self, count: int) -> float:
        return self.base_lr / 2 ** (count + 1)


class Table(optim.Schedule):
    """Whose rates are there only after the base class is through."""

    def __init__(self, optimizer: optim.Optimizer, rates: list[Any]) -> None:
        super().__init__(optimizer, "epoch")
        self.rates = rates

    def lr_at(self, count: int) -> Any:
        return self.rates[count]


class LongerTable(Table):
    def __init__(self, optimizer: optim.Optimizer, rates: list[Any]) -> None:
        super().__init__(optimizer, [])
        self.rates = rates


def test_a_schedule_of_one_s_own_is_set_at_once() -> None:
    assert rates(Halving(optimizer_of(), "epoch"), 2) == [0.2, 0.1, 0.05]
    for kind in (Table, LongerTable):
        assert rates(kind(optimizer_of(), [0.3, 0.5]), 1) == [0.3, 0.5]
    assert rates(optim.LinearWarmup(2, Halving(optimizer_of(), "epoch"), 0.5), 3) == pytest.approx(
        [0.1, 0.15, 0.2, 0.1]
    )


def test_a_copy_is_where_the_original_is() -> None:
    schedule = Halving(optimizer_of(), "epoch")
    schedule.step()
    for other in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert (other.count, other.optimizer.lr) == (1, 0.1)


@pytest.mark.parametrize(
    ("rate", "error"),
    [(math.nan, ValueError), (math.inf, ValueError), (-0.1, ValueError), (10**400, ValueError), ("0.1", TypeError)],
)
def test_rates_that_are_none_are_refused(rate: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="`lr`"):
        Table(optimizer_of(), [rate])
    schedule = Table(optimizer_of(), [0.3, rate])
    with pytest.raises(error, match="`lr`"):
        schedule.step()
    assert (schedule.count, schedule.optimizer.lr) == (0, 0.3)
    with pytest.raises(error, match="`lr`"):
        schedule.load_state_dict({"count": 1, "base_lr": 7})
    assert schedule.state_dict() == {"count": 0, "base_lr": 0.4}


def test_settings_that_the_optimizer_has_not() -> None:
    class Typo(Halving):
        def settings_at(self, count: int) -> dict[str, float]:
            return {"learning_rate": 0.1}

    with pytest.raises(ValueError, match=r"`settings_at` gives \['learning_rate'\]; the optimizer's"):
        Typo(optimizer_of(), "epoch")
    with pytest.raises(ValueError, match="`base_lr` nan"):
        optim.Schedule(optimizer_of(), "epoch", math.nan)
    with pytest.raises(NotImplementedError, match="Schedule must define `lr_at`"):
        optim.Schedule(optimizer_of(), "epoch")


def test_a_rate_that_grows_beyond_all_floats() -> None:
    schedule = optim.StepLR(optimizer_of(), 1, gamma=1e200)
    schedule.step()
    with pytest.raises(ValueError, match="the settings of StepLR after 2 steps are too large"):
        schedule.step()
    assert (schedule.count, schedule.optimizer.lr) == (1, 0.4 * 1e200)


@pytest.mark.parametrize("state", [None, 5, "ab", ["count", "base_lr"]])
def test_a_state_that_is_no_dict(state: Any) -> None:
    with pytest.raises(TypeError, match=r"`state` of type \w+ must be a dict"):
        optim.StepLR(optimizer_of(), 1).load_state_dict(state)
