"""The same weights in two places."""

from __future__ import annotations

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.backends import Backend
from numbacnn.training import TrainingStep


def test_gradients_of_both_places_add_up(backend: Backend) -> None:
    hidden = nn.Linear(2, 2, bias=False)
    hidden.weight.value = [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match=r"the same Linear object is in layers '0' and '1'.*`nn\.tied_copy\(layer\)`"):
        nn.Sequential(hidden, hidden)
    model = nn.Sequential(hidden, nn.tied_copy(hidden))
    np.testing.assert_array_equal(model([[1, 1]]), [[17, 37]])
    np.testing.assert_array_equal(model.backward([[1, 0]]), [[7, 10]])
    # y = W (W x): dW = dy (W x)^T + (W^T dy) x^T.
    np.testing.assert_array_equal(hidden.weight.grad, [[3 + 1, 7 + 1], [2, 2]])
    assert model.parameters() == [hidden.weight]
    assert list(model.state_dict()) == ["0.weight", "1.weight"]
    optimizer = optim.SGD(model.parameters(), lr=1)
    optimizer.step()
    np.testing.assert_array_equal(model[1].weight.value, [[-3, -6], [1, 2]])
    model.load_state_dict({name: np.ones((2, 2)) for name in model.state_dict()})
    np.testing.assert_array_equal(hidden.weight.value, np.ones((2, 2)))


def test_a_step_writes_the_first_gradient_and_adds_the_second(backend: Backend) -> None:
    def trained(is_step: bool) -> list[np.ndarray]:
        nc.manual_seed(0)
        hidden = nn.Linear(3, 3)
        model, loss = nn.Sequential(hidden, nn.ReLU(), nn.tied_copy(hidden)), nn.CrossEntropyLoss()
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([0, 2])
        if is_step:
            TrainingStep(model, loss, optimizer)(x, y)
        else:
            loss.forward(model.forward(x), y)
            model.backward(loss.backward())
            optimizer.step()
        return [backend.to_numpy(parameter.value) for parameter in model.parameters()]

    for ours, expected in zip(trained(True), trained(False), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_a_whole_block_and_its_dropout(backend: Backend) -> None:
    block = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    twin = nn.tied_copy(block)
    assert twin.parameters() == block.parameters() and twin.named_buffers() == block.named_buffers()
    assert twin[2].seed != block[2].seed and twin[2] is not block[2]
    moved = nn.Sequential(block, twin).to("reference")
    assert {parameter.backend.name for parameter in moved.parameters()} == {"reference"}
    with pytest.raises(TypeError, match="`layer` 3 must be a Layer"):
        nn.tied_copy(3)


def test_files_hold_both_places(backend: Backend, tmp_path) -> None:
    def model() -> nn.Sequential:
        hidden = nn.Linear(2, 2)
        return nn.Sequential(hidden, nn.tied_copy(hidden))

    first, second = model(), model()
    nc.save(tmp_path / "tied.safetensors", first)
    nc.load(tmp_path / "tied.safetensors", second)
    np.testing.assert_array_equal(second([[1, 2]]), first([[1, 2]]))
    assert second[0].weight is second[1].weight
