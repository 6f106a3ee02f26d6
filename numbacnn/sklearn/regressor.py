"""A regressor."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array

from .. import ops
from ..backends import Array
from ..data import PairDataset
from ..nn import Loss, MSELoss
from ..ops.arguments import check_shape
from .estimator import Estimator

__all__ = ["CNNRegressor"]

_Array = np.ndarray[Any, Any]


class CNNRegressor(RegressorMixin, Estimator):
    """A network that predicts one number or several of each sample, trained by the mean of squared errors.

    The arguments are those of `CNNClassifier`, without ``class_weight``. Targets are best near 0 and 1 in size, for
    which `TransformedTargetRegressor` of scikit-learn with a `StandardScaler` sees.

    Attributes:
        n_outputs_: how many numbers are predicted of a sample. The others are those of `CNNClassifier`.

    Example:
        >>> X = np.linspace(-1, 1, 64)[:, None]
        >>> regressor = CNNRegressor(random_state=0, backend="reference").fit(X, np.hstack([X, -X]))
        >>> regressor.predict(X).shape, regressor.score(X, np.hstack([X, -X])) > 0.9
        ((64, 2), True)
    """

    n_outputs_: int

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> CNNRegressor:  # noqa: N803
        """Train for one epoch over these samples, from where the last call of this or of ``fit`` ended.

        Arguments and errors are those of ``fit``.
        """
        return self._learn(X, y, sample_weight, is_partial=True)

    def predict(self, X: Any) -> _Array:  # noqa: N803
        """(n,) or (n, outputs), as ``y`` was, in the dtype that the model computes in."""
        outputs = self._predicted(X)
        found = np.array(self.model_.backend.to_numpy(outputs))
        return found if self._is_table else found[:, 0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y: Any, classes: Any, reset: bool) -> _Array:
        numbers = check_array(y, dtype=[np.float64, np.float32], ensure_2d=False, input_name="y", estimator=self)
        table = numbers.reshape(len(numbers), -1)
        if reset:
            self.n_outputs_, self._is_table = table.shape[1], numbers.ndim == 2
        elif table.shape[1] != self.n_outputs_:
            raise ValueError(f"`y` of shape {numbers.shape} must have {self.n_outputs_} numbers a sample, as in fit")
        return table

    def _factors(self, targets: _Array, weights: _Array) -> _Array | float:
        return 1.0

    def _outputs(self) -> int:
        return self.n_outputs_

    def _dataset(self, x: _Array, targets: _Array, weights: _Array | None) -> PairDataset:
        return PairDataset(x, targets if weights is None else (targets, weights[:, None]))

    def _loss(self, is_weighted: bool) -> Loss:
        return WeightedMSELoss() if is_weighted else MSELoss()


class WeightedMSELoss(Loss):
    """The mean of weight (prediction - target)^2; the target is a pair of (n, outputs) and the weights, (n, 1)."""

    capturable = True

    def compute(self, prediction: Any, target: Any) -> Array:
        """The loss, still on the backend."""
        numbers, weight = target
        check_shape("weight", weight, (prediction.shape[0], 1))
        self.saved = (prediction, numbers, weight)
        return ops.pointwise_loss(prediction, numbers, weight=weight, backend=self.backend)

    def backward(self, dy: Any = None) -> Array:
        """The gradient of the prediction."""
        prediction, numbers, weight = self.saved
        return ops.pointwise_loss_backward(dy, prediction, numbers, weight=weight, backend=self.backend)
