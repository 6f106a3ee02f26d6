"""LeNet's shapes, sizes and names."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn import backends, models

SHAPES = {
    "avg": [
        *((1, 6, 28, 28), (1, 6, 28, 28), (1, 6, 14, 14), (1, 16, 10, 10), (1, 16, 10, 10), (1, 16, 5, 5)),
        *((1, 400), (1, 120), (1, 120), (1, 84), (1, 84), (1, 10)),
    ],
    "max": [
        *((1, 6, 24, 24), (1, 6, 24, 24), (1, 6, 12, 12), (1, 16, 8, 8), (1, 16, 8, 8), (1, 16, 4, 4)),
        *((1, 256), (1, 120), (1, 120), (1, 84), (1, 84), (1, 10)),
    ],
}


@pytest.mark.parametrize("pooling", SHAPES)
def test_shapes_known_and_computed(backend: backends.Backend, pooling: str) -> None:
    known: tuple[int, ...] = (1, 1, 28, 28)
    x = np.zeros(known, np.float32)
    for layer, expected in zip(models.lenet(pooling=pooling), SHAPES[pooling], strict=True):
        known, x = layer.output_shape(known), layer(x)
        assert known == tuple(x.shape) == expected


@pytest.mark.parametrize(("pooling", "parameters"), [("avg", 61_706), ("max", 44_426)])
def test_number_of_parameters(pooling: str, parameters: int) -> None:
    model = models.lenet(pooling=pooling)
    assert sum(parameter.size for parameter in model.parameters()) == parameters
    assert list(model.state_dict()) == [f"{i}.{name}" for i in (0, 3, 7, 9, 11) for name in ("weight", "bias")]


@pytest.mark.parametrize("pooling", SHAPES)
def test_channels_classes_and_dtype(pooling: str) -> None:
    model = models.lenet(in_channels=3, num_classes=7, pooling=pooling, dtype=np.float64)
    logits = model(np.random.default_rng(0).random((2, 3, 28, 28)))
    assert tuple(logits.shape) == (2, 7)
    assert logits.dtype == np.float64
    model.backward(np.ones((2, 7)))
    assert all(parameter.dtype == np.float64 and np.any(parameter.grad) for parameter in model.parameters())


def test_the_image_must_be_28_by_28() -> None:
    model = models.lenet()
    with pytest.raises(ValueError, match="576"):
        model(np.zeros((1, 1, 32, 32), np.float32))


def test_another_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="`pooling` 'sum' must be one of 'avg', 'max'"):
        models.lenet(pooling="sum")


def test_the_tree_of_layers() -> None:
    lines = repr(models.lenet(pooling="max")).splitlines()
    assert lines[1] == "  (0): Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1))"
    assert lines[3] == "  (2): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    assert lines[8] == "  (7): Linear(in_features=256, out_features=120, bias=True)"
    assert len(lines) == 14


@pytest.mark.parametrize(("pooling", "parameters"), [("avg", 44_878), ("max", 44_878)])
def test_batch_normalisation_before_every_activation(pooling: str, parameters: int) -> None:
    model = models.lenet(pooling=pooling, batch_norm=True)
    kinds = [type(layer).__name__ for layer in model]
    conv = ["Conv2d", "BatchNorm2d", "Sigmoid", "AvgPool2d" if pooling == "avg" else "MaxPool2d"]
    assert kinds == [*conv * 2, "Flatten", *["Linear", "BatchNorm1d", "Sigmoid"] * 2, "Linear"]
    assert sum(parameter.size for parameter in model.parameters()) == parameters == 44_426 + 2 * (6 + 16 + 120 + 84)
    assert model[:9].output_shape((1, 1, 28, 28)) == (1, 256)
    with pytest.raises(TypeError, match="`batch_norm` 1 must be True or False"):
        models.lenet(batch_norm=1)
