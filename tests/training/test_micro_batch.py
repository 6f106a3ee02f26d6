"""Batches that are computed in pieces: what is cut at the same places has the same bits."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.backends import Backend
from numbacnn.training import Accuracy, TrainingStep, fit
from numbacnn.training.accumulation import pieces_of
from tests.recorder import Recorder
from tests.strategies import SIMULATED
from tests.training.test_accumulate import IMAGES, LABELS, LOSSES, network, parts, state_of, step_of
from tests.training.toy import assert_same, batches

STEPS = 3
KINDS = ["ignored and weighted", "squared"] if SIMULATED else [*LOSSES]


def with_dropout(backend: Backend, algorithm: str) -> nn.Sequential:
    model = network(np.float32).to(backend)
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            layer.algorithm = algorithm
    nc.manual_seed(4)
    return nn.Sequential(*model[:-1], nn.Dropout(0.3), model[-1])


def left_after(backend: Backend, kind: str, algorithm: str, calls: tuple[int, ...], **options: Any) -> dict[str, Any]:
    """What is there after steps with batches of so many samples, NumPy's and the backend's in turn."""
    make, targets = LOSSES[kind]
    model, loss, x = with_dropout(backend, algorithm), make(), IMAGES.astype(np.float32)
    optimizer: optim.Optimizer = optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    if len(kind) % 2:
        optimizer = optim.AdamW(model.parameters(), 0.01)
    metrics = [Accuracy()] if targets is LABELS and not SIMULATED else []
    step = TrainingStep(model, loss, optimizer, clip_norm=0.3, metrics=metrics, **options)
    for i in range(STEPS):
        for part in parts(calls):
            given = [array[part] for array in (x, targets)]
            step(*(map(backend.asarray, given) if i % 2 else given))
        assert step.pending == 0
    if options["capture"] and backend.name == "cpu" and not config.DISABLE_JIT:
        assert step.mode == "captured"
    figures = {"totals": step.totals(), "random": model.random_state(), "metrics": [m.value() for m in metrics]}
    return {**state_of(step), **figures}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("capture", [False, True])
def test_cut_at_the_same_places_the_bits_are_the_same(backend: Backend, kind: str, capture: bool) -> None:
    rng = np.random.default_rng([KINDS.index(kind), capture])
    micro_batch = int(rng.integers(1, 5))
    n = int(rng.integers(1, 12))
    algorithm = str(rng.choice(["auto", *backend.conv2d_algorithms()]))
    cuts = [*range(0, n, micro_batch), n]
    some = [0, *(cut for cut in cuts[1:-1] if rng.random() < 0.4), n]
    in_pieces, in_calls, in_some = (tuple(b - a for a, b in pairwise(ends)) for ends in ([0, n], cuts, some))
    options = {"backend": backend, "kind": kind, "algorithm": algorithm, "capture": capture}
    expected = left_after(**options, calls=in_calls, accumulate=len(in_calls))
    for calls in (in_pieces, in_some):
        actual = left_after(**options, calls=calls, accumulate=len(calls), micro_batch=micro_batch)
        assert_same(actual, expected)


def test_the_step_is_that_of_one_batch(backend: Backend) -> None:
    """But for last bits, also where no label of a piece counts."""
    make, targets = LOSSES["ignored and weighted"]
    whole, cut = step_of(backend, make()), step_of(backend, make(), micro_batch=1)
    for _ in range(2):
        for step in (whole, cut):
            step(IMAGES, targets)
    expected = state_of(whole)
    for name, array in state_of(cut).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_pieces_of_one_size_are_captured_once() -> None:
    recorder = Recorder()
    step = step_of(recorder, nn.CrossEntropyLoss(), micro_batch=4)
    for _ in range(4):
        step(IMAGES, LABELS)  # of pieces of 4, 4 and 3
        assert recorder.read == 0
    # The first of each kind is plain on a backend that works in the background, and so are the end after such a piece
    # and the first of the others.
    assert recorder.captured == 3 and recorder.launched == (4 * 2 - 1) + (4 - 1) + (4 - 2)


def test_a_device_is_given_a_piece_at_a_time() -> None:
    nowhere = SimpleNamespace(asarray=None)
    pieces = pieces_of(IMAGES, (LABELS, IMAGES), 4, nowhere)
    assert [len(x) for x, _ in pieces] == [4, 4, 3] and all(np.may_share_memory(x, IMAGES) for x, _ in pieces)
    assert [tuple(map(len, y)) for _, y in pieces] == [(4, 4), (4, 4), (3, 3)]


def test_several_inputs_and_targets_are_cut_alike() -> None:
    class OfBoth(nn.Loss):
        def __init__(self) -> None:
            super().__init__()
            self.each = [nn.MSELoss(), nn.MSELoss()]

        def compute(self, prediction: Any, target: Any) -> Any:
            return sum(loss.compute(p, t) for loss, p, t in zip(self.each, prediction, target, strict=True))

        def backward(self, dy: Any = None) -> Any:
            return tuple(loss.backward() for loss in self.each)

    rng = np.random.default_rng(0)
    x, y = (tuple(rng.standard_normal((7, n)) for n in sizes) for sizes in ((3, 2), (4, 1)))
    found, seen = [], []
    with nc.use_backend("reference"):
        for calls, options in (((7,), {"micro_batch": 3}), ((3, 3, 1), {"accumulate": 3})):
            nc.manual_seed(1)
            nodes = {
                "a": (nn.Linear(3, 4, dtype=np.float64), "first"),
                "b": (nn.Linear(2, 4, dtype=np.float64), "second"),
                "sum": (nn.Sum(), "a", "b"),
                "c": (nn.Linear(4, 1, dtype=np.float64), "sum"),
            }
            model = nn.Graph(nodes, ["first", "second"], ["sum", "c"])
            inner = model["c"]
            inner.forward = lambda x, forward=inner.forward: seen.append(len(x)) or forward(x)
            step = TrainingStep(
                model, OfBoth(), optim.SGD(model.parameters(), 0.1), metrics=[], capture=False, **options
            )
            for part in parts(calls):
                step(tuple(one[part] for one in x), tuple(one[part].tolist() for one in y) if found else y)
            found.append(state_of(step))
    assert seen == [3, 3, 1, 3, 3, 1]
    assert_same(*found)


def test_an_epoch_of_fit_has_the_same_bits_however_its_samples_come() -> None:
    """With what is left over at its end, which is a single piece."""
    x, y = (np.concatenate(arrays)[:27] for arrays in zip(*batches(5), strict=True))
    found, losses = [], []
    with nc.use_backend("reference"):
        for size, options in (
            *((12, {"micro_batch": 3}), (3, {"accumulate": 4})),
            (6, {"micro_batch": 3, "accumulate": 2}),
        ):
            nc.manual_seed(2)
            model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 2))
            optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
            schedule = optim.StepLR(optimizer, 2, per="batch")
            data = [(x[i : i + size], y[i : i + size]) for i in range(0, 27, size)]
            history = fit(model, data, None, nn.CrossEntropyLoss(), optimizer, 2, schedule=schedule, **options)
            assert schedule.count == 2 * 3
            losses.append(history.records[-1].train_loss)
            found.append({**model.state_dict(), **optimizer.state_dict()})
    for other in found[1:]:
        assert_same(other, found[0])
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-12)  # which is summed up batch by batch


def test_nothing_is_left_of_a_batch_whose_later_piece_is_refused() -> None:
    wrong = LABELS.copy()
    wrong[8] = 3
    with nc.use_backend("reference"):
        step, twin = (step_of("reference", nn.CrossEntropyLoss(), micro_batch=4) for _ in range(2))
        for accumulate in (1, 3):
            step.accumulate = twin.accumulate = accumulate
            if accumulate > 1:
                step(IMAGES, LABELS)
            with pytest.raises(ValueError, match="labels"):
                step(IMAGES, wrong)
            assert step.pending == 0
            for _ in range(accumulate):
                step(IMAGES, LABELS)
                twin(IMAGES, LABELS)
            assert_same(state_of(step), state_of(twin))
        with pytest.raises(
            ValueError, match=r"`x` and `y` have \[11, 9\] samples, must have as many .* `micro_batch` 4"
        ):
            step(IMAGES, LABELS[:9])
        assert step.pending == 0


def test_what_is_not_finite_is_found_piece_by_piece() -> None:
    class AtMost(nn.Identity):
        def forward(self, x: Any) -> Any:
            assert len(x) <= 2
            return super().forward(x)

    (x, y), *_ = batches(1)
    x[4] = 1e30
    with nc.use_backend("reference"):
        model = nn.Sequential(AtMost(), nn.Flatten(), nn.Linear(4, 2))
        model[2].weight.value = np.full((2, 4), 1e20)
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="output of 2"):
            fit(
                *(model, [(x, y)], None, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1), 1),
                micro_batch=2,
                capture=False,
            )
