"""The confusion matrix, and sums over batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import nn, optim
from numbacnn.backends import Backend
from numbacnn.training import (
    Accuracy,
    ClassAccuracy,
    MeanAbsoluteError,
    MeanIoU,
    Metric,
    TrainingStep,
    confusion_matrix,
    evaluate,
)
from numbacnn.training.metrics import MetricSums
from tests.strategies import SIMULATED
from tests.training.toy import loaders, model_and_optimizer


def given_logits(*batches: tuple[list[list[float]], list[int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """A loader for a model that is the identity."""
    return [(np.array(logits, np.float32), np.array(labels, np.int64)) for logits, labels in batches]


def test_rows_are_labels_and_columns_predictions(backend: Backend) -> None:
    random = np.random.default_rng(0)
    logits, labels = random.integers(0, 4, (50, 3)).astype(np.float32), random.integers(0, 3, 50)
    loader = [(logits[:20], labels[:20]), (logits[20:20], labels[20:20]), (logits[20:], labels[20:])]
    predictions = [max(range(3), key=lambda k: row[k]) for row in logits.tolist()]  # the first of equal ones
    expected = [
        [sum((t, p) == (i, j) for t, p in zip(labels, predictions, strict=True)) for j in range(3)] for i in range(3)
    ]
    matrix = confusion_matrix(nn.Identity(), loader)
    assert matrix.dtype == np.int64 and matrix.tolist() == expected
    assert matrix.tolist() != matrix.T.tolist() and matrix.sum() == 50
    on_device = [(backend.asarray(x), backend.asarray(y)) for x, y in loader]
    np.testing.assert_array_equal(confusion_matrix(nn.Identity(), on_device), matrix)


def test_it_agrees_with_the_accuracy_and_leaves_the_model_alone(backend: Backend) -> None:
    model, _ = model_and_optimizer()
    model[2].eval()
    state, random_state = model.state_dict(), model.random_state()
    matrix = confusion_matrix(model, loaders()[1])
    _, accuracy = evaluate(model, loaders()[1], nn.CrossEntropyLoss())
    assert matrix.shape == (2, 2) and matrix.sum() == 10 and np.trace(matrix) == round(10 * accuracy)
    assert [layer.training for layer in model] == [True, True, False, True, True]
    assert model.random_state() == random_state
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_classes_without_samples_have_a_row_of_zeros() -> None:
    matrix = confusion_matrix(nn.Identity(), given_logits(([[0, 1, 0]], [2])))
    assert matrix.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "`loader` gives no samples"),
        ([(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))], "`loader` gives no samples"),
        (given_logits(([[0, 1]], [2])), r"`labels` holds 2|`labels`.*0\.\.1"),
        (given_logits(([[0, 1]], [-1])), r"`labels`.*0\.\.1"),
        (given_logits(([[0, 1]], [0, 1])), "`labels`"),
        (given_logits(([0, 1], [0, 1])), r"`logits` \(2,\) must have 2 axes"),
    ],
)
def test_what_cannot_be_counted(backend: Backend, batches: list, message: str) -> None:
    model = nn.Identity()
    for loader in (batches, [(backend.asarray(x), backend.asarray(y)) for x, y in batches]):
        with pytest.raises(ValueError, match=message):
            confusion_matrix(model, loader)
        assert model.training


def test_sums_over_many_samples_are_accurate(backend: Backend) -> None:
    class Given(nn.Loss):
        def compute(self, prediction: Any, target: Any) -> Any:
            return self.backend.asarray(np.array(0.1, np.float64))

    totals, loss = MetricSums(backend), Given()
    n = 10 if SIMULATED else 1000
    logits, labels = backend.asarray(np.zeros((n, 2), np.float32)), backend.asarray(np.zeros(n, np.int64))
    for _ in range(10 * n):
        totals.add(loss, logits, labels)
    loss_sum, correct, examples = totals.read()
    assert correct == examples == 10 * n * n
    assert loss_sum == pytest.approx(examples * 0.1, rel=1e-10)


def drawn(seed: int, *positions: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits of 4 classes and labels, of which some are 1, in batches of one shape."""
    rng = np.random.default_rng(seed)
    shape = (4, 4, *positions)
    return [(rng.standard_normal(shape).astype(np.float32), rng.integers(0, 4, (4, *positions))) for _ in range(3)]


def by_definition(batches: list[tuple[np.ndarray, np.ndarray]], ignored: int) -> dict[str, float]:
    """Of logits whose numbers are all different."""
    rows = np.concatenate([np.moveaxis(x, 1, -1).reshape(-1, 4) for x, _ in batches])
    labels = np.concatenate([y.reshape(-1) for _, y in batches])
    rows, labels = rows[labels != ignored], labels[labels != ignored]
    order = np.argsort(-rows, axis=1)
    first = order[:, 0]
    shares = [((first == c) & (labels == c)).sum() / max(((first == c) | (labels == c)).sum(), 1) for c in range(4)]
    there = [((first == c) | (labels == c)).any() for c in range(4)]
    return {
        "top 1": (first == labels).mean(),
        "top 2": (order[:, :2] == labels[:, None]).any(1).mean(),
        "iou": float(np.mean(np.array(shares)[there])),
    }


@pytest.mark.parametrize("positions", [(), (2, 3)])
@pytest.mark.parametrize("ignored", [-100, 1])
def test_metrics_are_those_of_all_batches(backend: Backend, positions: tuple[int, ...], ignored: int) -> None:
    batches = drawn(0, *positions)
    metrics = {"top 1": Accuracy(1, ignored), "top 2": Accuracy(2, ignored), "iou": MeanIoU(4, ignored)}
    for _ in range(2):  # each evaluation begins anew
        evaluate(nn.Identity(), batches, nn.CrossEntropyLoss(ignore_index=ignored), list(metrics.values()))
        expected = by_definition(batches, ignored)
        assert {name: metric.value() for name, metric in metrics.items()} == pytest.approx(expected, rel=1e-12)
    for metric in metrics.values():
        metric.reset()
        assert np.isnan(metric.value())


def test_mean_absolute_error(backend: Backend) -> None:
    rng, metric = np.random.default_rng(0), MeanAbsoluteError()
    batches = [(rng.standard_normal((n, 3)), rng.standard_normal((n, 3))) for n in (2, 5)]
    assert np.isnan(metric.value())
    evaluate(nn.Identity(), batches, nn.L1Loss(), [metric])
    differences = np.concatenate([np.abs(x - y) for x, y in batches])
    assert metric.value() == pytest.approx(differences.mean(), rel=1e-12)


@pytest.mark.parametrize("capture", [True, False])
def test_a_step_updates_them_captured_or_not(backend: Backend, capture: bool) -> None:
    model = nn.Linear(3, 4)
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((6, 3)).astype(np.float32), rng.integers(0, 4, 6)) for _ in range(5)]
    metrics: list[Metric] = [Accuracy(), Accuracy(2), MeanIoU(4)]
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer, metrics=metrics, capture=capture)
    for x, y in batches[:2]:
        step(x, y)
    for metric in metrics:
        metric.reset()
    for x, y in batches[2:]:
        step(x, y)
    logits = [(np.array(backend.to_numpy(model(x))), y) for x, y in batches[2:]]
    expected = by_definition(logits, -100)
    assert [metric.value() for metric in metrics] == pytest.approx(list(expected.values()), rel=1e-12)
    captures = backend.capture(lambda: None) is not None
    assert step.mode == ("captured" if capture and captures else "plain")
    metrics[0].k = 3  # a setting, which counts from the next step on
    metrics[0].reset()
    step(*batches[2])
    order = np.argsort(-logits[0][0], axis=1)[:, :3]
    assert metrics[0].value() == pytest.approx((order == logits[0][1][:, None]).any(1).mean())


def test_what_metrics_refuse(backend: Backend) -> None:
    logits, labels = drawn(0)[0]
    for metric, message in (
        (MeanIoU(5), r"`prediction` \(4, 4\) must be of 5 classes: MeanIoU\(classes=5, ignore_index=-100\)"),
        (Accuracy(), r"`labels` must be in 0\.\.3 or -100, which is ignored, but hold 4"),
        (MeanAbsoluteError(), r"`target` \(4,\) must have the shape \(4, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(logits, np.minimum(labels + 3, 4))
    with pytest.raises(ValueError, match="`k` 0 must be at least 1"):
        Accuracy(0)
    with pytest.raises(NotImplementedError, match="Metric must define `add`"):
        Metric(np.zeros(())).update(logits, labels)


@pytest.mark.parametrize("capture", [False, True])
def test_the_answer_of_probabilities_is_the_most_probable_class(backend: Backend, capture: bool) -> None:
    random = np.random.default_rng(0)
    x, targets = random.standard_normal((12, 3)).astype(np.float32), random.random((12, 3)).astype(np.float32)
    model, loss, metric = nn.Linear(3, 3), nn.CrossEntropyLoss(ignore_index=1), Accuracy(ignore_index=1)
    expected = float((backend.to_numpy(model(x)).argmax(axis=1) == targets.argmax(axis=1)).mean())
    step = TrainingStep(model, loss, optim.SGD(model.parameters(), lr=1e-9), capture=capture, metrics=[metric])
    for _ in range(3):
        step(x, targets)
    assert step.totals()[1] == round(36 * expected)
    assert metric.value() == pytest.approx(expected)
    assert evaluate(model, [(x, targets)], loss, [metric])[1] == pytest.approx(expected)
    assert metric.value() == pytest.approx(expected)
    # Numbers that are no probabilities are not answers.
    assert np.isnan(evaluate(model, [(x, targets)], nn.MSELoss())[1])


@pytest.mark.parametrize("positions", [(), (3, 2)])
def test_the_accuracy_of_each_class(backend: Backend, positions: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    logits = random.standard_normal((20, 4, *positions)).astype(np.float32)
    labels = random.integers(0, 3, (20, *positions))  # none of the last class
    labels[0] = -100
    metric = ClassAccuracy(["a", "b", "c", "some other"])
    metric.prepare(backend)
    assert np.isnan(metric.value()) and all(map(np.isnan, metric.of_each().values()))
    for part in (slice(0, 8), slice(8, 20)):
        metric.update(logits[part], labels[part])
    answers = logits.argmax(axis=1)
    expected = [(answers[labels == k] == k).mean() for k in range(3)]
    found = metric.of_each()
    assert list(found) == ["a", "b", "c", "some other"] and np.isnan(found["some other"])
    assert list(found.values())[:3] == expected and metric.value() == pytest.approx(np.mean(expected))
    lines = str(metric).splitlines()
    assert len(lines) == 6 and len(set(map(len, lines))) == 1 and lines[4].split() == ["some", "other", "nan", "0", "0"]
    assert lines[5].split()[-1] == str((labels >= 0).sum())
    assert repr(metric) == "ClassAccuracy(classes=4, ignore_index=-100)"


def test_classes_that_class_accuracy_refuses() -> None:
    with pytest.raises(TypeError, match="`classes` 'ab' must be a sequence of names"):
        ClassAccuracy("ab")
    with pytest.raises(ValueError, match="`classes` 0 must be at least 1"):
        ClassAccuracy(0)
    with pytest.raises(ValueError, match=r"`prediction` \(1, 2\) must be of 3 classes"):
        ClassAccuracy(3).update([[1.0, 2.0]], [0])
