"""Averages of the weights: their formula, how training, evaluation and checkpoints use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn
from numbacnn.io import load_checkpoint
from numbacnn.io.arrays import read_arrays
from numbacnn.training import Callback, CheckpointFile, History, Run, TrainingStep, WeightAverage, evaluate, fit
from tests.recorder import Recorder
from tests.strategies import SIMULATED
from tests.training.toy import assert_same, batches, loaders, model_and_optimizer


def test_an_average_by_its_formula(backend: backends.Backend) -> None:
    model = nn.Linear(2, 1)
    average = WeightAverage(model, decay=0.75)
    expected = {name: np.array(value) for name, value in model.state_dict().items()}
    assert_same(average.state_dict(), expected)
    for step in range(3):
        for parameter in model.parameters():
            parameter.value = np.full(parameter.shape, step + 1)
        average.update()
        expected = {name: 0.75 * value + 0.25 * (step + 1) for name, value in expected.items()}
    for name, value in average.state_dict().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6)


def test_averages_stand_in_for_the_weights(backend: backends.Backend) -> None:
    model, optimizer = model_and_optimizer()
    loss, average = nn.CrossEntropyLoss(), WeightAverage(model, decay=0.5)
    step = TrainingStep(model, loss, optimizer, weight_average=average)
    for x, y in batches(2):
        step(x, y)
    weights, averages = model.state_dict(), average.state_dict()
    arrays = [parameter.value for parameter in model.parameters()]
    _, test_loader = loaders()
    with average.applied():
        assert_same({name: model.state_dict()[name] for name in averages}, averages)
        figures = evaluate(model, test_loader, loss)
        with pytest.raises(RuntimeError, match="the averages stand in for the weights"):
            average.update()
        with pytest.raises(RuntimeError, match="the averages stand in for the weights"), average.applied():
            pass
    assert_same(model.state_dict(), weights)
    assert_same(average.state_dict(), averages)
    assert all(p.value is array for p, array in zip(model.parameters(), arrays, strict=True))

    other, _ = model_and_optimizer()
    other.load_state_dict({**weights, **averages})
    assert evaluate(other, test_loader, loss) == figures


def test_weights_come_back_after_an_error() -> None:
    model, _ = model_and_optimizer()
    average = WeightAverage(model)
    model[1].weight.value = np.zeros((6, 4))
    with pytest.raises(KeyboardInterrupt), average.applied():
        assert model[1].weight.value.any()
        raise KeyboardInterrupt
    assert not model[1].weight.value.any()
    average.update()


def test_a_saved_average_continues_to_the_same_bits() -> None:
    results = []
    for save in (False, True):
        model, optimizer = model_and_optimizer()
        average = WeightAverage(model, 0.9)
        for i, (x, y) in enumerate(batches(4)):
            if save and i == 2:
                state, average = average.state_dict(), WeightAverage(model, 0.9)
                average.load_state_dict(state)
            TrainingStep(model, nn.CrossEntropyLoss(), optimizer, weight_average=average)(x, y)
        results.append(average.state_dict())
    assert_same(*results)


def test_an_average_follows_its_model() -> None:
    model, _ = model_and_optimizer()
    average = WeightAverage(model, 0.5)
    model.to(Recorder())
    model[1].weight.value = np.zeros((6, 4))
    expected = 0.5 * average.state_dict()["1.weight"]
    average.update()
    np.testing.assert_array_equal(average.state_dict()["1.weight"], expected)


def test_averages_that_do_not_fit() -> None:
    model, optimizer = model_and_optimizer()
    average = WeightAverage(model)
    state = average.state_dict()
    with pytest.raises(ValueError, match=r"does not fit the average: .*missing 1\.weight; unexpected x"):
        average.load_state_dict({**{n: a for n, a in state.items() if n != "1.weight"}, "x": np.zeros(2)})
    with pytest.raises(ValueError, match=r"1\.bias has shape \(2,\), must have \(6,\)"):
        average.load_state_dict({**state, "1.bias": np.zeros(2)})
    with pytest.raises(ValueError, match=r"`decay` 1\.5 must be in 0"):
        WeightAverage(model, 1.5)
    with pytest.raises(ValueError, match="`weight_average` is of another model"):
        TrainingStep(model[1], nn.CrossEntropyLoss(), optimizer, weight_average=average)


Trained = tuple[nn.Sequential, "WeightAverage | None", History]


def run_fit(epochs: int, decay: float | None, callbacks: tuple[Callback, ...] = (), lr: float = 0.5) -> Trained:
    model, optimizer = model_and_optimizer(lr)
    average = None if decay is None else WeightAverage(model, decay)
    arguments = (model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs)
    return model, average, fit(*arguments, callbacks=callbacks, weight_average=average)


def resume_fit(path: Path, epochs: int, decay: float | None) -> Trained:
    model, optimizer = model_and_optimizer(lr=0.1)
    average = None if decay is None else WeightAverage(model, decay)
    checkpoint = load_checkpoint(path, model, optimizer, average)
    history = History.from_json(checkpoint["history"])
    arguments = (model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs)
    fit(*arguments, start_epoch=checkpoint["epoch"], history=history, weight_average=average)
    return model, average, history


def figures(history: History, *names: str) -> list[list[float]]:
    return [[getattr(record, name) for name in names] for record in history.records]


def test_fit_evaluates_the_averages_and_leaves_the_weights(backend: backends.Backend) -> None:
    epochs = 1 if SIMULATED else 2
    plain, _, plain_history = run_fit(epochs, None)
    model, average, history = run_fit(epochs, 0.9)
    assert average is not None
    assert_same(model.state_dict(), plain.state_dict())
    training = ("train_loss", "train_accuracy")
    assert figures(history, *training) == figures(plain_history, *training)
    assert history.records[-1].test_loss != plain_history.records[-1].test_loss
    with average.applied():
        test_loss, test_accuracy = evaluate(model, loaders()[1], nn.CrossEntropyLoss())
    assert figures(history, "test_loss", "test_accuracy")[-1] == [test_loss, test_accuracy]


def test_fit_averages_each_step() -> None:
    seen: list[dict[str, np.ndarray]] = []

    class Look(Callback):
        def on_fit_begin(self, run: Run) -> None:
            self.on_batch_end(run)

        def on_batch_end(self, run: Run) -> None:
            seen.append({name: np.array(parameter.value) for name, parameter in run.model.named_parameters()})

    _, average, _ = run_fit(2, 0.75, (Look(),))
    assert average is not None and len(seen) == 1 + 2 * 3
    expected = seen[0]
    for weights in seen[1:]:
        expected = {name: 0.75 * value + 0.25 * weights[name] for name, value in expected.items()}
    for name, value in average.state_dict().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_resumed_run_ends_with_the_same_averages(tmp_path: Path, backend: backends.Backend) -> None:
    path, epochs = tmp_path / "checkpoint.safetensors", 2 if SIMULATED else 4
    whole, whole_average, whole_history = run_fit(epochs, 0.9)
    _, former, _ = run_fit(1 if SIMULATED else 2, 0.9, (CheckpointFile(path),))
    model, average, history = resume_fit(path, epochs, 0.9)
    assert average is not None and former is not None and whole_average is not None
    assert_same(model.state_dict(), whole.state_dict())
    assert_same(average.state_dict(), whole_average.state_dict())
    names = ("train_loss", "test_loss", "test_accuracy")
    assert figures(history, *names) == figures(whole_history, *names)
    saved = {name: array for name, array in read_arrays(path)[0].items() if name.startswith("average.")}
    assert_same(saved, {f"average.{name}": array for name, array in former.state_dict().items()})


def test_checkpoints_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    plain, averaged = tmp_path / "plain.safetensors", tmp_path / "averaged.safetensors"
    run_fit(1, None, (CheckpointFile(plain),))
    run_fit(1, 0.9, (CheckpointFile(averaged),))
    resume_fit(plain, 2, None)
    for path, with_average, message in (
        (plain, True, r"plain.safetensors' has no averages of the weights for `weight_average`"),
        (averaged, False, r"averaged.safetensors' is of a run with averages of the weights: give its `weight_average`"),
    ):
        model, optimizer = model_and_optimizer()
        average = WeightAverage(model) if with_average else None
        before = model.state_dict()
        with pytest.raises(ValueError, match=message):
            load_checkpoint(path, model, optimizer, average)
        assert_same(model.state_dict(), before)


def test_averages_of_another_shape_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    run_fit(1, 0.9, (CheckpointFile(path),))
    model, optimizer = model_and_optimizer()
    before, average = model.state_dict(), WeightAverage(nn.Linear(4, 6))
    averages = average.state_dict()
    with pytest.raises(ValueError, match="does not fit the average"):
        load_checkpoint(path, model, optimizer, average)
    assert_same(model.state_dict(), before)
    assert_same(average.state_dict(), averages)


def test_averages_that_are_no_numbers_are_found_by_name() -> None:
    model, optimizer = model_and_optimizer(lr=0.0)
    average = WeightAverage(model, 1)
    state: dict[str, Any] = average.state_dict()
    average.load_state_dict({**state, "1.weight": np.full_like(state["1.weight"], np.nan)})
    arguments = (model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1)
    with pytest.raises(FloatingPointError, match=r"test loss is nan .* first seen in the parameter 1\.weight"):
        fit(*arguments, weight_average=average)
    assert np.isfinite(model.state_dict()["1.weight"]).all()


def test_fit_refuses_the_average_of_another_model() -> None:
    model, optimizer = model_and_optimizer()
    arguments = (model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1)
    with pytest.raises(ValueError, match="`weight_average` is of another model"):
        fit(*arguments, weight_average=WeightAverage(nn.Linear(2, 1)))
