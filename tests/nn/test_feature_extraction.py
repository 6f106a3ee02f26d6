"""What layers inside of a model give, and the part of a model that leads to one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import nn
from numbacnn.backends import Backend
from tests.nn.test_grad_mode import X, with_every_layer

RANDOM = np.random.default_rng(1)


class Twice(nn.Layer):
    """A layer of one's own, with one that runs twice and one that does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.unused = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.conv(self.conv(x))


def one_by_one(model: nn.Layer, x: Any, name: str = "") -> dict[str, np.ndarray]:
    """Every layer's output, children called by hand and so without fusion."""
    found = {}
    if isinstance(model, nn.Sequential):
        y = x
        for child_name, child in model.named_children():
            part = one_by_one(child, y, f"{name}.{child_name}" if name else child_name)
            found |= part
            y = next(iter(part.values()))
    elif isinstance(model, (nn.Concat, nn.Add)):
        parts = [one_by_one(child, x, f"{name}.{child_name}") for child_name, child in model.named_children()]
        ys = [next(iter(part.values())) for part in parts]
        y = np.concatenate(ys, axis=1) if isinstance(model, nn.Concat) else sum(ys[1:], start=ys[0])
        for part in parts:
            found |= part
    else:
        y = np.asarray(model.forward(x))
    return {name: y, **found}


def test_every_layer_gives_its_own_output(backend: Backend) -> None:
    model = with_every_layer().eval()
    expected = one_by_one(model, X)
    names = [name for name, _ in model.named_layers()]
    found = nn.outputs(model, X, names)
    assert list(found) == names == list(expected)
    for name, y in found.items():
        assert backend.is_array(y)
        np.testing.assert_array_equal(backend.to_numpy(y), expected[name])
    assert backend.to_numpy(found["0"]).min() < 0 <= backend.to_numpy(found["1"]).min()


def test_a_convolution_alone_is_without_its_activation(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sigmoid())
    (y,) = nn.outputs(model, X, ["0"]).values()
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(model[0](X)))


def test_the_model_is_as_before(backend: Backend) -> None:
    model = with_every_layer()
    model[2].eval()
    own = model[1].forward
    vars(model[1])["forward"] = own
    y = model(X)
    modes, state, random = [layer.training for layer in model.layers()], model.state_dict(), model.random_state()
    found = nn.outputs(model, 2 * X, ["", "4.0", "8"])
    for array in found.values():
        backend.fill_zero(array)
    assert [layer.training for layer in model.layers()] == modes and model.random_state() == random
    assert [layer for layer in model.layers() if "forward" in vars(layer)] == [model[1]]
    assert vars(model[1])["forward"] is own
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    # Backward still belongs to the forward pass before.
    dx = backend.to_numpy(model.backward(np.ones(y.shape, np.float32)))
    model.load_random_state({name: [seed, calls - 1] for name, (seed, calls) in random.items()})
    model(X)
    np.testing.assert_array_equal(dx, backend.to_numpy(model.backward(np.ones(y.shape, np.float32))))


def test_the_model_is_as_before_after_an_error() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 3), nn.Dropout())
    y = model(X)
    with pytest.raises(ValueError, match="features"):
        nn.outputs(model, X[:, :1], ["2"])
    assert all(layer.training and "forward" not in vars(layer) for layer in model.layers())
    assert model.backward(y).shape == X.shape


def test_layers_of_ones_own(backend: Backend) -> None:
    model = nn.Sequential(Twice(), nn.ReLU())
    found = nn.outputs(model, X, ["0", "0.conv"])
    np.testing.assert_array_equal(backend.to_numpy(found["0"]), backend.to_numpy(found["0.conv"]))
    with pytest.raises(ValueError, match=r"`names` has '0\.unused', a ReLU that the forward pass does not run"):
        nn.outputs(model, X, ["0.unused"])


def test_of_a_shared_name_the_outermost_counts() -> None:
    inner = nn.Sequential({"conv": nn.Conv2d(2, 2, 1)})
    model = nn.Sequential(
        {"block": nn.Sequential({"": nn.Add({"": inner, "other": nn.Identity()}), "relu": nn.ReLU()})}
    )
    found = nn.outputs(model, X, ["block", "block.relu"])
    np.testing.assert_array_equal(found["block"], found["block.relu"])
    assert nn.upto(model, "block")["block"] is model["block"]
    part = nn.upto(model, "block.conv")
    assert list(part.state_dict()) == ["block.conv.weight", "block.conv.bias"]
    np.testing.assert_array_equal(part(X), inner(X))


@pytest.mark.parametrize("function", [lambda model, name: nn.outputs(model, X, [name]), nn.upto])
def test_names_that_are_not_there(function: Any) -> None:
    model = nn.Sequential({"conv": nn.Conv2d(2, 2, 1), "block": nn.Sequential(nn.ReLU())})
    for name in ("1", "block.1", "block.", "weight", 0):
        with pytest.raises(ValueError, match=r"must be a layer of the model, which has conv, block, block\.0$"):
            function(model, name)
    with pytest.raises(ValueError, match="which has none"):
        function(nn.ReLU(), "0")


def test_one_string_for_names() -> None:
    with pytest.raises(TypeError, match="`names` '0' must be several names"):
        nn.outputs(nn.Sequential(nn.ReLU()), X, "0")


def test_a_part_computes_what_the_model_computes_there(backend: Backend) -> None:
    model = with_every_layer().eval()
    found = nn.outputs(model, X, [name for name, _ in model.named_layers()])
    for name, y in found.items():
        part = nn.upto(model, name)
        assert set(part.state_dict()) <= set(model.state_dict())
        np.testing.assert_array_equal(backend.to_numpy(part(X)), backend.to_numpy(y))
    assert nn.upto(model, "") is model
    assert len(model) == 9 and len(model[4]) == 2


def test_gradients_of_a_part_start_at_its_layer(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Concat(nn.Tanh(), nn.Conv2d(3, 2, 1)), nn.Flatten())
    part = nn.upto(model, "1.1")
    dy = RANDOM.standard_normal(part(X).shape).astype(np.float32)
    dx = part.backward(dy)
    np.testing.assert_array_equal(backend.to_numpy(dx), backend.to_numpy(model[0].backward(model[1][1].backward(dy))))
    assert nn.receptive_field(nn.upto(model, "1.0"), X.shape).size == (3, 3)


@pytest.mark.parametrize("own", ["class", "attribute"])
def test_what_comes_before_a_layer_must_be_known(own: str) -> None:
    class Reversed(nn.Sequential):
        def forward(self, x: Any) -> Any:
            return super().forward(-x)

    inner = Reversed(nn.ReLU()) if own == "class" else nn.Sequential(nn.ReLU())
    if own == "attribute":
        inner.forward = lambda x: x
    for name, layer in (("0.0", inner), ("0.conv", Twice())):
        with pytest.raises(ValueError, match=rf"`name` '{name}' is inside of a {type(layer).__name__}, whose forward"):
            nn.upto(nn.Sequential(layer), name)
    assert nn.upto(nn.Sequential(inner, nn.ReLU()), "0")[0] is inner
