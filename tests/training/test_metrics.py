"""The confusion matrix, and sums over batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import nn
from numbacnn.backends import Backend
from numbacnn.training import confusion_matrix, evaluate
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
