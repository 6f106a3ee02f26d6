"""Losses as training uses them."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from numbacnn import nn
from numbacnn.backends import Backend

LOGITS = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
LABELS = np.array([0, 1])


def test_cross_entropy(backend: Backend) -> None:
    total = -math.log(0.5) - math.log(0.8)
    gradient = np.array([[-0.5, 0.25, 0.25], [0.1, -0.2, 0.1]])
    for reduction, scale in (("mean", 0.5), ("sum", 1)):
        loss = nn.CrossEntropyLoss(reduction=reduction)
        value = loss.forward(LOGITS, LABELS)
        assert type(value) is float and value == pytest.approx(total * scale)
        np.testing.assert_allclose(loss.backward(), gradient * scale, rtol=1e-6)
        assert loss(LOGITS.astype(np.float32), LABELS) == pytest.approx(total * scale, rel=1e-6)
        assert loss.backward().dtype == np.float32


def test_the_loss_may_stay_on_the_backend(backend: Backend) -> None:
    for loss, target in ((nn.CrossEntropyLoss(), LABELS), (nn.MSELoss(), 0 * LOGITS)):
        value = loss.compute(LOGITS, target)
        assert backend.is_array(value) and tuple(value.shape) == () and value.dtype == np.float64
        gradient = backend.to_numpy(loss.backward())
        assert float(backend.to_numpy(value)) == loss(LOGITS, target)
        np.testing.assert_array_equal(backend.to_numpy(loss.backward()), gradient)


def test_a_loss_of_one_s_own_defines_compute(backend: Backend) -> None:
    class Sum(nn.Loss):
        def compute(self, prediction, target):
            return self.backend.asarray(np.array(float(np.sum(prediction))))

    assert Sum().forward([1, 2], None) == 3

    class WithForward(nn.Loss):
        def forward(self, prediction, target):
            return 0.0

    for kind in (WithForward, nn.Loss):
        with pytest.raises(TypeError, match=f"{kind.__name__} must define `compute"):
            kind()


def test_label_smoothing(backend: Backend) -> None:
    loss = nn.CrossEntropyLoss(label_smoothing=0.3)
    targets = 0.7 * np.eye(3)[LABELS] + 0.1
    assert loss.forward(LOGITS, LABELS) == pytest.approx(-(targets * LOGITS).sum() / 2)
    np.testing.assert_allclose(loss.backward(), (np.exp(LOGITS) - targets) / 2, atol=1e-12)


def test_mean_squared_error(backend: Backend) -> None:
    prediction, target = np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])
    for reduction, scale in (("mean", 0.5), ("sum", 1)):
        loss = nn.MSELoss(reduction)
        assert loss.forward(prediction, target) == 13 * scale
        np.testing.assert_allclose(loss.backward(), [[-4 * scale, -6 * scale]])


def test_labels_may_be_changed_after_the_loss(backend: Backend) -> None:
    loss, labels = nn.CrossEntropyLoss(reduction="sum"), LABELS.copy()
    loss.forward(LOGITS, labels)
    labels[...] = 2
    np.testing.assert_allclose(loss.backward(), [[-0.5, 0.25, 0.25], [0.1, -0.2, 0.1]], rtol=1e-6)


def test_backward_before_forward(backend: Backend) -> None:
    for loss in (nn.CrossEntropyLoss(), nn.MSELoss()):
        with pytest.raises(RuntimeError, match="`backward` called before `forward` on "):
            loss.backward()
    used = nn.MSELoss()
    used([1.0], [2.0])
    assert pickle.loads(pickle.dumps(used)).backend is backend
    with pytest.raises(RuntimeError, match="`backward` called before `forward` on MSELoss"):
        used.to(backend.name).backward()


def test_labels_that_are_no_labels(backend: Backend) -> None:
    loss = nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match=r"`labels` must be in 0\.\.2"):
        loss(LOGITS, [0, 3])
    with pytest.raises(TypeError, match="`labels` of dtype float64 must be integers"):
        loss(LOGITS, [0.0, 1.0])
    with pytest.raises(ValueError, match="`target`"):
        nn.MSELoss()([1.0, 2.0], [1.0])
