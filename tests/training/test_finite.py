"""Where infinity and NaN are first seen, and that looking for it changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn
from numbacnn.data import ArrayDataset, DataLoader
from numbacnn.training import Callback, Run, TrainingStep, fit
from numbacnn.training.finite import first_not_finite
from tests.recorder import Recorder
from tests.training.toy import dataset, loaders, model_and_optimizer


class Overflow(nn.Layer):
    """Doubles, as many times as it is told."""

    times = 0

    def forward(self, x: Any) -> Any:
        for _ in range(self.times):
            x = nn.Add(nn.Identity(), nn.Identity()).to(self.backend).forward(x)
        return x

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        return dy


def model_with_blocks() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 1),
        nn.ReLU(),
        nn.Sequential({"norm": nn.BatchNorm2d(2), "double": Overflow(), "conv1": nn.Conv2d(2, 2, 1)}),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


def images() -> np.ndarray:
    return dataset(4).images


def test_a_finite_pass_finds_nothing_and_changes_nothing(backend: backends.Backend) -> None:
    model = model_with_blocks()
    own = model[1].forward = lambda x: nn.ReLU.forward(model[1], x)
    before, arrays = model.state_dict(), [state.value for _, state in model.named_buffers()]
    random = model.random_state()
    assert first_not_finite(model, images()) == ""
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(state.value is array for (_, state), array in zip(model.named_buffers(), arrays, strict=True))
    assert model.random_state() == random
    assert model[1].forward is own
    assert ["forward" in vars(layer) for layer in model] == [False, True, *[False] * 4]


def spoil_input(model: nn.Sequential, x: np.ndarray) -> None:
    x.fill(np.inf)


def spoil_bias(model: nn.Sequential, x: np.ndarray) -> None:
    model[5].bias.value = [0, np.nan]


def spoil_inner_weight(model: nn.Sequential, x: np.ndarray) -> None:
    model[2]["conv1"].weight.value = np.full((2, 2, 1, 1), -np.inf)


def spoil_running_average(model: nn.Sequential, x: np.ndarray) -> None:
    model[2]["norm"].running_var.value = [1, np.inf]


def overflow_inside(model: nn.Sequential, x: np.ndarray) -> None:
    model[2]["norm"].bias.value = [1, 1]  # not everything that it doubles is 0
    model[2]["double"].times = 150


def overflow_at_once(model: nn.Sequential, x: np.ndarray) -> None:
    model[0].weight.value = np.full((2, 1, 1, 1), 3e38)
    x.fill(2)


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (spoil_input, "the input"),
        (spoil_bias, "the parameter 5.bias"),
        (spoil_inner_weight, "the parameter 2.conv1.weight"),
        (spoil_running_average, ""),
        (overflow_inside, "the output of 2.double (Overflow)"),
        (overflow_at_once, "the output of 0 (Conv2d)"),
    ],
)
def test_the_first_place_is_named(backend: backends.Backend, spoil: Any, place: str) -> None:
    model, x = model_with_blocks(), images().copy()
    spoil(model, x)
    before = model.state_dict()
    assert first_not_finite(model, x) == place
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_buffers_count_in_evaluation(backend: backends.Backend) -> None:
    model = model_with_blocks().eval()
    model[2]["norm"].running_mean.value = [0, np.nan]
    assert first_not_finite(model, images()) == "the buffer 2.norm.running_mean"


def test_a_model_of_one_layer() -> None:
    model = nn.Linear(2, 2)
    model.bias.value = [0, np.nan]
    assert first_not_finite(model, np.ones((1, 2))) == "the parameter bias"
    model = Overflow()
    model.times = 130
    assert first_not_finite(model, np.ones((1, 2), np.float32)) == "the output of the model (Overflow)"


def test_too_little_memory_is_not_what_is_reported() -> None:
    model, _ = model_and_optimizer()

    def forward(x: Any) -> Any:
        raise MemoryError

    model[1].forward = forward
    assert first_not_finite(model, images()) == ""


class Spoil(Callback):
    """Sets a parameter to NaN after one batch or, with ``last``, the last one."""

    def __init__(self, last: bool = False) -> None:
        self.last = last

    def on_batch_end(self, run: Run) -> None:
        if run.batch == (run.batches if self.last else 1):
            run.model[4].bias.value = np.full(2, np.nan)


@pytest.mark.parametrize("last", [False, True])
def test_fit_names_the_place(backend: backends.Backend, last: bool) -> None:
    model, optimizer = model_and_optimizer()
    before = model[2].running_mean.value
    # In the background, what went wrong has spread over all parameters by the time that it is noticed.
    place = r"1\.weight" if backend.asynchronous and not last else r"4\.bias"
    name = "test" if last else "training"
    with pytest.raises(FloatingPointError, match=rf"{name} loss is nan .*; first seen in the parameter {place}$"):
        fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1, callbacks=[Spoil(last)])
    assert model[2].running_mean.value is before


def test_fit_blames_the_data() -> None:
    model, optimizer = model_and_optimizer()
    _, test_loader = loaders()
    bad = dataset()
    bad.images[11] = np.nan
    loader = DataLoader(ArrayDataset(bad.images, bad.labels, bad.classes), 20, prefetch=0)
    with pytest.raises(FloatingPointError, match=r"the images of that batch hold infinity or NaN$"):
        fit(model, loader, test_loader, nn.CrossEntropyLoss(), optimizer, 1)


@pytest.mark.parametrize("passes", [1, 3])
def test_a_batch_without_a_finite_loss_changes_no_parameter(passes: int) -> None:
    """Also of a step that is captured."""
    model, optimizer = model_and_optimizer()
    step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer)
    x, y = np.ones((4, 1, 2, 2), np.float32), np.array([0, 1, 0, 1])
    for _ in range(passes):
        step(x, y)
    former = [np.array(p.value) for p in model.parameters()]
    step(np.full_like(x, np.nan), y)
    for parameter, value in zip(model.parameters(), former, strict=True):
        np.testing.assert_array_equal(parameter.value, value)
    assert np.isnan(step.totals()[0])
    step(x, y)
    assert not np.array_equal(model[1].weight.value, former[0])


def test_a_step_in_the_background_is_not_waited_for() -> None:
    model, optimizer = model_and_optimizer()
    recorder = Recorder()
    step = TrainingStep(model.to(recorder), nn.CrossEntropyLoss(), optimizer, clip_norm=1.0)
    before = recorder.read
    for _ in range(3):
        step(np.ones((4, 1, 2, 2), np.float32), np.array([0, 1, 0, 1]))
    assert recorder.read - before <= 1  # the loss, which moves to the backend
