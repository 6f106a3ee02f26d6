"""Children that are read, replaced and deleted, and errors that say which child they are of."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.backends import Backend

X = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)


def headed() -> nn.Sequential:
    return nn.Sequential({"body": nn.Linear(4, 6), "relu": nn.ReLU(), "head": nn.Linear(6, 2)})


def replace_attribute(model: Any, layer: nn.Layer) -> None:
    model.head = layer


def replace_item(model: Any, layer: nn.Layer) -> None:
    model["head"] = layer


def replace_place(model: Any, layer: nn.Layer) -> None:
    model[2] = layer


@pytest.mark.parametrize("replace", [replace_attribute, replace_item, replace_place])
def test_a_child_is_replaced(backend: Backend, replace: Any) -> None:
    model, head = headed(), nn.Linear(6, 3)
    y = model(X)
    replace(model, head)
    assert model.head is model["head"] is model[-1] is head and len(model) == 3
    assert [name for name, _ in model.named_children()] == ["body", "relu", "head"]
    assert model.state_dict()["head.weight"].shape == (3, 6) and model.parameters()[-1] is head.bias
    assert "(head): Linear(in_features=6, out_features=3" in repr(model)
    assert model.output_shape((2, 4)) == (2, 3)
    with pytest.raises(RuntimeError, match="`backward` called before `forward`"):
        model.backward(y)
    assert not any(np.asarray(parameter.grad).any() for parameter in model.parameters())
    assert model(X).shape == (2, 3) and model.backward(np.ones((2, 3))).shape == X.shape
    assert copy.deepcopy(model).head.weight.shape == (3, 6)


def test_children_come_and_go(backend: Backend) -> None:
    model = headed()
    model.scores = nn.Sigmoid()
    assert list(model)[-1] is model["scores"] and model(X).shape == (2, 2)
    del model.head, model["scores"], model[1]
    assert list(model.state_dict()) == ["body.weight", "body.bias"] and model(X).shape == (2, 6)
    with pytest.raises(AttributeError, match="'Sequential' object has no attribute 'head'"):
        _ = model.head
    for missing in (lambda: model["head"], lambda: model.__delitem__("head")):
        with pytest.raises(KeyError, match="Sequential has no layer 'head', but 'body'"):
            missing()
    with pytest.raises(IndexError):
        model[1] = nn.ReLU()


def test_branches_are_replaced(backend: Backend) -> None:
    for container in (nn.Add, nn.Concat):
        model = container({"a": nn.Identity(), "b": nn.ReLU()})
        model.b = nn.Identity()
        np.testing.assert_array_equal(
            model(X), X + X if container is nn.Add else np.concatenate([X, X], axis=1).astype(np.float32)
        )
        del model.a
        np.testing.assert_array_equal(model(X), X)
        with pytest.raises(ValueError, match="needs at least one branch"):
            del model.b
        assert list(model) == [model.b]


def test_what_cannot_be_a_child(backend: Backend) -> None:
    model = headed()
    former, relu = list(model), model.relu
    for value in (None, nn.ReLU, 3):
        for assign in (replace_attribute, replace_item, replace_place):
            with pytest.raises(TypeError, match=r"layer 'head' of Sequential is .*, must be "):
                assign(model, value)
    with pytest.raises(ValueError, match="the same ReLU object is in layers 'relu' and 'head' of Sequential"):
        model.head = relu
    with pytest.raises(TypeError, match="`training` is an attribute of Sequential"):
        model.training = nn.ReLU()
    with pytest.raises(ValueError, match=r"the layer name 'a\.b' must be a string without dots"):
        model["a.b"] = nn.ReLU()
    assert list(model) == former


def test_a_child_may_be_called_like_an_attribute(backend: Backend) -> None:
    model = nn.Sequential({"window": nn.ReLU(), "saved": nn.Tanh()})
    model["window"] = nn.Sigmoid()
    assert isinstance(model[0], nn.Sigmoid) and callable(model.window)
    with pytest.raises(TypeError, match=r"`window` is an attribute of Sequential: `model\['window'\]` is the layer"):
        model.window = nn.ReLU()


def test_containers_of_one_s_own_have_more_than_their_children(backend: Backend) -> None:
    class Own(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 4))
            self.heads = [nn.Linear(4, 1), nn.Linear(4, 1)]
            self.scale = nn.Parameter([1.0])

    assert [name for name, _ in Own().named_parameters()] == [
        "scale",
        "0.weight",
        "0.bias",
        "heads.0.weight",
        "heads.0.bias",
        "heads.1.weight",
        "heads.1.bias",
    ]


class Nothing(nn.Identity):
    """A layer whose passes have no result."""

    def __init__(self, forward: bool) -> None:
        super().__init__()
        self.of_forward = forward

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        return None if self.of_forward else y

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        return None


def test_errors_name_the_layer(backend: Backend) -> None:
    images = np.ones((2, 1, 8, 8), np.float32)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(100, 3))
    model = nn.Sequential({"features": nn.Conv2d(1, 2, 3), "": nn.Add({"classifier": classifier})})
    for run in (model.forward, model.predict, lambda x: model.output_shape(x.shape)):
        with pytest.raises(ValueError, match=r"^layer 'classifier\.1', Linear\(in_features=100, out.*72"):
            run(images)
    with pytest.raises(ValueError, match=r"^layer 'classifier\.1', Linear\(in_features=100"):
        nc.summary(model, images.shape)
    with pytest.raises(ValueError, match=r"^layer 'features', Conv2d.*: `x` \(2, 3, 8, 8\) has 3 channels"):
        model(np.ones((2, 3, 8, 8), np.float32))
    with pytest.raises(NotImplementedError, match=r"^layer '1\.0', Layer\(\): Layer must define `output_shape`"):
        nc.summary(nn.Sequential(nn.ReLU(), nn.Concat(nn.Layer())), (1, 1, 8, 8))


def test_layers_without_a_result_are_named(backend: Backend) -> None:
    for container in (nn.Sequential, nn.Add, nn.Concat):
        model = container(nn.Sequential(nn.ReLU(), Nothing(forward=True)))
        for run in (model, model.predict):
            with pytest.raises(TypeError, match=r"^layer '0\.1', Nothing\(\): `forward` of Nothing returned None"):
                run(X)
        model = container(nn.Sequential(nn.ReLU(), Nothing(forward=False)))
        y = model(X)
        with pytest.raises(TypeError, match=r"^layer '0\.1', Nothing\(\): `backward` of Nothing returned None"):
            model.backward(y)
    for run in (Nothing(forward=True), Nothing(forward=True).predict):
        with pytest.raises(TypeError, match=r"^`forward` of Nothing returned None, must return an array"):
            run(X)
