"""A classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_array, column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from .. import ops
from ..data import PairDataset
from ..nn import CrossEntropyLoss, Loss
from .estimator import Estimator

__all__ = ["CNNClassifier"]

_Array = np.ndarray[Any, Any]


class CNNClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A network that tells classes apart, trained by their cross-entropy.

    Args:
        class_weight: how much each class counts.
    """

    classes_: _Array

    def __init__(
        self,
        model: Any = "small",
        *,
        image_shape: Any = None,
        epochs: int = 30,
        batch_size: int = 32,
        lr: float = 1e-3,
        optimizer: Any = "adam",
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        backend: str | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            model, image_shape=image_shape, epochs=epochs, batch_size=batch_size, lr=lr, optimizer=optimizer,
            early_stopping=early_stopping, validation_fraction=validation_fraction, n_iter_no_change=n_iter_no_change,
            warm_start=warm_start, random_state=random_state, backend=backend, verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> CNNClassifier:  # noqa: N803
        """Train for one epoch over these samples, from where the last call of this or of ``fit`` ended.

        Args:
            X, y, sample_weight: as for ``fit``; ``y`` need not have every class.
            classes: all classes that there will be, in the first call; later None, or the same.
        """
        is_first = not hasattr(self, "model_")
        if is_first and classes is None:
            raise ValueError("`classes` must be given in the first call of partial_fit: all classes that there will be")
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"`class_weight` {self.class_weight!r} is not for partial_fit, which does not see all samples; "
                "compute_class_weight gives numbers for a dict"
            )
        if classes is not None:
            found = np.unique(column_or_1d(classes))
            if not is_first and not np.array_equal(found, self.classes_):
                raise ValueError(f"`classes` {found} must be those of the first call, {self.classes_}")
            self._announced = found
        try:
            return self._learn(X, y, sample_weight, is_partial=True)
        finally:
            self._announced = None

    def predict_proba(self, X: Any) -> _Array:  # noqa: N803
        """(n, classes), how likely each of ``classes_`` is for each sample: the softmax of the model's outputs."""
        logits = self._predicted(X)
        backend = self.model_.backend
        return np.array(backend.to_numpy(ops.softmax(logits, 1, backend=backend)))

    def predict(self, X: Any) -> _Array:  # noqa: N803
        """(n,), the likeliest class of each sample."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]

    def _targets(self, y: Any, reset: bool) -> _Array:
        labels = column_or_1d(check_array(y, dtype=None, ensure_2d=False, input_name="y", estimator=self), warn=True)
        check_classification_targets(labels)
        announced = getattr(self, "_announced", None)
        found = np.unique(labels)
        if reset:
            self.classes_ = found if announced is None else announced
        unknown = np.setdiff1d(found, self.classes_)
        if unknown.size:
            raise ValueError(f"`y` holds {unknown[0]!r}, must hold the classes {self.classes_} alone")
        return np.searchsorted(self.classes_, labels)

    def _class_weights(self, targets: _Array) -> _Array | float:
        if self.class_weight is None:
            return 1.0
        return np.asarray(compute_sample_weight(self.class_weight, self.classes_[targets]))

    def _outputs(self) -> int:
        return len(self.classes_)

    def _dataset(self, x: _Array, targets: _Array, weights: _Array | None) -> PairDataset:
        if weights is None:
            return PairDataset(x, targets)
        # What the loss takes as the probabilities of classes need not add up to 1.
        of_each = np.zeros((len(targets), self._outputs()), weights.dtype)
        of_each[np.arange(len(targets)), targets] = weights
        return PairDataset(x, of_each)

    def _loss(self, is_weighted: bool) -> Loss:
        return CrossEntropyLoss()

    def _strata(self, targets: _Array) -> _Array | None:
        return targets
