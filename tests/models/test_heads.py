"""Models for other classes: the last layer is replaced in one line, what is before it frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.training import TrainingStep
from tests.models.variants import ALL, build

CLASSES = 3


def replace_the_head(model: Any) -> str:
    """As the guide for those who come from PyTorch has it; what names of its weights begin with."""
    if isinstance(model[-1], nn.Linear):
        model[-1] = nn.Linear(model[-1].in_features, CLASSES)
        return list(model.named_children())[-1][0]
    if "classifier" in dict(model.named_children()):
        classifier = model["classifier"]
        if isinstance(classifier[-1], nn.Linear):
            classifier[-1] = nn.Linear(classifier[-1].in_features, CLASSES)
            return f"classifier.{len(classifier) - 1}"
        classifier[1] = nn.Conv2d(classifier[1].in_channels, CLASSES, 1)
        return "classifier.1"
    model[7][-2] = nn.Conv2d(model[7][-2].in_channels, CLASSES, 1)
    return "7.4"


@pytest.mark.parametrize("name", ALL)
def test_the_head_is_replaced_and_trained_alone(name: str) -> None:
    model, x = build(name)
    model.freeze()
    head = replace_the_head(model)
    assert model.output_shape(x.shape) == (x.shape[0], CLASSES)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == [f"{head}.weight", f"{head}.bias"]
    table = nc.summary(model, x.shape)
    assert table.trainable == sum(parameter.size for parameter in model.parameters() if parameter.requires_grad)
    before = model.state_dict()
    step = TrainingStep(model, nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), 0.01, weight_decay=0.1))
    step(x, np.arange(x.shape[0]) % CLASSES)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]) == (name not in trained), name


@pytest.mark.parametrize("name", [name for name in ALL if name != "nin"])
def test_weights_for_other_classes_are_loaded_but_for_the_head(name: str) -> None:
    old, x = build(name, seed=1)
    model, _ = build(name)
    head = replace_the_head(model)
    classes = old.output_shape(x.shape)[1]
    with pytest.raises(ValueError, match=f"another number of classes, {classes} in the state and {CLASSES} in the"):
        model.load_state_dict(old.state_dict())
    report = model.load_state_dict(old.state_dict(), ignore_mismatched_sizes=True)
    assert [name for name, *_ in report.mismatched_keys] == [f"{head}.weight", f"{head}.bias"]
