"""The loop over epochs."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn, optim
from numbacnn.data import DataLoader
from numbacnn.io import load_checkpoint
from numbacnn.training import Accuracy, Callback, CheckpointFile, History, HistoryFile, Run, TrainingStep, evaluate, fit
from tests.strategies import SIMULATED
from tests.training.toy import dataset, loaders, model_and_optimizer, record


def run_fit(epochs: int, callbacks: tuple[Callback, ...] = (), lr: float = 0.5) -> tuple[nn.Sequential, History]:
    model, optimizer = model_and_optimizer(lr)
    return model, fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs, callbacks=callbacks)


def assert_same_weights(first: nn.Layer, second: nn.Layer) -> None:
    for (name, array), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert array.tobytes() == other.tobytes(), name


def learning(history: History) -> list[tuple[float, ...]]:
    """The figures that do not depend on time."""
    return [(r.epoch, r.train_loss, r.train_accuracy, r.test_loss, r.test_accuracy, r.lr) for r in history.records]


def test_it_is_the_plain_loop(backend: backends.Backend) -> None:
    epochs = 2 if SIMULATED else 3
    model, history = run_fit(epochs)

    plain, optimizer = model_and_optimizer()
    train_loader, test_loader = loaders()
    loss = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        plain.train()
        train_loader.set_epoch(epoch)
        results = []
        for images, labels in train_loader:
            step = TrainingStep(plain, loss, optimizer)
            step(images, labels)
            results.append(step.totals())
        test_loss, test_accuracy = evaluate(plain, test_loader, loss)
        expected = (
            epoch + 1,
            sum(r[0] for r in results) / 20,
            sum(r[1] for r in results) / 20,
            test_loss,
            test_accuracy,
        )
        assert learning(history)[epoch] == (*expected, 0.5)
    assert_same_weights(model, plain)


def test_metrics_of_training_and_of_tests_do_not_mix(backend: backends.Backend) -> None:
    epochs = 2
    top, share = Accuracy(k=2), Accuracy()
    model, optimizer = model_and_optimizer()
    loss = nn.CrossEntropyLoss()
    train_loader, test_loader = loaders()
    history = fit(model, train_loader, test_loader, loss, optimizer, epochs, metrics={"top2": top, "share": share})
    for one in history.records:
        assert list(one.metrics) == ["train_top2", "train_share", "test_top2", "test_share"]
        assert one.metrics["train_top2"] == one.metrics["test_top2"] == 1
        assert one.metrics["train_share"] == one.train_accuracy
        assert one.metrics["test_share"] == one.test_accuracy
    alone, plain = run_fit(epochs)
    assert learning(plain) == learning(history) and not plain.records[0].metrics
    assert_same_weights(model, alone)


def test_metrics_in_captured_steps_are_those_of_plain_ones() -> None:
    figures = []
    for capture in (True, False):
        with backends.use_backend("cpu"):
            model, optimizer = model_and_optimizer()
            loss = nn.CrossEntropyLoss()
        history = fit(model, *loaders(), loss, optimizer, 3, metrics=[Accuracy()], capture=capture)
        figures.append([one.metrics for one in history.records])
        assert [*figures[-1][0]] == [f"{part}_Accuracy(k=1, ignore_index=-100)" for part in ("train", "test")]
        assert [one.train_accuracy for one in history.records] == [next(iter(f.values())) for f in figures[-1]]
    assert figures[0] == figures[1]


def test_metrics_without_tests_and_of_a_resumed_run() -> None:
    model, optimizer = model_and_optimizer()
    train_loader, _ = loaders()
    history = fit(model, train_loader, None, nn.CrossEntropyLoss(), optimizer, 1, metrics={"top1": Accuracy()})
    assert list(history.records[0].metrics) == ["train_top1"]
    history = History.from_json(history.to_json())
    fit(model, train_loader, None, nn.CrossEntropyLoss(), optimizer, 2, start_epoch=1, history=history)
    assert [list(one.metrics) for one in history.records] == [["train_top1"], []]


ONE = Accuracy()


@pytest.mark.parametrize(
    ("metrics", "error", "match"),
    [
        (Accuracy(), TypeError, "`metrics` Accuracy.* must be a mapping of names to metrics or a sequence"),
        (["accuracy"], TypeError, "must be made of metrics with strings as names"),
        ({1: Accuracy()}, TypeError, "must be made of metrics with strings as names, not 1"),
        ({"a": ONE, "b": ONE}, ValueError, "must hold each metric once"),
        ([Accuracy(), Accuracy()], ValueError, "must be a mapping where two are printed alike"),
    ],
)
def test_metrics_that_are_refused(metrics: Any, error: type[Exception], match: str) -> None:
    model, optimizer = model_and_optimizer()
    with pytest.raises(error, match=match):
        fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1, metrics=metrics)


def test_the_figures_of_time_fit_together() -> None:
    _, history = run_fit(2)
    for r in history.records:
        assert 0 < r.wall_examples_per_second < r.examples_per_second
        assert math.isclose(r.wall_examples_per_second * r.seconds, 20)


def test_learning_happens() -> None:
    _, history = run_fit(20)
    assert history.records[-1].train_loss < 0.8 * history.records[0].train_loss


class Diary(Callback):
    """Writes down what is called, with the epoch and batch."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        for name in ("fit_begin", "epoch_begin", "batch_end", "epoch_end", "fit_end"):
            setattr(self, f"on_{name}", lambda run, name=name: self._note(name, run))

    def _note(self, name: str, run: Run) -> None:
        self.entries.append(
            f"{name} {run.epoch}/{run.epochs} {run.batch}/{run.batches} {run.average.examples} {len(run.history)}"
        )


def test_callbacks_are_called_in_order() -> None:
    diary = Diary()
    run_fit(2, (diary,))
    assert diary.entries == [
        "fit_begin 0/2 0/3 0 0",
        *("epoch_begin 1/2 0/3 0 0", "batch_end 1/2 1/3 8 0", "batch_end 1/2 2/3 16 0", "batch_end 1/2 3/3 20 0"),
        "epoch_end 1/2 3/3 20 1",
        *("epoch_begin 2/2 0/3 0 1", "batch_end 2/2 1/3 8 1", "batch_end 2/2 2/3 16 1", "batch_end 2/2 3/3 20 1"),
        "epoch_end 2/2 3/3 20 2",
        "fit_end 2/2 3/3 20 2",
    ]


def test_the_end_is_called_after_an_error() -> None:
    class Interrupt(Callback):
        def on_batch_end(self, run: Run) -> None:
            raise KeyboardInterrupt

    diary = Diary()
    with pytest.raises(KeyboardInterrupt):
        run_fit(2, (Interrupt(), diary))
    assert diary.entries == ["fit_begin 0/2 0/3 0 0", "epoch_begin 1/2 0/3 0 0", "fit_end 1/2 1/3 8 0"]


def test_the_rate_of_an_epoch_is_the_one_it_was_trained_with() -> None:
    class Halve(Callback):
        def on_epoch_begin(self, run: Run) -> None:
            run.optimizer.lr = 0.5 / run.epoch

    _, history = run_fit(3, (Halve(),))
    assert [r.lr for r in history.records] == [0.5, 0.25, 0.5 / 3]


def test_a_layer_set_to_evaluation_stays_there() -> None:
    class Freeze(Callback):
        def on_fit_begin(self, run: Run) -> None:
            run.model[2].eval()

    model, _ = run_fit(2, (Freeze(),))
    np.testing.assert_array_equal(model[2].running_mean.value, 0)
    assert [layer.training for layer in model] == [True, True, False, True, True]


@pytest.mark.parametrize("finished", [1, 2] if SIMULATED else [1, 2, 4])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, backend: backends.Backend, finished: int) -> None:
    path = tmp_path / "checkpoint.safetensors"
    epochs = 2 if SIMULATED else 4
    whole, whole_history = run_fit(epochs)
    _, first_history = run_fit(finished, (CheckpointFile(path, {"seed": 3}), HistoryFile(tmp_path / "history.jsonl")))

    model, optimizer = model_and_optimizer(lr=0.1)
    for parameter in model.parameters():
        parameter.value = np.ones(parameter.shape)
    checkpoint = load_checkpoint(path, model, optimizer)
    assert checkpoint["epoch"] == finished
    assert checkpoint["settings"] == {"seed": 3}
    history = History.from_json(checkpoint["history"])
    assert history == first_history
    result = fit(
        model,
        *loaders(),
        nn.CrossEntropyLoss(),
        optimizer,
        epochs,
        start_epoch=finished,
        history=history,
        callbacks=[HistoryFile(tmp_path / "history.jsonl")],
    )
    assert result is history
    assert_same_weights(model, whole)
    assert learning(history) == learning(whole_history)
    assert (tmp_path / "history.jsonl").read_text() == history.lines()
    assert history.records[:finished] == first_history.records


def test_a_loss_that_is_no_number_stops_with_earlier_checkpoints_kept(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"

    class Explode(Callback):
        def on_batch_end(self, run: Run) -> None:
            if (run.epoch, run.batch) == (2, 1):
                run.model[1].weight.value = np.full((6, 4), np.inf)

    with (
        np.errstate(all="ignore"),
        pytest.raises(
            FloatingPointError, match=r"training loss is nan in epoch 2, after batch 2 of 3; .* below 0\.5 may"
        ),
    ):
        run_fit(3, (CheckpointFile(path), Explode()))
    model, optimizer = model_and_optimizer()
    assert load_checkpoint(path, model, optimizer)["epoch"] == 1
    assert_same_weights(model, run_fit(1)[0])


def test_weights_spoilt_by_the_last_update_are_not_saved(tmp_path: Path) -> None:
    class Explode(Callback):
        def on_batch_end(self, run: Run) -> None:
            if run.batch == run.batches:
                run.model[4].bias.value = np.full(2, np.nan)

    with pytest.raises(FloatingPointError, match="test loss is nan in epoch 1, after batch 3 of 3"):
        run_fit(1, (CheckpointFile(tmp_path / "checkpoint.safetensors"), Explode()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"epochs": 0}, ValueError, "`epochs` 0 must be at least 1"),
        ({"epochs": 1.5}, TypeError, "integer"),
        ({"start_epoch": -1}, ValueError, r"`start_epoch` -1 must be in 0\.\.2"),
        ({"start_epoch": 3}, ValueError, r"`start_epoch` 3 must be in 0\.\.2"),
        ({"history": History([record(1)])}, ValueError, "`history` ends with epoch 1; `start_epoch` is 0"),
    ],
)
def test_arguments_that_do_not_fit(changes: dict, error: type, match: str) -> None:
    model, optimizer = model_and_optimizer()
    with pytest.raises(error, match=match):
        fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, **({"epochs": 2} | changes))


def test_nothing_left_to_do_trains_nothing() -> None:
    model, optimizer = model_and_optimizer()
    former = model.state_dict()
    history = History([record(1), record(2)])
    diary = Diary()
    fit(*(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 2), start_epoch=2, history=history, callbacks=[diary])
    assert diary.entries == ["fit_begin 2/2 0/3 0 2", "fit_end 2/2 0/3 0 2"]
    for array, before in zip(model.state_dict().values(), former.values(), strict=True):
        np.testing.assert_array_equal(array, before)


def test_every_evaluation_sees_the_same_batches() -> None:
    order: list[list[int]] = []

    class Seen(DataLoader):
        def __iter__(self):
            batches = list(super().__iter__())
            order.append([label for _, labels in batches for label in labels.tolist()])
            return iter(batches)

    model, optimizer = model_and_optimizer()
    test_loader = Seen(dataset(10, seed=1), 3, shuffle=True, prefetch=0)
    fit(model, loaders()[0], test_loader, nn.CrossEntropyLoss(), optimizer, 3)
    assert len(order) == 3 and order[0] == order[1] == order[2]


def test_every_epoch_has_its_own_order() -> None:
    seen: list[bytes] = []
    model, optimizer = model_and_optimizer()
    forward = model[0].forward
    model[0].forward = lambda x: (seen.append(np.asarray(x).tobytes()) if model.training else None, forward(x))[1]
    fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 3)
    assert len(seen) == 9
    assert all(first != second for first, second in itertools.combinations(seen, 2))


def test_what_rests_before_training_rests_in_it() -> None:
    model, _ = model_and_optimizer()
    optimizer = optim.SGD([*model[1].parameters(), *model[4].parameters()], 0.5)
    before = model[2].eval().state_dict()
    fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1)
    after = model[2].state_dict()
    assert {name: array.tolist() for name, array in after.items()} == {n: a.tolist() for n, a in before.items()}
    assert [layer.training for layer in model] == [True, True, False, True, True]
    fit(model.eval(), *loaders(), nn.CrossEntropyLoss(), optimizer, 1)
    assert all(layer.training for layer in model.layers())
    assert model[2].num_batches_tracked.value == 3


def test_batches_may_come_from_a_list() -> None:
    whole, history = run_fit(1)
    model, optimizer = model_and_optimizer()
    lists = [list(loader) for loader in loaders()]
    assert learning(fit(model, *lists, nn.CrossEntropyLoss(), optimizer, 1)) == learning(history)
    assert_same_weights(model, whole)


class Forgot(nn.Loss):
    """Defines `forward` as it is done elsewhere."""

    def forward(self, prediction: object, target: object) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"test_loader": 5}, "`test_loader` 5 must be a DataLoader or another iterable, with a length"),
        ({"train_loader": None}, "`train_loader` None must be a DataLoader or another iterable, with a length"),
        ({"train_loader": iter([])}, "`train_loader` <list_iterator .* must be a DataLoader"),
        ({"loss": Forgot}, "Forgot must define `compute"),
        ({"loss": lambda: "mse"}, "`loss` 'mse' must be a Loss"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_trained(changes: dict, match: str) -> None:
    model, optimizer = model_and_optimizer()
    before = model.state_dict()
    train_loader, test_loader = loaders()
    parts = {"train_loader": train_loader, "test_loader": test_loader, "loss": nn.CrossEntropyLoss, **changes}
    with pytest.raises(TypeError, match=match):
        parts["loss"] = parts["loss"]()
        fit(model, optimizer=optimizer, epochs=1, **parts)
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_images_that_hold_nan_are_named() -> None:
    model, optimizer = model_and_optimizer()
    train_loader, test_loader = loaders()
    batches = list(train_loader)
    batches[1][0][2, 0, 1, 1] = np.nan
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as failure:
        fit(model, batches, test_loader, nn.CrossEntropyLoss(), optimizer, 1)
    assert str(failure.value) == (
        "training loss is nan in epoch 1, after batch 2 of 3; the images of that batch hold infinity or NaN"
    )


def test_steps_need_not_be_captured(backend: backends.Backend) -> None:
    results = []
    for capture in (True, False):
        model, optimizer = model_and_optimizer()
        with pytest.MonkeyPatch.context() as patch:
            if not capture:
                patch.setattr(backend, "capture", None)
            history = fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1, capture=capture)
        results.append((model, learning(history)))
    assert_same_weights(results[0][0], results[1][0])
