"""The tree of layers: names, state, modes, backends, layers of one's own."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from numbacnn import backends, nn
from numbacnn.backends import Backend
from tests.numeric import assert_within


class Scale(nn.Layer):
    """A layer as a user writes it: y = factor x."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(np.float32([3]))

    def forward(self, x):
        self.saved = x
        return x * self.factor.value

    def backward(self, dy, input_gradient=True):
        x = self.saved
        self.factor.accumulate([(dy * x).sum()])
        return dy * self.factor.value if input_gradient else None


class Negate(nn.Layer):
    """Without parameters, so that `backward` needs no second argument."""

    def forward(self, x):
        return -x

    def backward(self, dy):
        return -dy


class Block(nn.Layer):
    """Children in attributes, one of them a list."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.stages = [nn.Linear(2, 2), Scale()]
        self.offset = nn.Parameter(np.zeros(2))


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Flatten(), nn.Linear(8, 3)))


def test_names_are_those_of_pytorch(backend: Backend) -> None:
    model = small()
    assert list(model.state_dict()) == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
        "2.1.weight",
        "2.1.bias",
    ]
    assert [name for name, _ in model.named_parameters()] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "2.1.weight",
        "2.1.bias",
    ]
    assert [name for name, _ in model.named_layers()] == ["", "0", "1", "2", "2.0", "2.1"]
    assert model.parameters() == [parameter for _, parameter in model.named_parameters()]
    assert [name for name, _ in model.named_buffers()] == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert model.state_dict()["1.num_batches_tracked"].dtype == np.int64
    assert model.state_dict()["1.num_batches_tracked"].shape == ()


def test_nested_names_come_from_mappings(backend: Backend) -> None:
    block = nn.Sequential(OrderedDict(conv1=nn.Conv2d(1, 1, 1, bias=False), bn1=nn.BatchNorm2d(1)))
    model = nn.Sequential({"layer1": nn.Sequential(block, nn.ReLU()), "fc": nn.Linear(1, 1)})
    assert list(model.state_dict())[:2] == ["layer1.0.conv1.weight", "layer1.0.bn1.weight"]
    assert list(model.state_dict())[-2:] == ["fc.weight", "fc.bias"]


def test_layers_of_ones_own_are_found_in_attributes_and_lists(backend: Backend) -> None:
    assert [name for name, _ in Block().named_parameters()] == [
        "offset",
        "stem.weight",
        "stem.bias",
        "norm.weight",
        "norm.bias",
        "stages.0.weight",
        "stages.0.bias",
        "stages.1.factor",
    ]


def needs_arithmetic(backend: Backend) -> None:
    """Skip on a backend whose arrays are not NumPy's."""
    if not backend.is_array(np.zeros(1)):
        pytest.skip(f"arrays of the backend {backend.name} have no operators")


def test_layers_of_ones_own_train(backend: Backend) -> None:
    needs_arithmetic(backend)
    model = nn.Sequential(Negate(), Scale(), Negate())
    x = np.float32([[1, 2]])
    np.testing.assert_array_equal(model(x), [[3, 6]])
    np.testing.assert_array_equal(model.backward(np.float32([[1, 1]])), [[3, 3]])
    assert model.backward(np.float32([[1, 1]]), input_gradient=False) is None
    np.testing.assert_array_equal(model[1].factor.grad, [6])
    with pytest.raises(NotImplementedError, match="Negate must define `output_shape`"):
        model.output_shape((1, 2))
    with pytest.raises(NotImplementedError, match="Layer must define `forward`"):
        nn.Layer()(x)


def test_gradients_accumulate_until_zeroed(backend: Backend) -> None:
    layer = nn.Linear(2, 1)
    x, dy = np.float32([[1, 2], [3, 4]]), np.float32([[1], [10]])
    for count in (1, 2, 3):
        layer(x)
        layer.backward(dy)
        np.testing.assert_array_equal(layer.weight.grad, np.float32([[31, 42]]) * count)
        np.testing.assert_array_equal(layer.bias.grad, np.float32([11]) * count)
    kept = layer.weight.grad
    nn.Sequential(layer).zero_grad()
    np.testing.assert_array_equal(layer.weight.grad, [[0, 0]])
    np.testing.assert_array_equal(kept, [[93, 126]])


def test_state_dict_holds_copies_and_round_trips(backend: Backend) -> None:
    model, other = small(), small()
    x = np.random.default_rng(0).standard_normal((4, 1, 4, 4)).astype(np.float32)
    model(x)
    state = model.state_dict()
    assert not any(np.shares_memory(array, p.value) for array in state.values() for p in model.parameters())
    other.load_state_dict(state)
    assert other.state_dict()["1.num_batches_tracked"] == 1
    np.testing.assert_array_equal(other.eval()(x), model.eval()(x))
    state["0.weight"][...] = 0
    np.testing.assert_array_equal(other(x), model(x))


def test_loading_takes_whatever_numpy_takes_and_keeps_the_dtype(backend: Backend) -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": [[1, 2]], "bias": np.float64([0.5])})
    assert layer.weight.dtype == np.float32
    np.testing.assert_array_equal(layer([[10, 100]]), [[210.5]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": None}, r"does not fit Sequential: .*missing 0\.weight"),
        ({"extra": [1.0]}, r"unexpected extra"),
        ({"0.bias": [1.0]}, r"0\.bias has shape \(1,\), must have \(2,\)"),
        ({"0.bias": ["a", "b"]}, r"0\.bias has dtype <U1, which does not convert to float32"),
        ({"0.bias": [1j, 2]}, r"0\.bias has dtype complex128, which does not convert to float32"),
        ({"1.num_batches_tracked": 0.5}, r"num_batches_tracked has dtype float64, which does not convert to int64"),
        ({"0.bias": [[1.0], [2.0, 3.0]]}, r"0\.bias: "),
        ({"2.1.bias": None, "2.bias": [0.0]}, r"missing 2\.1\.bias; unexpected 2\.bias"),
    ],
)
def test_nothing_is_loaded_from_a_state_that_does_not_fit(backend: Backend, change: dict, message: str) -> None:
    model = small()
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()} | change
    with pytest.raises(ValueError, match=message):
        model.load_state_dict({name: array for name, array in state.items() if array is not None})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_loading_without_strict_takes_what_is_there(backend: Backend) -> None:
    model = small()
    model.load_state_dict({"0.bias": [5, 6], "elsewhere": 1}, strict=False)
    np.testing.assert_array_equal(model[0].bias.value, [5, 6])
    with pytest.raises(ValueError, match=r"0\.bias has shape"):
        model.load_state_dict({"0.bias": [5]}, strict=False)


def test_modes_reach_the_whole_tree(backend: Backend) -> None:
    model = small()
    assert all(layer.training for layer in model.layers())
    assert model.eval() is model and not any(layer.training for layer in model.layers())
    assert model.train() is model and all(layer.training for layer in model.layers())


def test_moving_to_another_backend_and_back(backend: Backend) -> None:
    others = [name for name, reason in backends.available().items() if reason is None and name != backend.name]
    if not others:
        pytest.skip("there is one backend only")
    x = np.random.default_rng(0).standard_normal((4, 1, 4, 4)).astype(np.float32)
    for other in others:
        model = small()
        trained = np.array(model(x))
        model.backward(np.ones_like(trained))
        state, gradients = model.state_dict(), [np.array(p.grad) for p in model.parameters()]
        predicted = np.array(model.eval()(x))
        for name in (other, backend.name, other):
            assert model.to(name) is model
            assert {layer.backend.name for layer in model.layers()} == {name}
            assert {parameter.backend.name for parameter in model.parameters()} == {name}
            for key, array in model.state_dict().items():
                assert (array.dtype, array.tobytes()) == (state[key].dtype, state[key].tobytes())
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                np.testing.assert_array_equal(parameter.grad, gradient)
            with pytest.raises(RuntimeError, match="`backward` called before `forward`"):
                model.backward(np.ones_like(trained))
            y = np.asarray(model(x))
            if name == backend.name:
                np.testing.assert_array_equal(y, predicted)
            assert_within(y, predicted, 9)
        assert_within(np.asarray(model.train()(x)), trained, 9)


def test_copies_and_pickles_are_independent(backend: Backend) -> None:
    model = small()
    x = np.random.default_rng(0).standard_normal((2, 1, 4, 4)).astype(np.float32)
    y = model.eval()(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin(x), y)
        assert {layer.backend for layer in twin.layers()} == {backend}
        twin[0].weight.value = np.zeros((2, 1, 3, 3))
        np.testing.assert_array_equal(model(x), y)


def test_backward_before_forward(backend: Backend) -> None:
    every = [
        nn.Conv2d(1, 1, 1),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.GlobalAvgPool2d(),
        nn.BatchNorm2d(1),
        nn.BatchNorm1d(1),
        nn.GroupNorm(1, 1),
        nn.InstanceNorm2d(1),
        nn.LayerNorm(1),
        nn.LocalResponseNorm(1),
        nn.Linear(1, 1),
        nn.ReLU(),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.Identity(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Concat(nn.Identity()),
        nn.Add(nn.Identity()),
        nn.Sequential(nn.ReLU()),
    ]
    for layer in every:
        for input_gradient in (True, False):
            with pytest.raises(RuntimeError, match="`backward` called before `forward` on "):
                layer.backward(np.zeros((1, 1, 1, 1), np.float32), input_gradient=input_gradient)
    with pytest.raises(RuntimeError, match=r"before `forward` on Conv2d\(1, 1, kernel_size=\(1, 1\)"):
        every[0].backward(np.zeros((1, 1, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Conv2d(2, 3, 3), (2, 2, 5, 5)),
        (lambda: nn.MaxPool2d(2), (2, 2, 5, 5)),
        (lambda: nn.AvgPool2d(2), (2, 2, 5, 5)),
        (lambda: nn.GlobalAvgPool2d(), (2, 2, 5, 5)),
        (lambda: nn.BatchNorm2d(2), (2, 2, 5, 5)),
        (lambda: nn.BatchNorm1d(2), (3, 2)),
        (lambda: nn.GroupNorm(2, 4), (3, 4, 5)),
        (lambda: nn.InstanceNorm2d(2, affine=True), (2, 2, 5, 5)),
        (lambda: nn.LayerNorm(4), (3, 4)),
        (lambda: nn.LocalResponseNorm(2), (2, 2, 5, 5)),
        (lambda: nn.Linear(4, 2), (3, 4)),
        (lambda: nn.ReLU(), (3, 4)),
        (lambda: nn.Sigmoid(), (3, 4)),
        (lambda: nn.Tanh(), (3, 4)),
        (lambda: nn.Identity(), (3, 4)),
        (lambda: nn.Flatten(), (2, 2, 5, 5)),
        (lambda: nn.Dropout(), (3, 4)),
        (lambda: nn.Add(nn.Identity(), nn.ReLU()), (3, 4)),
        (lambda: nn.Concat(nn.Identity(), nn.ReLU()), (3, 4)),
    ],
)
def test_backward_refuses_another_shape_than_the_output(backend: Backend, make, shape: tuple[int, ...]) -> None:
    layer = make()
    y = layer(np.ones(shape, np.float32))
    wrong = (*y.shape[:-1], y.shape[-1] + 1)
    with pytest.raises(ValueError, match=r"`dy` \(|`dy` has shape \(") as caught:
        layer.backward(np.ones(wrong, np.float32))
    assert str(wrong) in str(caught.value)
    assert all(not np.asarray(parameter.grad).any() for parameter in layer.parameters())


def test_backward_keeps_only_the_last_pass(backend: Backend) -> None:
    layer = nn.Linear(2, 1)
    layer([[100, 100]])
    layer([[1, 2]])
    layer.backward([[1]])
    np.testing.assert_array_equal(layer.weight.grad, [[1, 2]])


def test_parameters_are_assigned_in_place_and_checked(backend: Backend) -> None:
    layer = nn.Linear(2, 1)
    array = layer.weight.value
    layer.weight.value = [[0, 1]]
    assert layer.weight.value is array
    np.testing.assert_array_equal(array, [[0, 1]])
    with pytest.raises(ValueError, match=r"`value` has shape \(2,\), must have \(1, 2\)"):
        layer.weight.value = [1, 2]
    with pytest.raises(TypeError, match="`value` of dtype complex128"):
        layer.weight.value = [[1j, 2]]
    with pytest.raises(ValueError, match=r"`grad` has shape \(\), must have \(1, 2\)"):
        layer.weight.grad = 0
    with pytest.raises(ValueError, match=r"`array` has shape \(2, 1\), must have \(1, 2\)"):
        layer.weight.accumulate([[1], [2]])
    assert repr(layer.weight) == f"Parameter(shape=(1, 2), dtype=float32, backend={backend.name!r})"
    assert nn.Parameter(np.zeros(3)).dtype == np.float64 and nn.Parameter([1, 2]).size == 2


def test_operators_change_a_parameter_in_place(backend: Backend) -> None:
    needs_arithmetic(backend)
    layer = nn.Linear(2, 1)
    layer.weight.value, array = [[1, 2]], layer.weight.value
    layer.weight.value -= 1
    assert layer.weight.value is array
    np.testing.assert_array_equal(array, [[0, 1]])


def test_random_state_of_dropout_layers(backend: Backend) -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.ReLU(), nn.Dropout(0.2)))
    x = np.ones((4, 50), np.float32)
    model(x)
    state = model.random_state()
    assert list(state) == ["0", "1.1"] and [calls for _, calls in state.values()] == [1, 1]
    y = model(x)
    model.load_random_state(state)
    np.testing.assert_array_equal(model(x), y)
    with pytest.raises(ValueError, match=r"has the layers \['0'\], must have \['0', '1\.1'\]"):
        model.load_random_state({"0": [1, 2]})
    with pytest.raises(ValueError, match=r"must be \[seed, calls\]"):
        model.load_random_state({"0": [1, 2], "1.1": [1]})
