"""Optimizers against their formulas, written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn import backends, nn, optim
from numbacnn.backends import Backend
from tests.strategies import SIMULATED

RATES = st.floats(0, 1)
FEW = settings(max_examples=4 if SIMULATED else 20)


def run(optimizer: optim.Optimizer, gradients: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The parameters' values after a step with each list of gradients."""
    for step in gradients:
        optimizer.zero_grad()
        for parameter, gradient in zip(optimizer.parameters, step, strict=True):
            parameter.accumulate(gradient)
        optimizer.step()
    return [np.array(parameter.value) for parameter in optimizer.parameters]


def problem(seed: int, steps: int = 4) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    rng = np.random.default_rng(seed)
    shapes = [(2, 3), (4,), ()]
    return [rng.standard_normal(s) for s in shapes], [[rng.standard_normal(s) for s in shapes] for _ in range(steps)]


@given(st.integers(0, 100), RATES, st.sampled_from([0, 0.5, 0.9]), st.booleans(), RATES)
@settings(max_examples=40)
def test_sgd(backend: Backend, seed: int, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
    values, gradients = problem(seed)
    nesterov = nesterov and momentum > 0
    actual = run(optim.SGD([nn.Parameter(v) for v in values], lr, momentum, nesterov, weight_decay), gradients)
    for i, value in enumerate(values):
        velocity = 0
        for step in gradients:
            g = step[i] + weight_decay * value
            velocity = momentum * velocity + g
            value = value - lr * (g + momentum * velocity if nesterov else velocity)
        np.testing.assert_allclose(actual[i], value, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 100), RATES, st.floats(0, 0.99), st.floats(0, 0.999), RATES, st.booleans())
@settings(max_examples=40)
def test_adam(
    backend: Backend, seed: int, lr: float, beta1: float, beta2: float, weight_decay: float, decoupled: bool
) -> None:
    values, gradients = problem(seed)
    kind = optim.AdamW if decoupled else optim.Adam
    parameters = [nn.Parameter(v) for v in values]
    actual = run(kind(parameters, lr, (beta1, beta2), 1e-3, weight_decay), gradients)
    for i, value in enumerate(values):
        m = v = 0
        for t, step in enumerate(gradients, 1):
            g = step[i]
            if decoupled:
                value = value * (1 - lr * weight_decay)
            else:
                g = g + weight_decay * value
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            value = value - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + 1e-3)
        np.testing.assert_allclose(actual[i], value, rtol=1e-9, atol=1e-12)


@given(st.integers(0, 100), RATES, st.floats(0, 0.99), st.floats(0, 0.999), RATES, RATES, st.booleans())
@FEW
def test_nadam(
    backend: Backend, seed: int, lr: float, beta1: float, beta2: float, weight_decay: float, psi: float, decoupled: bool
) -> None:
    values, gradients = problem(seed)
    parameters = [nn.Parameter(v) for v in values]
    actual = run(optim.NAdam(parameters, lr, (beta1, beta2), 1e-3, weight_decay, psi, decoupled), gradients)
    for i, value in enumerate(values):
        m, v, product = 0, 0, 1
        for t, step in enumerate(gradients, 1):
            g = step[i]
            if decoupled:
                value = value * (1 - lr * weight_decay)
            else:
                g = g + weight_decay * value
            mu, following = (beta1 * (1 - 0.96 ** (n * psi) / 2) for n in (t, t + 1))
            product = product * mu
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            ahead = (1 - mu) * g / (1 - product) + following * m / (1 - product * following)
            value = value - lr * ahead / (np.sqrt(v / (1 - beta2**t)) + 1e-3)
        np.testing.assert_allclose(actual[i], value, rtol=1e-9, atol=1e-12)


# Of an alpha near 0 the first variance would be the difference of two equal numbers.
@given(st.integers(0, 100), RATES, st.floats(0.5, 0.99), st.sampled_from([0, 0.5]), RATES, st.booleans())
@FEW
def test_rmsprop(
    backend: Backend, seed: int, lr: float, alpha: float, momentum: float, weight_decay: float, centered: bool
) -> None:
    values, gradients = problem(seed)
    parameters = [nn.Parameter(v) for v in values]
    actual = run(optim.RMSprop(parameters, lr, alpha, 1e-1, weight_decay, momentum, centered), gradients)
    for i, value in enumerate(values):
        squares = mean = buffer = 0
        for step in gradients:
            g = step[i] + weight_decay * value
            squares, mean = alpha * squares + (1 - alpha) * g**2, alpha * mean + (1 - alpha) * g
            root = np.sqrt(np.maximum(squares - mean**2, 0) if centered else squares)
            buffer = momentum * buffer + g / (root + 1e-1)
            value = value - lr * buffer
        np.testing.assert_allclose(actual[i], value, rtol=1e-8, atol=1e-8)


@given(st.integers(0, 100), RATES, RATES, RATES, RATES)
@FEW
def test_adagrad(backend: Backend, seed: int, lr: float, lr_decay: float, weight_decay: float, first: float) -> None:
    values, gradients = problem(seed)
    parameters = [nn.Parameter(v) for v in values]
    actual = run(optim.Adagrad(parameters, lr, lr_decay, weight_decay, first, 1e-3), gradients)
    for i, value in enumerate(values):
        squares = first
        for t, step in enumerate(gradients):
            g = step[i] + weight_decay * value
            squares = squares + g**2
            value = value - lr / (1 + t * lr_decay) * g / (np.sqrt(squares) + 1e-3)
        np.testing.assert_allclose(actual[i], value, rtol=1e-9, atol=1e-12)


@given(st.integers(0, 100), RATES, st.floats(0, 0.99), st.floats(0, 0.99), RATES)
@FEW
def test_lion(backend: Backend, seed: int, lr: float, beta1: float, beta2: float, weight_decay: float) -> None:
    values, gradients = problem(seed)
    actual = run(optim.Lion([nn.Parameter(v) for v in values], lr, (beta1, beta2), weight_decay), gradients)
    for i, value in enumerate(values):
        m = 0
        for step in gradients:
            direction = np.sign(beta1 * m + (1 - beta1) * step[i])
            value = value - lr * (direction + weight_decay * value)
            m = beta2 * m + (1 - beta2) * step[i]
        np.testing.assert_allclose(actual[i], value, rtol=1e-9, atol=1e-12)


def test_adam_moves_by_the_learning_rate_first(backend: Backend) -> None:
    parameter = nn.Parameter([1, 2, 3])
    optimizer = optim.Adam([parameter], lr=0.1)
    run(optimizer, [[np.array([1e-3, -50.0, 0.0])]])
    np.testing.assert_allclose(parameter.value, [0.9, 2.1, 3], rtol=1e-4)
    assert parameter.dtype == np.float32 and optimizer.steps == 1


MAKERS: dict[str, Any] = {
    "plain": lambda p: optim.SGD(p, 0.1),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.1),
    "nadam": lambda p: optim.NAdam(p, lr=0.1, weight_decay=0.01),
    "rmsprop": lambda p: optim.RMSprop(p, momentum=0.5, centered=True),
    "adagrad": lambda p: optim.Adagrad(p, lr_decay=0.1, initial_accumulator_value=0.5),
    "lion": lambda p: optim.Lion(p, lr=0.1),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_saved_state_continues_to_the_same_bits(backend: Backend, maker: str) -> None:
    values, gradients = problem(0, steps=6)
    whole = run(MAKERS[maker]([nn.Parameter(v) for v in values]), gradients)
    first = MAKERS[maker]([nn.Parameter(v) for v in values])
    halfway = run(first, gradients[:3])
    state = first.state_dict()
    second = MAKERS[maker]([nn.Parameter(v) for v in halfway])
    second.lr = 123
    second.load_state_dict(state)
    run(first, gradients[3:])
    for actual, expected in zip(run(second, gradients[3:]), whole, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_state_dicts_are_flat(backend: Backend) -> None:
    parameters = [nn.Parameter(np.ones(2)), nn.Parameter([1])]
    assert optim.SGD(parameters, 0.5).state_dict() == {
        "lr": 0.5,
        "momentum": 0,
        "nesterov": False,
        "weight_decay": 0,
    }
    assert list(optim.SGD(parameters, 0.5, momentum=0.9).state_dict())[4:] == ["0.velocity", "1.velocity"]
    state = optim.Adam(parameters).state_dict()
    assert list(state)[:6] == ["lr", "beta1", "beta2", "eps", "weight_decay", "steps"]
    assert list(state)[6:] == ["0.first_moment", "0.second_moment", "1.first_moment", "1.second_moment"]
    assert state["0.first_moment"].dtype == np.float64 and state["1.first_moment"].dtype == np.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lr": -1}, ValueError, "`lr` -1 must be at least 0"),
        ({"momentum": None}, ValueError, "does not fit SGD: .*missing momentum"),
        ({"0.velocity": None}, ValueError, r"missing 0\.velocity"),
        ({"1.velocity": np.zeros(2)}, ValueError, r"unexpected 1\.velocity"),
        ({"0.velocity": np.zeros(3)}, ValueError, r"0\.velocity has shape \(3,\), must have \(2,\)"),
        ({"0.velocity": np.array(["a", "b"])}, ValueError, r"0\.velocity has dtype <U1"),
    ],
)
def test_states_that_do_not_fit(backend: Backend, change: dict, error: type[Exception], message: str) -> None:
    optimizer = optim.SGD([nn.Parameter([1, 2])], lr=0.5, momentum=0.9)
    state = {"lr": 7, "momentum": 0.1, "nesterov": False, "weight_decay": 0, "0.velocity": np.ones(2)} | change
    with pytest.raises(error, match=message):
        optimizer.load_state_dict({name: value for name, value in state.items() if value is not None})
    assert optimizer.lr == 0.5 and optimizer.momentum == 0.9 and not optimizer.state_dict()["0.velocity"].any()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.SGD([], 0.1), ValueError, "`parameters` is empty"),
        (lambda p: optim.SGD(p[0], 0.1), TypeError, "`parameters` is a single Parameter, must be a list"),
        (
            lambda p: optim.SGD([p[0].value], 0.1),
            TypeError,
            r"`parameters`\[0\] of type (ndarray|DeviceArray) must be a Parameter",
        ),
        (lambda p: optim.SGD([*p, *p], 0.1), ValueError, r"`parameters`\[1\] is in the list twice"),
        (lambda p: optim.SGD(p, -0.1), ValueError, "`lr` -0.1 must be at least 0"),
        (lambda p: optim.SGD(p, "0.1"), TypeError, "`lr` '0.1' must be a number"),
        (lambda p: optim.SGD(p, float("nan")), ValueError, "`lr` nan must be"),
        (lambda p: optim.SGD(p, 0.1, momentum=1), ValueError, "`momentum` 1 must be at least 0 and less than 1"),
        (lambda p: optim.SGD(p, 0.1, momentum=-0.1), ValueError, "`momentum` -0.1 must be"),
        (lambda p: optim.SGD(p, 0.1, nesterov=True), ValueError, "`nesterov` needs `momentum` above 0, not 0"),
        (lambda p: optim.SGD(p, 0.1, 0.9, nesterov=1), TypeError, "`nesterov` 1 must be True or False"),
        (lambda p: optim.SGD(p, 0.1, weight_decay=-1), ValueError, "`weight_decay` -1 must be at least 0"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), ValueError, "`beta2` 1.0 must be at least 0 and less than 1"),
        (lambda p: optim.Adam(p, betas=0.9), ValueError, r"`betas` 0.9 must be a pair \(beta1, beta2\)"),
        (lambda p: optim.AdamW(p, eps=-1), ValueError, "`eps` -1 must be at least 0"),
        (lambda p: optim.NAdam(p, momentum_decay=-1), ValueError, "`momentum_decay` -1 must be at least 0"),
        (lambda p: optim.NAdam(p, decoupled_weight_decay=1), TypeError, "`decoupled_weight_decay` 1 must be True or"),
        (lambda p: optim.RMSprop(p, alpha=1.5), ValueError, r"`alpha` 1.5 must be in 0\.\.1"),
        (lambda p: optim.RMSprop(p, momentum=1), ValueError, "`momentum` 1 must be at least 0 and less than 1"),
        (lambda p: optim.RMSprop(p, centered=None), TypeError, "`centered` None must be True or False"),
        (lambda p: optim.Adagrad(p, lr_decay=-1), ValueError, "`lr_decay` -1 must be at least 0"),
        (lambda p: optim.Adagrad(p, initial_accumulator_value=-1), ValueError, "`initial_accumulator_value` -1 must"),
        (lambda p: optim.Lion(p, betas=(0.9, 1)), ValueError, "`beta2` 1 must be at least 0 and less than 1"),
    ],
)
def test_arguments_that_are_refused(backend: Backend, make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make([nn.Parameter([1, 2])])


def test_named_parameters_are_taken_as_well(backend: Backend) -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.named_parameters(), lr=1)
    assert optimizer.parameters == model.parameters()
    model([[1, 2]])
    model.backward([[1]])
    before = np.array(model.weight.value)
    optimizer.step()
    np.testing.assert_allclose(model.weight.value, before - [[1, 2]], rtol=1e-6)
    optimizer.zero_grad()
    assert not np.asarray(model.weight.grad).any()
    assert repr(optimizer) == "SGD(2 parameters, lr=1.0, momentum=0.0, nesterov=False, weight_decay=0.0)"


def test_the_learning_rate_may_change_between_steps(backend: Backend) -> None:
    parameter = nn.Parameter([0.0])
    optimizer = optim.SGD([parameter], lr=1)
    for rate in (1, 0.5, 0):
        optimizer.lr = rate
        run(optimizer, [[np.ones(1)]])
    np.testing.assert_array_equal(parameter.value, [-1.5])


def test_state_follows_parameters_that_move(backend: Backend) -> None:
    others = [name for name, reason in backends.available().items() if reason is None and name != backend.name]
    if not others:
        pytest.skip("there is one backend only")
    values, gradients = problem(1)
    still = MAKERS["adam"]([nn.Parameter(v) for v in values])
    moving = MAKERS["adam"]([nn.Parameter(v) for v in values])
    expected = run(still, gradients)
    run(moving, gradients[:2])
    for parameter in moving.parameters:
        parameter.to(others[0])
    run(moving, gradients[2:])
    for parameter, value in zip(moving.parameters, expected, strict=True):
        assert parameter.backend.name == others[0]
        np.testing.assert_allclose(parameter.backend.to_numpy(parameter.value), value, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *(("lr", value, ValueError) for value in (float("nan"), float("inf"), -1, 10**400)),
        *(("lr", value, TypeError) for value in (None, "0.1", True, 1j)),
        *(("weight_decay", value, ValueError) for value in (float("nan"), 10**400)),
        *(("momentum", value, ValueError) for value in (1, 10**400)),
        ("nesterov", 1, TypeError),
    ],
)
def test_settings_are_checked_wherever_they_are_set(name: str, value: Any, error: type[Exception]) -> None:
    settings = {"lr": 0.1, "momentum": 0.5, "nesterov": False, "weight_decay": 0.0}
    with pytest.raises(error, match=f"`{name}` "):
        optim.SGD([nn.Parameter([1.0])], **{**settings, name: value})
    optimizer = optim.SGD([nn.Parameter([1.0])], **settings)
    with pytest.raises(error, match=f"`{name}` "):
        setattr(optimizer, name, value)
    with pytest.raises(error, match=f"`{name}` "):
        optimizer.load_state_dict({**optimizer.state_dict(), name: value})
    assert optimizer.state_dict() == {**settings, "0.velocity": 0.0}


@pytest.mark.parametrize("steps", [2**63, 10**400, -1])
def test_more_steps_than_can_be_counted(backend: Backend, steps: int) -> None:
    optimizer = optim.Adam([nn.Parameter([1.0])])
    with pytest.raises(ValueError, match="`steps` "):
        optimizer.load_state_dict({**optimizer.state_dict(), "steps": steps})
    optimizer.step()
    assert optimizer.steps == 1


def test_arrays_may_begin_later(backend: Backend) -> None:
    values, gradients = problem(2)
    late = optim.RMSprop([nn.Parameter(v) for v in values], 0.1)
    run(late, gradients[:1])
    squares = late.state_dict()["0.square_average"]
    late.momentum, late.centered = 0.5, True
    state = late.state_dict()
    assert list(state)[6:9] == ["0.square_average", "0.gradient_average", "0.momentum_buffer"]
    np.testing.assert_array_equal(state["0.square_average"], squares)
    assert not state["0.momentum_buffer"].any()
    whole = run(late, gradients[1:])
    again = optim.RMSprop([nn.Parameter(v) for v in values], 0.1, momentum=0.5, centered=True)
    run(again, gradients[:1])
    again.load_state_dict(state)
    for parameter, value in zip(again.parameters, late.parameters, strict=True):
        assert parameter.shape == value.shape
    late.centered = False
    assert not np.array_equal(run(late, gradients[:1])[0], whole[0])


def test_momentum_may_begin_later(backend: Backend) -> None:
    (parameter,) = parameters = [nn.Parameter(np.zeros(2))]
    optimizer = optim.SGD(parameters, lr=1.0)
    run(optimizer, [[np.array([1.0, 2.0])]])
    optimizer.momentum = 0.5
    run(optimizer, [[np.array([1.0, 2.0])]] * 2)
    # Velocities of 1 and 1.5 times the gradient, after the step without.
    np.testing.assert_array_equal(backend.to_numpy(parameter.value), [-3.5, -7.0])
    np.testing.assert_array_equal(optimizer.state_dict()["0.velocity"], [1.5, 3.0])
