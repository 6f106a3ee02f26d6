"""Parts of a model that stay as they are: what is computed for them, kept of them and told about them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import backends, nn, ops, optim
from numbacnn.backends import Backend, reference
from numbacnn.nn.saved import NOT_SAVED
from numbacnn.training import CapturedFunction, TrainingStep, WeightAverage, fit
from tests.counting import calls_of
from tests.quick import reference_by_default as reference_by_default
from tests.recorder import Recorder
from tests.strategies import SIMULATED

JIT = not config.DISABLE_JIT
C = 3
X = np.random.default_rng(0).standard_normal((4, C, 5, 5))
Y = np.arange(4) % 2


def conv() -> nn.Conv2d:
    return nn.Conv2d(C, C, 3, padding=1, dtype=np.float64)


def pointwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, C, 1, dtype=np.float64)


class Own(nn.Layer):
    """Two layers one after the other, by hand."""

    capturable = True

    def __init__(self, first: nn.Layer, second: nn.Layer) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Any) -> Any:
        return self.second.forward(self.first.forward(x))

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        return self.first.backward(self.second.backward(dy), input_gradient)

    def output_shape(self, shape: Any) -> Any:
        return shape


def graph() -> nn.Graph:
    shared = conv()
    return nn.Graph(
        {
            "a": (conv(), "x"),
            "relu": (nn.ReLU(), "a"),
            "b": (nn.Sequential(conv(), nn.Tanh()), "relu"),
            "c": (shared, "relu"),
            "sum": (nn.Sum(), "b", "c", "x"),
            "again": (shared, "sum"),
        }
    )


BODIES: dict[str, Callable[[], nn.Layer]] = {
    "sequential": lambda: nn.Sequential(
        nn.Sequential(nn.ReLU(), conv(), nn.ReLU()), nn.Sequential(conv(), nn.Identity(), nn.Tanh(), conv())
    ),
    "add": lambda: nn.Sequential(nn.Add(nn.Identity(), nn.Sequential(conv(), nn.ReLU(), conv())), nn.Add(conv())),
    "concat": lambda: nn.Sequential(
        conv(), nn.Concat(nn.Sequential(conv(), nn.Tanh()), conv()), pointwise(2 * C)
    ),
    "dense block": lambda: nn.Sequential(
        nn.DenseBlock(
            nn.Sequential(nn.BatchNorm2d(C, dtype=np.float64).eval(), nn.ReLU(), conv()),
            nn.Sequential(nn.BatchNorm2d(2 * C, dtype=np.float64).eval(), nn.ReLU(), pointwise(2 * C)),
        ),
        pointwise(3 * C),
    ),
    "graph": graph,
    "own": lambda: nn.Sequential(Own(nn.Sequential(conv(), nn.ReLU()), nn.Sequential(nn.Tanh(), conv())), nn.Tanh()),
}  # fmt: skip


def model_of(body: str, backend: Any = "reference") -> nn.Sequential:
    nc.manual_seed(7)
    with nc.use_backend("reference"):
        model = nn.Sequential(BODIES[body](), nn.Flatten(), nn.Linear(C * 25, 2, dtype=np.float64))
    return model.to(backend)


def leaves(model: nn.Layer) -> list[nn.Layer]:
    return [layer for layer in model.layers() if next(layer.children(), None) is None]


def gradients(model: nn.Layer) -> dict[str, np.ndarray]:
    return {name: np.array(p.backend.to_numpy(p.grad)) for name, p in model.named_parameters()}


def stepped(model: nn.Layer, capture: bool = False, steps: int = 1) -> dict[str, np.ndarray]:
    """The gradients of the last step, that began with 7 everywhere."""
    for parameter in model.parameters():
        parameter.grad = np.full(parameter.shape, 7.0)
    step = TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), capture=capture)
    for _ in range(steps):
        step(X, Y)
    return gradients(model)


@pytest.mark.parametrize("body", BODIES)
def test_whatever_is_frozen_the_others_get_the_gradients_that_they_get_without(body: str) -> None:
    with nc.use_backend("reference"):
        whole = stepped(model_of(body))
        trained = [i for i, layer in enumerate(leaves(model_of(body))) if layer.parameters()]
        choices = [*([i] for i in trained), trained[:-1], trained[1:], trained[::2], trained[1::2]]
        for frozen in choices:
            for on_recorder in (False, True):
                model = model_of(body, Recorder() if on_recorder else "reference")
                for i in frozen:
                    leaves(model)[i].freeze()
                before = model.state_dict()
                found = stepped(model, capture=on_recorder)
                for name, parameter in model.named_parameters():
                    expected = whole[name] if parameter.requires_grad else 7
                    np.testing.assert_array_equal(found[name], expected, err_msg=f"{frozen}: {name}")
                    same = np.array_equal(before[name], parameter.backend.to_numpy(parameter.value))
                    assert same == (not parameter.requires_grad)


@pytest.mark.skipif(SIMULATED, reason="the recorder captures as well, and does not simulate convolutions")
@pytest.mark.parametrize("body", BODIES)
def test_captured_steps_are_plain_ones_through_changes_of_what_is_frozen(backend: Backend, body: str) -> None:
    states = []
    for capture in (False, True):
        model = model_of(body, backend)
        optimizer = optim.Adam(model.parameters(), 0.01, weight_decay=0.1)
        average = WeightAverage(model, 0.5)
        step = TrainingStep(
            model, nn.CrossEntropyLoss(), optimizer, capture=capture, clip_norm=0.5, weight_average=average
        )
        layers = leaves(model)
        for changed in (layers[:1], layers[:3], (), layers[:2]):
            model.unfreeze()
            for layer in changed:
                layer.freeze()
            for _ in range(3):
                step(X, Y)
        states.append([*model.state_dict().values(), *average.state_dict().values(), *gradients(model).values()])
        assert step.mode == ("captured" if capture and backend is not backends.get("reference") and JIT else "plain")
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_change_costs_one_capture() -> None:
    recorder = Recorder()
    model = model_of("sequential", recorder)
    step = TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    modes = []
    for change in (None, model[0].freeze, model[0].freeze, model[0].unfreeze):
        if change:
            change()
        for _ in range(3):
            step(X, Y)
            modes.append(step.mode)
    assert recorder.captured == 3
    assert modes[-2:] == ["captured"] * 2


def test_nothing_is_computed_nor_kept_below_the_first_layer_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = (
        "conv2d_backward_input",
        "conv2d_backward_weight",
        "conv2d_backward_bias",
        "relu_backward",
        "tanh_backward",
    )
    saved: list[list[bool]] = []

    class Witness(nn.CrossEntropyLoss):
        def backward(self, dy: Any = None) -> Any:
            kept = [layer._saved for layer in leaves(model)]
            saved.append([each is not None and each is not NOT_SAVED for each in kept])
            return super().backward(dy)

    with nc.use_backend("reference"):
        model = model_of("sequential")
        calls = {name: calls_of(monkeypatch, reference, name) for name in passes}
        for frozen, front, expected in (
            (0, 1, [2, 3, 3, 1, 1]),
            (1, 3, [1, 2, 2, 0, 1]),
            (2, 8, [0, 0, 0, 0, 0]),
        ):
            model.unfreeze()
            for part in model[0][:frozen]:
                part.freeze()
            TrainingStep(model, Witness(), optim.SGD(model.parameters(), lr=0.1), capture=False)(X, Y)
            assert [len(calls[name]) for name in passes] == expected
            for name in passes:
                calls[name].clear()
            assert saved[-1] == [False] * front + [True] * (len(saved[-1]) - front)
        # In the middle, gradients go through, without one of the weights.
        model.unfreeze()
        model[0][1].freeze()
        TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), capture=False)(X, Y)
        assert [len(calls[name]) for name in passes] == [2, 1, 1, 1, 1]


@pytest.mark.parametrize("body", BODIES)
def test_the_gradient_of_the_input_is_there_for_who_asks(body: str) -> None:
    with nc.use_backend("reference"):
        model, loss = model_of(body), nn.CrossEntropyLoss()
        loss(model(X), Y)
        expected = model.backward(loss.backward())
        model.zero_grad()
        model.freeze()
        loss(model(X), Y)
        np.testing.assert_array_equal(model.backward(loss.backward()), expected)
        assert not any(gradient.any() for gradient in gradients(model).values())
        model[2].unfreeze()
        loss(model(X), Y)
        np.testing.assert_array_equal(model.backward(loss.backward()), expected)
    alone = nn.Linear(2, 3).freeze()
    alone(np.ones((1, 2)))
    assert alone.backward(np.ones((1, 3))).shape == (1, 2)
    assert alone.backward(np.ones((1, 3)), input_gradient=False) is None


def normalized() -> nn.Sequential:
    with nc.use_backend("reference"):
        nc.manual_seed(1)
        return nn.Sequential(
            nn.Sequential(conv(), nn.BatchNorm2d(C, dtype=np.float64), nn.ReLU(), nn.Dropout(0.5)),
            nn.Flatten(),
            nn.Linear(C * 25, 2, dtype=np.float64),
        )


def test_a_frozen_part_computes_as_in_evaluation_mode_until_it_trains_again() -> None:
    model = normalized()
    expected = model.predict(X)
    assert model[0].freeze() is model[0]
    before = model.state_dict()
    for _ in range(2):
        np.testing.assert_array_equal(model(X), expected)
        model.eval()
        np.testing.assert_array_equal(model(X), expected)
        np.testing.assert_array_equal(model.predict(X), expected)
        model.train()
    loaders = [(X, Y)]
    fit(model, loaders, loaders, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1, weight_decay=0.1), 2)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]) == name.startswith("0.")
    assert model[0].training and not model[0][1].training and not model[0][3].training
    model.eval()
    assert model.unfreeze() is model and not any(layer.training for layer in model.layers())
    model.train()
    model[0].freeze().unfreeze()
    assert all(layer.training for layer in model.layers())
    model(X)
    assert model.state_dict()["0.1.num_batches_tracked"] == 1


def test_of_parameters_alone_running_averages_go_on_in_front_too() -> None:
    model = normalized()
    for parameter in model[0].parameters():
        parameter.requires_grad = False
    twin = normalized()
    twin(X)
    for _ in range(2):
        TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))(X, Y)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            np.testing.assert_array_equal(model.state_dict()[f"0.1.{name}"], twin.state_dict()[f"0.1.{name}"])
        twin(X)
    np.testing.assert_array_equal(model.state_dict()["0.0.weight"], normalized().state_dict()["0.0.weight"])


MAKERS = {
    "sgd": lambda parameters: optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda parameters: optim.AdamW(parameters, 0.1, weight_decay=0.1),
    "nadam": lambda parameters: optim.NAdam(parameters, 0.1, weight_decay=0.1),
    "rmsprop": lambda parameters: optim.RMSprop(parameters, 0.1, weight_decay=0.1, momentum=0.9, centered=True),
    "adagrad": lambda parameters: optim.Adagrad(parameters, 0.1, weight_decay=0.1),
    "lion": lambda parameters: optim.Lion(parameters, 0.1, weight_decay=0.1),
    "groups": lambda parameters: optim.SGD(
        [{"params": parameters[:2], "momentum": 0.9}, {"params": parameters[2:], "lr": 0.2}], 0.1, weight_decay=0.1
    ),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("made_before", [False, True])
def test_optimizers_leave_what_is_frozen_alone(backend: Backend, maker: str, made_before: bool) -> None:
    parameters = [nn.Parameter(np.full(4, i + 1.0, np.float32)) for i in range(3)]
    optimizer = MAKERS[maker](parameters) if made_before else None
    for parameter in parameters:
        parameter.accumulate(np.ones(4))
    if optimizer is not None:
        optimizer.step()
    kept = optimizer and {name: np.array(array) for name, array in optimizer.state_dict().items()}
    parameters[1].requires_grad = False
    optimizer = optimizer or MAKERS[maker](parameters)
    before = [np.array(backend.to_numpy(parameter.value)) for parameter in parameters]
    assert backend.to_numpy(optim.clip_grad_norm(optimizer, 100)) == pytest.approx(np.sqrt(8))
    assert backend.to_numpy(optim.clip_grad_norm(parameters, 1)) == pytest.approx(np.sqrt(8))
    np.testing.assert_array_equal(backend.to_numpy(parameters[1].grad), 1)
    optimizer.step()
    after = [backend.to_numpy(parameter.value) for parameter in parameters]
    assert [np.array_equal(*pair) for pair in zip(before, after, strict=True)] == [False, True, False]
    if kept:
        now = optimizer.state_dict()
        for name, array in kept.items():
            if name[:2] in ("0.", "1.") and not name.endswith("mu_product"):
                assert np.array_equal(array, now[name]) == name.startswith("1.")
    parameters[1].requires_grad = True
    optimizer.step()
    assert not np.array_equal(before[1], backend.to_numpy(parameters[1].value))
    for parameter in parameters:
        parameter.requires_grad = False
    assert backend.to_numpy(optim.clip_grad_norm(optimizer, 1)) == backend.to_numpy(
        optim.clip_grad_norm(parameters, 1)
    ) == 0  # fmt: skip


def test_a_captured_step_counts_as_a_plain_one(backend: Backend) -> None:
    states = []
    for capture in (False, True):
        with nc.use_backend(backend):
            nc.manual_seed(1)
            model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        optimizer = optim.NAdam(model.parameters(), 0.01)
        step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer, capture=capture)
        for change in (model[0].freeze, model[0].unfreeze):
            change()
            for _ in range(4):
                step(np.ones((2, 3), np.float32), [0, 1])
        states.append([*model.state_dict().values(), *optimizer.state_dict().values()])
        assert step.mode == ("captured" if capture and backend is not backends.get("reference") and JIT else "plain")
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_wholly_frozen_model_stays_and_its_step_says_the_loss(backend: Backend) -> None:
    model = normalized().to(backend).freeze()
    before = model.state_dict()
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer, clip_norm=1)
    for _ in range(3):
        step(X, Y)
    assert step.totals()[2] == 12
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_both_places_of_tied_weights_are_frozen() -> None:
    first = nn.Linear(3, 3)
    model = nn.Sequential(first, nn.ReLU(), nn.tied_copy(first), nn.Linear(3, 2))
    model[2].freeze()
    assert not first.weight.requires_grad
    before = model.state_dict()
    TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))(np.ones((2, 3)), [0, 1])
    assert [np.array_equal(before[name], array) for name, array in model.state_dict().items()] == [True] * 4 + [
        False
    ] * 2


def test_a_critic_is_frozen_within_a_captured_function(backend: Backend) -> None:
    states = []
    for capture in (False, True):
        with nc.use_backend("reference"):
            nc.manual_seed(3)
            generator, critic = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        generator.to(backend), critic.to(backend)
        critic.freeze()
        loss, optimizer = nn.CrossEntropyLoss(), optim.SGD(generator.parameters(), lr=0.5)

        def step(noise: Any, labels: Any, parts: Any = (generator, critic, loss, optimizer)) -> Any:
            generator, critic, loss, optimizer = parts
            optimizer.zero_grad()
            value = loss.compute(critic.forward(generator.forward(noise)), labels)
            generator.backward(critic.backward(loss.backward()), input_gradient=False)
            optimizer.step()
            return value

        captured = CapturedFunction(step, generator, critic, loss, optimizer, capture=capture)
        noise = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
        for _ in range(3):
            captured(noise, Y)
        states.append([*generator.state_dict().values(), *critic.state_dict().values()])
        assert not any(gradient.any() for gradient in gradients(critic).values())
    for one, other in zip(*states, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6 if backend.asynchronous else 0)


def test_operations_leave_out_the_gradients_of_weights(backend: Backend) -> None:
    def array(*shape: int) -> Any:
        return backend.asarray(np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32))

    for function, arrays in (
        (ops.conv2d_backward, (array(2, 4, 3, 3), array(2, 3, 5, 5), array(4, 3, 3, 3))),
        (ops.conv_transpose2d_backward, (array(2, 4, 5, 5), array(2, 3, 3, 3), array(3, 4, 3, 3))),
        (ops.linear_backward, (array(2, 4), array(2, 3), array(4, 3))),
    ):
        dx, dweight, dbias = function(*arrays, weight_gradient=False)
        assert dweight is None and dbias is None
        np.testing.assert_array_equal(backend.to_numpy(dx), backend.to_numpy(function(*arrays)[0]))
        with pytest.raises(TypeError, match="`weight_gradient`"):
            function(*arrays, weight_gradient="no")


def test_what_is_frozen_is_told_and_copied() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).train()
    model[0].freeze()
    assert repr(model[0].weight).endswith("requires_grad=False)")
    table = nc.summary(model, (1, 2))
    assert (table.parameters, table.trainable) == (13, 4)
    assert "13 parameters, 4 trainable and 9 frozen, " in str(table)
    assert "frozen" not in str(nc.summary(model.unfreeze(), (1, 2)))
    model[0].freeze()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [parameter.requires_grad for parameter in twin.parameters()] == [False] * 2 + [True] * 2
        assert [layer.training for layer in twin] == [False, True]
        assert twin.unfreeze()[0].training and not model[0].training
    assert list(model.state_dict()) == list(model.unfreeze().state_dict())
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad


def test_only_true_and_false_are_taken() -> None:
    parameter = nn.Linear(2, 1).weight
    with pytest.raises(TypeError, match="`requires_grad` 'no' must be True or False"):
        parameter.requires_grad = "no"
    assert parameter.requires_grad
    with pytest.raises(AttributeError, match="`requires_grad` cannot be set on a Buffer"):
        nn.BatchNorm1d(2).running_mean.requires_grad = True


def test_nothing_is_kept_of_a_container_with_a_pass_of_its_own_that_is_needed() -> None:
    """A subclass may ask its layers for anything, so its first layers keep what that takes."""

    class Asking(nn.Sequential):
        def backward(self, dy: Any, input_gradient: bool = True) -> Any:
            self.dx = super().backward(dy)
            return self.dx

    with backends.use_backend("reference"):
        model = Asking(nn.Linear(3, 3).freeze(), nn.ReLU(), nn.Linear(3, 2))
        TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))(np.ones((2, 3)), [0, 1])
    assert model.dx.shape == (2, 3)
