"""Settings are checked when they are set, not at the next forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn
from numbacnn.backends import Backend
from numbacnn.nn import settings
from tests.registry import ENTRIES

MADE: list[Callable[[], Any]] = [
    lambda: nn.Conv2d(2, 4, 3, padding=1),
    lambda: nn.Conv1d(2, 4, 3, padding=1),
    lambda: nn.ConvTranspose1d(2, 4, 3, padding=1),
    lambda: nn.ConvTranspose2d(2, 4, 3, padding=1),
    lambda: nn.Linear(2, 3),
    lambda: nn.BatchNorm1d(2),
    lambda: nn.BatchNorm2d(2),
    lambda: nn.GroupNorm(2, 4),
    lambda: nn.InstanceNorm1d(2),
    lambda: nn.InstanceNorm2d(2),
    lambda: nn.LayerNorm(2),
    lambda: nn.LocalResponseNorm(2),
    lambda: nn.MaxPool2d(2),
    lambda: nn.AvgPool2d(2, divisor_override=3),
    lambda: nn.MaxPool1d(2),
    lambda: nn.AvgPool1d(2),
    lambda: nn.LPPool2d(2, 3),
    lambda: nn.AdaptiveAvgPool2d(3),
    lambda: nn.AdaptiveMaxPool2d(3),
    lambda: nn.Dropout(),
    lambda: nn.CrossEntropyLoss([1.0, 2.0]),
    lambda: nn.NLLLoss(),
    lambda: nn.MSELoss(),
    lambda: nn.L1Loss(),
    lambda: nn.SmoothL1Loss(),
    lambda: nn.HuberLoss(),
    lambda: nn.BCEWithLogitsLoss(),
]
BROADCAST = {"weight", "pos_weight"}
"""Of `BCEWithLogitsLoss`: any numbers are such settings."""
MAY_BE_NONE = {"divisor_override", "output_size", "pos_weight", "weight"}


def settings_of(owner: Any) -> list[str]:
    names = dict.fromkeys(name for kind in type(owner).__mro__ for name in vars(kind))
    return [name for name in names if isinstance(getattr(type(owner), name, None), settings._Setting)]


def test_every_argument_that_is_kept_is_a_setting(backend: Backend) -> None:
    public = [getattr(nn, name) for name in nn.__all__]
    kinds = [kind for kind in public if isinstance(kind, type) and issubclass(kind, (nn.Layer, nn.Loss))]
    made = {type(layer): layer for layer in (make() for make in MADE)}
    cases = [entry.draw(np.random.default_rng(0), np.float32) for entry in ENTRIES.values()]
    made |= {type(layer): layer for layer in (case.layer() for case in cases)}
    of_structure = {"layers", "branches", "nodes", "inputs", "outputs", "bias", "dtype"}
    for kind in kinds:
        arguments = set(inspect.signature(kind).parameters) - of_structure
        assert not arguments or kind in made or kind is nn.Loss, kind
        if kind in made:
            assert arguments <= set(settings_of(made[kind])), kind


@pytest.mark.parametrize("make", MADE)
def test_what_is_no_value_is_refused_and_the_former_kept(backend: Backend, make: Callable[[], Any]) -> None:
    owner = make()
    for name in settings_of(owner):
        before = getattr(owner, name)
        is_any = name in BROADCAST and isinstance(owner, nn.BCEWithLogitsLoss)
        for value in (object(), "fft", *([] if name in MAY_BE_NONE else [None]), *([] if is_any else [[], -1])):
            if name == "ignore_index" and value == -1:
                continue  # any label may be ignored
            with pytest.raises((TypeError, ValueError), match=f"`{name}`.*: {type(owner).__name__}\\("):
                setattr(owner, name, value)
            assert getattr(owner, name) is before
        setattr(owner, name, before)


@pytest.mark.parametrize(
    ("make", "name", "value", "message"),
    [
        (lambda: nn.Conv2d(1, 1, 3), "algorithm", "fft", r"`algorithm` 'fft' must be one of 'auto'.*: Conv2d\(1, 1"),
        (lambda: nn.Conv2d(1, 1, 3, padding="same"), "stride", 2, "`padding` 'same' needs `stride` 1"),
        (lambda: nn.Conv2d(1, 1, 3, stride=2), "padding", "same", "`padding` 'same' needs `stride` 1"),
        (lambda: nn.Conv2d(1, 1, 3), "kernel_size", 5, r"`kernel_size` is \(3, 3\) for good, .*shape of the weight"),
        (lambda: nn.Conv2d(2, 2, 3), "groups", 2, "`groups` is 1 for good"),
        (lambda: nn.MaxPool2d(4, padding=2), "kernel_size", 2, "`padding` .* must be at most half of `kernel_size`"),
        (lambda: nn.AvgPool2d(2), "dilation", 2, "`dilation` is 1 for good, for average pooling has none"),
        (lambda: nn.Dropout(), "p", 1.5, r"`p` 1.5 must be in 0\.\.1"),
        (lambda: nn.Dropout(), "seed", 2**64, "`seed` 18446744073709551616 must be in"),
        (lambda: nn.Dropout(), "calls", -1, "`calls` -1 must be"),
        (lambda: nn.ReLU(), "backend", "reference", "`backend` of ReLU is not to be set: `to` moves a layer"),
    ],
)
def test_refused_when_set(backend: Backend, make: Callable[[], Any], name: str, value: Any, message: str) -> None:
    layer = make()
    with pytest.raises(ValueError, match=message):
        setattr(layer, name, value)


def test_what_is_set_counts(backend: Backend) -> None:
    layer = nn.Conv2d(1, 1, 3)
    layer.padding, layer.stride, layer.dilation, layer.algorithm = ((1, 1), (1, 1)), [2, 2], np.int64(2), "loops"
    assert (layer.padding, layer.stride, layer.dilation) == ((1, 1), (2, 2), (2, 2))
    expected = nn.Conv2d(1, 1, 3, stride=2, padding=1, dilation=2, algorithm="loops")
    expected.load_state_dict(layer.state_dict())
    x = np.random.default_rng(0).standard_normal((1, 1, 9, 9))
    np.testing.assert_array_equal(layer(x), expected(x))
    assert layer.window() == expected.window() and repr(layer) == repr(expected)
    with pytest.raises(TypeError, match="`training` 'yes' must be True or False"):
        layer.training = "yes"


def test_a_layer_stays_where_its_algorithm_is(backend: Backend) -> None:
    others = [name for name in backend.conv2d_algorithms() if name not in backends.get("reference").conv2d_algorithms()]
    if not others:
        pytest.skip("the reference has all algorithms of this backend")
    model = nn.Sequential(nn.Linear(1, 1), nn.Conv2d(1, 1, 3, algorithm=others[0]))
    with pytest.raises(ValueError, match=f"`algorithm` '{others[0]}' is none of the backend 'reference': Conv2d"):
        model.to("reference")
    assert {layer.backend for layer in model.layers()} == {backend}
    assert {parameter.backend for parameter in model.parameters()} == {backend}


def test_one_entry_is_for_both_axes(backend: Backend) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 9, 9))
    pairs = [
        (nn.Conv2d(1, 1, (3,), (2,), (1,), [1]), nn.Conv2d(1, 1, 3, 2, 1)),
        (nn.MaxPool2d((3,), (2,), (1,), (1,)), nn.MaxPool2d(3, 2, 1)),
        (nn.AvgPool2d([3], [2], np.array([1])), nn.AvgPool2d(3, 2, 1)),
    ]
    for layer, expected in pairs:
        expected.load_state_dict(layer.state_dict())
        np.testing.assert_array_equal(layer(x), expected(x))
        assert layer.output_shape(x.shape) == expected.output_shape(x.shape) and layer.window() == expected.window()
