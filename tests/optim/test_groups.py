"""Groups of parameters with settings of their own: the numbers, schedules, captures, states, errors."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import backends, nn, optim
from numbacnn.backends import Backend
from numbacnn.io import load_checkpoint, save_checkpoint
from numbacnn.training import TrainingStep
from tests.recorder import Recorder
from tests.strategies import SIMULATED
from tests.training.toy import assert_same, batches

SHAPES = [(2, 3), (), (40,), (5, 1, 2)]
STEPS = 20
Groups = list[dict[str, Any]]

# Each with options that PyTorch has too, and those of the second group.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "plain": ("SGD", {"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.02, "weight_decay": 0.0}),
    "momentum": ("SGD", {"lr": 0.1}, {"momentum": 0.9, "lr": 0.02, "weight_decay": 0.3}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9}, {"nesterov": True, "lr": 0.02}),
    "adam": ("Adam", {"weight_decay": 0.1}, {"lr": 0.02, "betas": (0.8, 0.99), "weight_decay": 0.0}),
    "adamw": ("AdamW", {"lr": 0.1}, {"lr": 0.02, "weight_decay": 0.3, "eps": 1e-3}),
    "nadam": ("NAdam", {"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.02, "momentum_decay": 0.5, "betas": (0.8, 0.99)}),
    "nadamw": ("NAdam", {"lr": 0.1, "weight_decay": 0.1}, {"decoupled_weight_decay": True}),
    "rmsprop": ("RMSprop", {"weight_decay": 0.1}, {"lr": 0.02, "alpha": 0.9, "weight_decay": 0.0}),
    "rmsprop momentum": ("RMSprop", {"momentum": 0.9}, {"lr": 0.02, "weight_decay": 0.1, "eps": 1e-3}),
    "rmsprop centered": ("RMSprop", {"centered": True}, {"momentum": 0.5, "lr": 0.02, "weight_decay": 0.1}),
    "adagrad": ("Adagrad", {"initial_accumulator_value": 0.1, "lr": 0.1}, {"lr_decay": 0.1, "weight_decay": 0.1}),
    "lion": ("Lion", {"lr": 0.1}, {"betas": (0.8, 0.9), "weight_decay": 0.1, "lr": 0.02}),
}
every_kind = pytest.mark.parametrize("kind", ["momentum", "nadam", "rmsprop centered"] if SIMULATED else KINDS)


def values(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in SHAPES]


def optimizer_of(kind: str, parameters: list[Any], package: Any = optim) -> Any:
    """Of two groups, the second one of the parameters from the third on."""
    name, options, others = KINDS[kind]
    return getattr(package, name)([{"params": parameters[:2]}, {"params": parameters[2:], **others}], **options)


def take_steps(optimizer: optim.Optimizer, steps: range = range(STEPS)) -> list[np.ndarray]:
    for step in steps:
        optimizer.zero_grad()
        for parameter, gradient in zip(optimizer.parameters, values(step + 1), strict=True):
            parameter.accumulate(gradient)
        optimizer.step()
    return [np.array(p.backend.to_numpy(p.value)) for p in optimizer.parameters]


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(value) for value in values()]


@pytest.fixture
def in_float64() -> Iterator[None]:
    """What NAdam of PyTorch multiplies in, whatever the parameters are."""
    import torch

    former = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(former)


@pytest.mark.torch
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lion"])
def test_twenty_steps_are_pytorch_s(backend: Backend, kind: str, in_float64: None) -> None:
    import torch

    tensors = [torch.nn.Parameter(torch.tensor(value)) for value in values()]
    theirs = optimizer_of(kind, tensors, torch.optim)
    for step in range(STEPS):
        for tensor, gradient in zip(tensors, values(step + 1), strict=True):
            tensor.grad = torch.tensor(gradient)
        theirs.step()
    for actual, tensor in zip(take_steps(optimizer_of(kind, parameters())), tensors, strict=True):
        np.testing.assert_allclose(actual, tensor.detach().numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "NAdam", "RMSprop", "Adagrad"])
def test_defaults_are_pytorch_s(name: str) -> None:
    import torch

    theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(1))]).param_groups[0]
    with backends.use_backend("reference"):
        (group,) = getattr(optim, name)([nn.Parameter([1.0])]).param_groups
    own = {name: value for name, value in group.items() if name not in ("params", "beta1", "beta2")}
    assert own == {name: theirs[name] for name in own}
    assert "betas" not in theirs or group["betas"] == theirs["betas"]


@every_kind
def test_groups_are_optimizers_of_their_own(backend: Backend, kind: str) -> None:
    name, options, others = KINDS[kind]
    steps, together = range(3), take_steps(optimizer_of(kind, parameters()), range(3))
    first, second = parameters(), parameters()
    alone = getattr(optim, name)(first, **options), getattr(optim, name)(second, **{**options, **others})
    for i, (actual, one, other) in enumerate(zip(together, *(take_steps(one, steps) for one in alone), strict=True)):
        np.testing.assert_array_equal(actual, one if i < 2 else other)


@every_kind
def test_a_saved_state_continues_to_the_same_bits(backend: Backend, kind: str) -> None:
    whole = take_steps(optimizer_of(kind, parameters()), range(4))
    first = optimizer_of(kind, parameters())
    first.lr /= 2
    first.lr *= 2
    halfway = take_steps(first, range(2))
    state = first.state_dict()
    numbers = json.dumps({name: value for name, value in state.items() if not isinstance(value, np.ndarray)})
    state |= json.loads(numbers)
    second = optimizer_of(kind, [nn.Parameter(value) for value in halfway])
    second.lr, second.param_groups[1]["lr"] = 123, 7
    second.load_state_dict(state)
    assert repr(second) == repr(first)
    other = copy.deepcopy(first), pickle.loads(pickle.dumps(first))
    proportion = first.param_groups[1].base_lr / first.param_groups[0].base_lr
    for optimizer in (first, second, *other):
        for actual, expected in zip(take_steps(optimizer, range(2, 4)), whole, strict=True):
            np.testing.assert_array_equal(actual, expected)
        optimizer.lr = 2
        assert optimizer.param_groups[1]["lr"] == pytest.approx(2 * proportion)


def model_of(kind: str) -> tuple[nn.Sequential, optim.Optimizer]:
    nc.manual_seed(5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    return model, optimizer_of(kind, model.parameters())


def train(kind: str, recorder: Recorder | None, change: Callable[[optim.Optimizer], None]) -> tuple[Any, list[Any]]:
    with backends.use_backend("reference"):
        model, optimizer = model_of(kind)
    if recorder is not None:
        model.to(recorder)
    step, modes = TrainingStep(model, nn.CrossEntropyLoss(), optimizer, capture=recorder is not None), []
    for i, (x, y) in enumerate(batches(7)):
        if i == 4:
            change(optimizer)
        step(x, y)
        modes.append(step.mode)
    arrays = {name: value for name, value in optimizer.state_dict().items() if isinstance(value, np.ndarray)}
    return {**model.state_dict(), **arrays}, modes


def change_numbers(optimizer: optim.Optimizer) -> None:
    optimizer.lr *= 0.5
    optimizer.param_groups[1]["lr"] = 0.03
    optimizer.param_groups[0]["weight_decay"] = 0.2


@every_kind
def test_a_captured_step_is_a_plain_one_and_follows_settings(kind: str) -> None:
    recorder = Recorder()
    actual, modes = train(kind, recorder, change_numbers)
    assert_same(actual, train(kind, None, change_numbers)[0])
    assert modes == ["plain", *["captured"] * 6] and recorder.captured == 1
    unchanged = train(kind, None, lambda optimizer: None)[0]
    assert not any(np.array_equal(actual[name], unchanged[name]) for name in ("1.weight", "3.weight"))


def test_on_the_backends_a_captured_step_is_a_plain_one(backend: Backend) -> None:
    results = []
    for capture in (False, True):
        model, optimizer = model_of("nadam")
        step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer, capture=capture)
        for i, (x, y) in enumerate(batches(4)):
            if i == 3:
                change_numbers(optimizer)
            step(x, y)
        results.append({**model.state_dict(), **{n: v for n, v in optimizer.state_dict().items() if n[0].isdigit()}})
    assert_same(*results)
    products = [results[0][f"{i}.mu_product"] for i in range(4)]
    assert products[0] == products[1] != products[2] == products[3]


def test_a_choice_of_one_group_costs_another_capture() -> None:
    def change(optimizer: optim.Optimizer) -> None:
        optimizer.param_groups[0]["nesterov"] = True

    recorder = Recorder()
    actual, _ = train("nesterov", recorder, change)
    assert_same(actual, train("nesterov", None, change)[0])
    assert recorder.captured == 2


def test_settings_are_read_and_set(backend: Backend) -> None:
    optimizer = optimizer_of("adam", parameters())
    first, second = optimizer.param_groups
    assert [*first] == ["params", "lr", "beta1", "beta2", "eps", "weight_decay"]
    assert [*first["params"], *second["params"]] == optimizer.parameters
    assert (first["betas"], second["betas"], second["beta1"]) == ((0.9, 0.999), (0.8, 0.99), 0.8)
    assert len(first) == 6 and "lr" in first and "momentum" not in first and first.get("momentum", 0) == 0
    second["betas"] = 0.7, 0.9
    assert (second["beta1"], optimizer.betas, optimizer.beta1) == (0.7, (0.9, 0.999), 0.9)
    optimizer.beta1 = 0.5
    optimizer.weight_decay = 0.25
    assert [group["betas"] for group in optimizer.param_groups] == [(0.5, 0.999), (0.5, 0.9)]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.25]
    for name, value, error, message in (
        ("lr", -1, ValueError, "`lr` -1 must be at least 0"),
        ("lr", "1", TypeError, "`lr` '1' must be a number"),
        ("betas", (0.5, 1), ValueError, "`beta2` 1 must be"),
        ("betas", 0.5, ValueError, r"`betas` 0.5 must be a pair \(beta1, beta2\)"),
        ("momentum", 0.5, ValueError, "`momentum` is no setting of Adam, which has betas, lr, beta1, "),
        ("params", [], ValueError, "`params` of a group cannot be set"),
    ):
        with pytest.raises(error, match=message):
            second[name] = value
    with pytest.raises(KeyError):
        second["momentum"]
    assert (second["lr"], second["betas"]) == (0.02, (0.5, 0.9))


def test_what_is_printed(backend: Backend) -> None:
    optimizer = optimizer_of("adagrad", parameters())
    rest = "eps=1e-10"
    groups = f"2 parameters, lr=0.1, lr_decay={{}}, weight_decay={{}}, {rest}"
    first, second = groups.format(0.0, 0.0), groups.format(0.1, 0.1)
    assert repr(optimizer) == f"Adagrad([{first}], [{second}], steps=0)"
    assert repr(optimizer.param_groups[0]) == f"ParameterGroup({first})"
    assert repr(optim.StepLR(optimizer, 1)) == "StepLR(count=0, per='epoch', lr=[0.1, 0.1])"


def rates(optimizer: optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_rates_stay_in_proportion(backend: Backend) -> None:
    optimizer = optimizer_of("plain", parameters())
    for lr, expected in ((0.2, 0.04), (0, 0), (0.05, 0.01)):
        optimizer.lr = lr
        assert rates(optimizer) == pytest.approx([lr, expected])
    optimizer.param_groups[1]["lr"] = 0.5
    optimizer.lr = 0.05
    assert rates(optimizer) == pytest.approx([0.05, 0.5])
    optimizer.lr = 0.1
    assert rates(optimizer) == pytest.approx([0.1, 1])
    with pytest.raises(ValueError, match="`lr` inf must be at least 0"):
        optimizer.param_groups[1]["lr"] = 1e300
        optimizer.lr = 1e308
    assert optimizer.lr == 0.1
    optimizer.param_groups[0]["lr"] = 0
    with pytest.raises(ValueError, match=r"`lr` 1\.0 has no proportion to that of the first group, which is 0"):
        optimizer.lr = 1
    same = optim.SGD([{"params": params} for params in parameters()], lr=0)
    same.lr = 0.3
    assert rates(same) == [0.3] * 4


SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda o, package: package.StepLR(o, 3, gamma=0.5),
    "multi": lambda o, package: package.MultiStepLR(o, [5, 2, 9]),
    "cosine": lambda o, package: package.CosineAnnealingLR(o, 7, 0.01),
    "one cycle": lambda o, package: package.OneCycleLR(o, [2.0, 0.5], 20),
}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", ["nesterov", "adamw"])
def test_schedules_are_pytorch_s(kind: str, name: str) -> None:
    import torch

    tensors = [torch.nn.Parameter(torch.tensor(value)) for value in values()]
    theirs = optimizer_of(kind, tensors, torch.optim)
    scheduler, found, expected = SCHEDULES[name](theirs, torch.optim.lr_scheduler), [], []
    with backends.use_backend("reference"):
        ours = optimizer_of(kind, parameters())
    schedule = SCHEDULES[name](ours, optim)
    momentum = "momentum" if kind == "nesterov" else "betas"
    for _ in range(12):
        for optimizer, noted in ((ours, found), (theirs, expected)):
            noted.append([np.hstack([group["lr"], group[momentum]]) for group in optimizer.param_groups])
        theirs.step()
        scheduler.step()
        schedule.step()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_schedules_scale_each_group_s_own_rate(backend: Backend) -> None:
    optimizer = optimizer_of("plain", parameters())
    schedule = optim.LinearWarmup(2, optim.StepLR(optimizer, 2, gamma=0.5), start_factor=0.5)
    course = [rates(optimizer)]
    for _ in range(4):
        schedule.step()
        course.append(rates(optimizer))
    expected = np.array([0.5, 0.75, 1, 1, 0.5])
    np.testing.assert_allclose(np.transpose(course), [0.1 * expected, 0.02 * expected])
    assert schedule.state_dict() == {"count": 4, "base_lr": [0.1, 0.02]} and schedule.lr_at(0) == 0.05
    again = optim.LinearWarmup(2, optim.StepLR(optimizer_of("plain", parameters()), 2, gamma=0.5), start_factor=0.5)
    again.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert rates(again.optimizer) == course[-1]
    for state in (0.1, [0.1], [0.1, -1]):
        with pytest.raises(ValueError, match="`base_lr` "):
            again.load_state_dict({"count": 1, "base_lr": state})
    with pytest.raises(ValueError, match=r"`base_lr` \[0.1\]"):
        optim.StepLR(optim.SGD(parameters()), 1).load_state_dict({"count": 1, "base_lr": [0.1]})
    with pytest.raises(ValueError, match=r"`max_lr` \[1\] must be a number, or a list of one for each of 2 groups"):
        optim.OneCycleLR(optimizer, [1], 5)
    assert rates(again.optimizer) == course[-1]
    optimizer.lr = 0.1
    assert rates(optimizer) == [0.1, 0.02]


def test_no_decay_is_of_all_groups(backend: Backend) -> None:
    params, others = parameters(), parameters()
    groups: Groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.5}]
    optimizer = optim.SGD(groups, 0.1, weight_decay=0.2, no_decay=[params[0], params[3]])
    each = optim.SGD([{"params": p, "weight_decay": d} for p, d in zip(others, (0, 0.2, 0.5, 0), strict=True)], 0.1)
    for actual, expected in zip(*(take_steps(one, range(3)) for one in (optimizer, each)), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_checkpoint_has_groups(tmp_path: Path, backend: Backend) -> None:
    path = tmp_path / "run.safetensors"
    model, optimizer = model_of("nadam")
    step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer)
    for x, y in batches(3):
        step(x, y)
    optimizer.param_groups[1]["lr"] = 0.1 + 0.2
    save_checkpoint(path, model, optimizer, epoch=0)
    other, fresh = model_of("nadam")
    load_checkpoint(path, other, fresh)
    state = fresh.state_dict()
    assert_same(state, optimizer.state_dict())
    assert [group["params"] for group in state["param_groups"]] == [[0, 1], [2, 3]]


def test_a_file_of_one_group_is_as_it_was(backend: Backend) -> None:
    old = {"lr": 7.0, "momentum": 0.1, "nesterov": False, "weight_decay": 0.0, "0.velocity": np.ones(2)}
    optimizer = optim.SGD([{"params": [nn.Parameter([1.0, 2.0])]}], lr=0.5, momentum=0.9)
    optimizer.load_state_dict(old)
    assert_same(optimizer.state_dict(), old)
    optimizer.lr = 14
    assert optimizer.param_groups[0].base_lr == 14


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("param_groups"), "`state` is of one group of parameters, this SGD has several"),
        (lambda s: s["param_groups"].pop(), "`state` must have a list of 2 groups as 'param_groups'"),
        (lambda s: s["param_groups"][1].pop("lr"), r"`state` must have in 'param_groups'\[1\] a dict of base_lr, lr, "),
        (lambda s: s["param_groups"][1].update(x=1), r"in 'param_groups'\[1\] a dict"),
        (lambda s: s["param_groups"].__setitem__(0, 3), r"in 'param_groups'\[0\] a dict"),
        (lambda s: s["param_groups"][1].update(params=[1, 2]), r"'param_groups'\[1\] of `state` is of the parameters"),
        (lambda s: s["param_groups"][1].update(lr=-1), "`lr` -1 must be at least 0"),
        (lambda s: s["param_groups"][1].update(base_lr=-1), "`base_lr` -1 must be at least 0"),
        (lambda s: s.update(lr=1), "unexpected lr"),
        (lambda s: s.pop("2.velocity"), r"missing 2\.velocity"),
    ],
)
def test_states_that_do_not_fit(backend: Backend, change: Callable[[Any], Any], message: str) -> None:
    optimizer = optimizer_of("momentum", parameters())
    before, state = optimizer.state_dict(), copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["lr"] = 5
    change(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert_same(optimizer.state_dict(), before)
    with pytest.raises(ValueError, match="`state` is of several groups of parameters, this SGD has one"):
        optim.SGD(parameters()).load_state_dict(before)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (
            lambda p: [{"params": p, "rate": 1}],
            ValueError,
            r"`parameters\[0\]\['rate'\]` is no setting of SGD, which h",
        ),
        (lambda p: [{"params": p, "lr": -1}], ValueError, r"`parameters\[0\]\['lr'\]` -1 must be at least 0"),
        (lambda p: [{"params": p, "momentum": 1}], ValueError, r"`parameters\[0\]\['momentum'\]` 1 must be at least 0"),
        (lambda p: [{"params": p, "nesterov": True}], ValueError, "`nesterov` needs `momentum` above 0"),
        (lambda p: [{"params": p[:1]}, {"params": p}], ValueError, r"\[1\]\['params'\]\[0\] is in group 0, too"),
        (lambda p: [{"params": [*p, p[0]]}], ValueError, r"`parameters`\[0\]\['params'\]\[4\] is in the list twice"),
        (lambda p: [{"params": p}, {"params": []}], ValueError, r"`parameters`\[1\]\['params'\] is empty"),
        (lambda p: [{"lr": 1}], ValueError, r"`parameters`\[0\] has the keys \['lr'\], must have 'params'"),
        (lambda p: [{"params": p[:2]}, p[2]], TypeError, r"`parameters`\[1\] of type Parameter must be a dict"),
        (lambda p: [{"params": [1.0]}], TypeError, r"`parameters`\[0\]\['params'\]\[0\] of type float must be a Param"),
        (lambda p: {"params": p}, TypeError, "`parameters` is a single dict, must be a list"),
        (lambda p: [], ValueError, "`parameters` is empty"),
    ],
)
def test_groups_that_are_refused(
    backend: Backend, groups: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    params = parameters()
    places = [parameter.value for parameter in params]
    with pytest.raises(error, match=message):
        optim.SGD(groups(params), 0.1)
    assert all(parameter.value is place for parameter, place in zip(params, places, strict=True))


def test_names_and_single_parameters_are_taken(backend: Backend) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = optim.SGD([{"params": model[0].named_parameters()}, {"params": model[1].weight, "lr": 1}], lr=0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1]
    assert optimizer.parameters == model.parameters()[:3]
