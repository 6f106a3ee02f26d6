"""What attributes of a layer of one's own hold, and what cannot be assigned to them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn
from numbacnn.backends import Backend


class Nested(nn.Layer):
    """Layers and parameters in lists, tuples and dicts, in one another."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = [nn.Parameter([1.0]), (nn.Parameter([2.0]), 3)]
        self.heads = {"coarse": nn.Linear(1, 1, bias=False), "fine": [nn.BatchNorm1d(1), {"last": nn.Dropout()}]}
        self.averages = ({"mean": nn.Buffer(np.zeros(2, np.float32))},)
        self.sizes = {"1.5": 3, 4: [5]}


def test_layers_and_parameters_are_found_wherever_they_are(backend: Backend) -> None:
    layer = Nested()
    names = ["scales.0", "scales.1.0", "heads.coarse.weight", "heads.fine.0.weight", "heads.fine.0.bias"]
    assert [name for name, _ in layer.named_parameters()] == names
    assert [name for name, _ in layer.named_buffers()][:2] == ["averages.0.mean", "heads.fine.0.running_mean"]
    found = ["", "heads.coarse", "heads.fine.0", "heads.fine.1.last"]
    assert [name for name, _ in layer.named_layers()] == found and list(layer.random_state()) == found[-1:]
    assert not any(inner.training for inner in layer.eval().layers())
    assert set(names) <= set(layer.state_dict())
    layer.load_state_dict({name: np.full_like(array, 7) for name, array in layer.state_dict().items()})
    assert (np.asarray(layer.scales[1][0].value) == 7).all() and (
        np.asarray(layer.averages[0]["mean"].value) == 7
    ).all()
    other = next((name for name, why in backends.available().items() if why is None and name != backend.name), None)
    if other is not None:
        layer.to(other)
        assert {parameter.backend.name for parameter in layer.parameters()} == {other}
        assert layer.heads["coarse"].backend.name == other
    assert [name for name, _ in pickle.loads(pickle.dumps(layer)).named_parameters()] == names
    assert "(heads.fine.1.last): Dropout(p=0.5)" in repr(layer)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (lambda: {"a.b": nn.ReLU()}, ValueError, r"the key 'a\.b' of `part` must be a string without dots"),
        (lambda: {"a": nn.ReLU(), 2: nn.ReLU()}, ValueError, "the key 2 of `part` must be a string"),
        (lambda: [{"": nn.Parameter([1])}], ValueError, r"the key '' of `part\.0` must be a string"),
        (lambda: {nn.ReLU()}, TypeError, "`part` of Nested is a set, which has no order"),
    ],
)
def test_what_has_no_name_is_refused(backend: Backend, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Nested().part = value()


def test_an_attribute_of_every_layer_is_no_name(backend: Backend) -> None:
    for name in ("window", "seed", "predict", "training"):
        for value in (nn.ReLU(), nn.Parameter([1])):
            with pytest.raises(TypeError, match=f"`{name}` "):
                setattr(Nested(), name, value)


def test_parameters_and_layers_are_not_replaced_by_something_else(backend: Backend) -> None:
    layer = nn.Linear(2, 1)
    with pytest.raises(TypeError, match=r"`weight` of Linear is a Parameter,.*: `layer\.weight\.value = "):
        layer.weight = np.ones((1, 2))
    weight = nn.Parameter([[1, 2]])
    layer.weight, layer.bias = weight, None
    np.testing.assert_array_equal(layer([[1, 1]]), [[3]])
    assert layer.parameters() == [weight]

    class Own(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.ReLU()

        def forward(self, x: Any) -> Any:
            self.saved = x
            return x

    own = Own()
    with pytest.raises(TypeError, match="`part` of Own is a layer, not to be replaced by a int"):
        own.part = 3
    own(np.ones(2))
    own.part = nn.Tanh()
    with pytest.raises(RuntimeError, match="before `forward`"):
        _ = own.saved
    own.part = None
    assert own.layers() == [own]


def test_attributes_that_mean_nothing_are_refused(backend: Backend) -> None:
    layer = nn.Linear(2, 1)
    for owner, names in ((layer, ("requires_grad", "trainable")), (layer.weight, ("trainable",))):
        for name in names:
            with pytest.raises(AttributeError, match=rf"`{name}` .*weights are frozen by `freeze\(\)` of their layer"):
                setattr(owner, name, False)
    with pytest.raises(AttributeError, match=r"`data` cannot be set on a Parameter; .* grad, requires_grad: Param"):
        layer.weight.data = 1
    with pytest.raises(AttributeError, match=r"`grad` cannot be set on a Buffer; its attributes are backend, value"):
        nn.Buffer([1]).grad = 1


def test_what_has_no_constructor_of_its_base_says_so(backend: Backend) -> None:
    class Assigns(nn.Layer):
        def __init__(self) -> None:
            self.part = nn.ReLU()

    class Forgets(nn.Layer):
        def __init__(self) -> None:
            self.size = 3

        def forward(self, x: Any) -> Any:
            self.saved = x
            return x

    class Loss(nn.MSELoss):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match=r"Assigns.__init__ must call `super\(\).__init__\(\)` before .* `part`"):
        Assigns()
    for run in (Forgets(), Forgets().predict, nn.Sequential(Forgets())):
        with pytest.raises(AttributeError, match=r"Forgets.__init__ must call `super\(\).__init__\(\)`"):
            run(np.ones((2, 2), np.float32))
    with pytest.raises(AttributeError, match=r"Loss.__init__ must call `super\(\).__init__\(\)`"):
        Loss()([1.0], [2.0])
