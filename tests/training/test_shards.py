"""Batches that are cut into shards, by one process; tests/distributed has several."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.backends import Backend
from numbacnn.sharding import Addends, Alone, ShardedBatch
from numbacnn.training import Accuracy, MeanAbsoluteError, TrainingStep, evaluate, fit
from numbacnn.training.shards import _Work
from tests.recorder import Recorder
from tests.strategies import SIMULATED
from tests.training.test_accumulate import IMAGES, LABELS, LOSSES, network, state_of, step_of
from tests.training.toy import assert_same, batches, loaders

KINDS = ["ignored and weighted", "squared"] if SIMULATED else [*LOSSES]


def with_everything(backend: Backend) -> nn.Sequential:
    nc.manual_seed(4)
    with nc.use_backend(backend):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.4), nn.Linear(5, 3)
        )


def left_after(backend: Backend, calls: int = 3, **options: Any) -> dict[str, Any]:
    model = with_everything(backend)
    metrics = [] if SIMULATED else [Accuracy(), Accuracy(2)]
    optimizer = optim.AdamW(model.parameters(), 0.01)
    step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer, clip_norm=1, metrics=metrics, **options)
    for i in range(calls):
        given = [IMAGES.astype(np.float32), LABELS]
        step(*(map(backend.asarray, given) if i % 2 else given))
    if options.get("capture", True) and backend.name == "cpu" and not config.DISABLE_JIT:
        assert step.mode == "captured"
    state = {**model.state_dict(), **{f"o.{name}": value for name, value in optimizer.state_dict().items()}}
    figures = {"totals": step.totals(), "random": model.random_state(), "metrics": [m.value() for m in metrics]}
    return {**state, **figures}


def test_captured_or_not_the_bits_are_the_same(backend: Backend) -> None:
    for options in ({"shards": 4}, {"shards": 2, "micro_batch": 3, "accumulate": 2}):
        assert_same(left_after(backend, capture=True, **options), left_after(backend, capture=False, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_is_that_of_one_batch(backend: Backend, kind: str) -> None:
    """But for last bits, where nothing depends on the batch that a sample is in; also where some shards are empty."""
    make, targets = LOSSES[kind]
    whole = step_of(backend, make())
    others = [step_of(backend, make(), shards=shards, micro_batch=2) for shards in (1, 4, 13)]
    for _ in range(2):
        for step in (whole, *others):
            step(IMAGES, targets)
    expected, totals = state_of(whole), whole.totals()
    for step in others:
        for name, array in state_of(step).items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-8, atol=1e-10, err_msg=name)
        if kind not in ("ignored and weighted", "nll"):  # of which each piece has a mean of its own
            np.testing.assert_allclose(step.totals(), totals, rtol=1e-6)


def test_one_shard_has_the_bits_of_the_whole_batch(backend: Backend) -> None:
    """Dropout draws as without shards, running averages are those of the batch."""
    whole, one = (left_after(backend, accumulate=2, calls=4, **options) for options in ({}, {"shards": 1}))
    assert_same(one, whole)


def test_shards_draw_random_numbers_of_their_own() -> None:
    with nc.use_backend("reference"):
        model = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(50, 2))
        seen: list[Any] = []
        forward = model[0].forward
        model[0].forward = lambda x: seen.append(forward(x)) or seen[-1]
        step = TrainingStep(
            model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1), shards=4, micro_batch=1, capture=False
        )
        for _ in range(2):
            step(np.ones((6, 50), np.float32), np.zeros(6, int))
    masks = {np.asarray(y).tobytes() for y in seen}
    assert len(masks) == len(seen) == 12
    assert model[0].calls == 2 * 2  # passes of the shard that had most


def test_running_averages_are_the_mean_of_those_of_the_shards() -> None:
    x = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    with nc.use_backend("reference"):
        model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
        optimizer = optim.SGD(model.parameters(), 0.0)
        step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer, shards=4)
        step(x, np.zeros(10, int))
    parts = [x[:2], x[2:5], x[5:7], x[7:]]
    mean = sum(len(part) * part.mean(0) for part in parts) / 10
    var = sum(len(part) * part.var(0, ddof=1) for part in parts) / 10
    np.testing.assert_allclose(model[0].running_mean.value, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(model[0].running_var.value, 0.9 + 0.1 * var, rtol=1e-5)
    assert model[0].num_batches_tracked.value == 1


@pytest.mark.parametrize("micro_batch", [None, 100])
@pytest.mark.parametrize("shards", [1, 2, 5, 8, 13])
def test_few_copies_of_the_gradients_are_held(
    shards: int, micro_batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = _Work._copied

    def counted(self: _Work, gradients: Any) -> Any:
        if not self._spare:
            made.append(gradients)
        return real(self, gradients)

    monkeypatch.setattr(_Work, "_copied", counted)
    step = step_of("reference", nn.CrossEntropyLoss(), shards=shards, micro_batch=micro_batch)
    for _ in range(3):
        step(np.concatenate([IMAGES] * 2), np.concatenate([LABELS] * 2))
    assert len(made) == max(0, math.floor(math.log2(shards)) - (micro_batch is None))


def test_shards_are_captured_once_for_each_of_their_sizes() -> None:
    recorder = Recorder()
    step = step_of(recorder, nn.CrossEntropyLoss(), shards=4)
    for _ in range(4):
        step(IMAGES, LABELS)  # of 2 and 3, which are added to them, and 3 and 3
    assert recorder.captured == 4  # with the end


def test_nothing_is_left_of_a_batch_that_is_refused() -> None:
    wrong = LABELS.copy()
    wrong[8] = 3
    with nc.use_backend("reference"):
        model, twin = (with_everything(nc.backends.get("reference")) for _ in range(2))
        metrics = [Accuracy(), Accuracy()]
        steps = [
            TrainingStep(each, nn.CrossEntropyLoss(), optim.SGD(each.parameters(), 0.1), shards=4, metrics=[metric])
            for each, metric in zip((model, twin), metrics, strict=True)
        ]
        x = IMAGES.astype(np.float32)
        for step in steps:
            step(x, LABELS)
        with pytest.raises(ValueError, match="labels"):
            steps[0](x, wrong)
        assert steps[0].pending == 0 and metrics[0].value() == metrics[1].value()
        for step in steps:
            step(x, LABELS)
    assert_same(model.state_dict(), twin.state_dict())
    assert model.random_state() == twin.random_state() and steps[0].totals() == steps[1].totals()


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    with nc.use_backend("reference"):
        step = step_of("reference", nn.CrossEntropyLoss(), shards=4)
        before = step.model.state_dict()
        x = IMAGES.copy()
        x[0] = np.nan
        step(x, LABELS)
        assert_same(step.model.state_dict(), before)
        step(IMAGES, LABELS)
        assert all(np.isfinite(array).all() for array in step.model.state_dict().values())


def test_a_batch_without_samples_counts_nothing() -> None:
    with nc.use_backend("reference"):
        step, twin = (step_of("reference", nn.CrossEntropyLoss(), shards=2, accumulate=2) for _ in range(2))
        for n in (0, 11, 0, 0, 11):
            step(IMAGES[:n], LABELS[:n])
        for _ in range(2):
            twin(IMAGES, LABELS)
        assert step.totals() == twin.totals() and step.pending == 0
        assert_same(step.model.state_dict(), twin.model.state_dict())


def test_what_fits_not_is_refused() -> None:
    step = step_of("reference", nn.CrossEntropyLoss(), shards=4)
    with pytest.raises(ValueError, match=r"\[11, 9\] samples, must have as many .* `shards` 4"):
        step(IMAGES, LABELS[:9])
    with pytest.raises(ValueError, match="cut into 2 shards, must be cut into `shards` 4"):
        step(ShardedBatch(11, 2, []))
    plain = step_of("reference", nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="cut into 2 shards, must be cut into `shards` None"):
        plain(ShardedBatch(11, 2, []))
    for each in (plain, step):
        with pytest.raises(TypeError, match="`y` must be the targets of `x`"):
            each(IMAGES)
    for shards in (0, 2**16 + 1):
        with pytest.raises(ValueError, match=f"`shards` {shards}"):
            step_of("reference", nn.CrossEntropyLoss(), shards=shards)


def test_fit_takes_shards_from_a_loader_and_of_a_list() -> None:
    found = []
    with nc.use_backend("reference"):
        for as_list in (False, True):
            nc.manual_seed(2)
            model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 2))
            train, test = loaders()
            if as_list:
                train.set_epoch(0)
                epochs = [[*train], [*train]]
            optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
            history = None
            for epoch in range(2):
                history = fit(
                    *(model, epochs[epoch] if as_list else train, [*test] if as_list else test),
                    *(nn.CrossEntropyLoss(), optimizer, epoch + 1),
                    start_epoch=epoch,
                    history=history,
                    shards=3,
                )
            last = history.records[-1]
            figures = {"loss": last.train_loss, "test": last.test_loss, "accuracy": last.test_accuracy}
            found.append({**model.state_dict(), **figures})
    assert_same(*found)


class Together:
    """One of two processes, which are threads here."""

    size = 2

    def __init__(self, rank: int, box: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.box, self.barrier = rank, box, barrier

    def gather_metrics(self, value: Any) -> list[Any]:
        self.box[self.rank] = value
        self.barrier.wait(60)
        every = [*self.box]
        self.barrier.wait(60)
        return every


@pytest.mark.parametrize("samples", [11, 8, 1])
def test_a_shared_evaluation_has_the_figures_of_a_whole_one(samples: int) -> None:
    data = [(IMAGES[i : i + 2], LABELS[i : i + 2]) for i in range(0, samples, 2)]
    box, barrier = [None, None], threading.Barrier(2)

    def figures(group: Together | None, model: nn.Layer) -> Any:
        shown, metric = [], Accuracy(2)

        def show(prediction: Any, target: Any) -> None:
            shown.append((np.array(prediction).tolist(), target.tolist()))

        pair = evaluate(
            model, data if group is None else iter(data), nn.CrossEntropyLoss(), [metric], show, group=group
        )
        return pair, metric.value(), shown

    with nc.use_backend("reference"), ThreadPoolExecutor(2) as pool:
        expected = figures(None, network())
        models = [network(), network()]  # whose weights are drawn one after the other
        for actual in pool.map(lambda rank: figures(Together(rank, box, barrier), models[rank]), range(2)):
            assert actual == expected


def test_figures_of_an_evaluation_batch_by_batch() -> None:
    with nc.use_backend("reference"):
        model, errors = network(), [MeanAbsoluteError(), MeanAbsoluteError()]
        values = [(IMAGES[i : i + 2], np.ones((len(IMAGES[i : i + 2]), 3))) for i in range(0, 11, 2)]
        for error, options in zip(errors, ({}, {"group": nc.distributed.Group()}), strict=True):
            evaluate(model, values, nn.MSELoss(), [error], **options)
        assert errors[0].value() == pytest.approx(errors[1].value(), rel=1e-12)
        with pytest.raises(ValueError, match="no samples"):
            evaluate(model, [], nn.MSELoss(), group=nc.distributed.Group())


def test_what_is_not_finite_is_found_in_the_shards() -> None:
    (x, y), *_ = batches(1)
    x[4] = 1e30
    with nc.use_backend("reference"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        model[1].weight.value = np.full((2, 4), 1e20)
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="output of 1"):
            fit(
                *(model, nc.data.DataLoader(nc.data.PairDataset(x, y), 6), None, nn.CrossEntropyLoss()),
                *(optim.SGD(model.parameters(), 0.1), 1),
                shards=3,
                capture=False,
            )


class _Holding(nn.Layer):
    """Goes on with the backward pass when the gradients of the layers above have left, if they do in time."""

    capturable = True

    def __init__(self, left: threading.Event) -> None:
        super().__init__()
        self._left = left
        self.found: list[bool] = []

    def forward(self, x: Any) -> Any:
        self.saved = ()
        return x

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        self.backend.call_host(lambda: self.found.append(self._left.wait(2.0)))
        return dy


class _Two(Alone):
    """The first of two processes, the second of which has nothing to add."""

    size = 2

    def __init__(self, overlap: bool) -> None:
        self.overlap = overlap
        self.left = threading.Event()
        self.ready: list[int] = []

    def piece_bytes(self, backends: Any) -> int:
        return 256

    def sum_pieces(self, addends: Addends, layout: Any, shards: int) -> None:
        for number in range(addends.count):
            while not addends.is_ready(number):
                addends.wait(number, 1.0)
            self.ready.append(number)
            (total,) = addends.nodes(number).values()
            addends.out(number)[...] = total
            self.left.set()


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is captured")
@pytest.mark.parametrize("overlap", [True, False])
def test_gradients_leave_while_the_backward_pass_goes_on(overlap: bool) -> None:
    group = _Two(overlap)
    with nc.use_backend("cpu"):
        holding = _Holding(group.left)
        model = nn.Sequential(nn.Linear(4, 40), nn.ReLU(), holding, nn.Linear(40, 4))
    optimizer = optim.SGD(model.parameters(), 0.1)
    step = TrainingStep(model, nn.MSELoss(), optimizer, shards=2, group=group)
    step(np.ones((8, 4), np.float32), np.ones((8, 4), np.float32))
    assert step.mode == "captured" and group.ready == [*range(len(group.ready))] and len(group.ready) > 4
    assert holding.found == [overlap]


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is captured")
def test_overlap_may_be_set_between_two_steps() -> None:
    group = _Two(False)
    with nc.use_backend("cpu"):
        holding = _Holding(group.left)
        model = nn.Sequential(nn.Linear(4, 40), nn.ReLU(), holding, nn.Linear(40, 4))
    step = TrainingStep(model, nn.MSELoss(), optim.SGD(model.parameters(), 0.1), shards=2, group=group)
    x = np.ones((8, 4), np.float32)
    for overlap in (False, True, False):
        group.overlap = overlap
        group.left.clear()
        step(x, x)
    assert step.mode == "captured" and holding.found == [False, True, False]


def test_a_setting_that_changes_between_two_batches_of_several_pieces_counts() -> None:
    """Of one batch it is looked at once."""
    for micro_batch, shards in ((3, None), (None, 4)):
        results = []
        for capture in (True, False):
            with nc.use_backend("cpu"):
                model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.0), nn.Linear(8, 4))
            for parameter in model.parameters():
                parameter.value[...] = np.linspace(-1, 1, parameter.value.size).reshape(parameter.shape)
            optimizer = optim.SGD(model.parameters(), 0.1)
            step = TrainingStep(
                model, nn.MSELoss(), optimizer, capture=capture, micro_batch=micro_batch, shards=shards
            )  # fmt: skip
            x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
            for p, lr in ((0.0, 0.1), (1.0, 0.1), (0.0, 0.3)):
                model[1].p, optimizer.lr = p, lr
                step(x, x)
            results.append(np.concatenate([each.value.ravel() for each in model.parameters()]))
        np.testing.assert_array_equal(*results)


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is captured")
def test_a_backward_pass_that_fails_ends_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bool:
        raise OSError("lost")

    group = _Two(True)
    with nc.use_backend("cpu"):
        holding = _Holding(group.left)
        model = nn.Sequential(nn.Linear(4, 40), holding, nn.Linear(40, 4))
    optimizer = optim.SGD(model.parameters(), 0.1)
    step = TrainingStep(model, nn.MSELoss(), optimizer, shards=2, group=group)
    x = np.ones((4, 4), np.float32)
    step(x, x)
    monkeypatch.setattr(group.left, "wait", lambda seconds: fail())
    with pytest.raises(OSError, match="lost"):
        step(x, x)
    assert not [each for each in threading.enumerate() if each.name.startswith("numbacnn-exchange")]
    monkeypatch.undo()
    step(x, x)
