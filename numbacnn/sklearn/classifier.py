"""A classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_array, column_or_1d, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from .. import ops
from ..data import PairDataset
from ..nn import CrossEntropyLoss, Loss
from ..ops.arguments import number
from .estimator import Estimator

__all__ = ["CNNClassifier"]

_Array = np.ndarray[Any, Any]


class CNNClassifier(ClassifierMixin, Estimator):
    """A network that tells classes apart, trained by their cross-entropy.

    Args:
        model: the network. ``"small"`` has convolutions for images of any size and, for rows of numbers, three linear
            layers. Of `numbacnn.models` ``"alexnet"``, ``"cifar_resnet"``, ``"densenet"``, ``"efficientnet_lite0"``,
            ``"googlenet"``, ``"lenet"``, ``"mobilenet_v2"``, ``"nin"``, ``"resnet"``, ``"shufflenet_v2"``,
            ``"squeezenet"`` and ``"vgg"`` take images of their sizes. A function of (channels, classes) that returns
            a `Layer`, or for rows of (features, classes), is called in ``fit``. A `Layer` is copied there, with its
            weights, and stays as it is; what of it is frozen stays so.
        image_shape: (h, w) or (c, h, w) of the images that the rows of X are. None for rows that are no images; X of
            three or four axes says its shape itself.
        epochs: 1 or more.
        batch_size: samples in a step of the optimizer, 1 or more.
        lr: learning rate, 0 or more.
        optimizer: one of `numbacnn.optim`, ``"adagrad"``, ``"adam"``, ``"adamw"``, ``"lion"``, ``"nadam"``,
            ``"rmsprop"`` or ``"sgd"``, or a function of (parameters, lr) that returns one.
        class_weight: what the weights of samples are multiplied by, a dict of classes to numbers, 0 or more, where
            a class that it has not counts as 1; ``"balanced"`` for all classes to weigh alike; None.
        early_stopping: whether ``fit`` leaves some samples out of training, ends when ``n_iter_no_change`` epochs in a
            row had no lower loss on them, and keeps the weights of the best epoch.
        validation_fraction: the share of these samples, above 0 and below 1; of each class the same.
        n_iter_no_change: 1 or more.
        warm_start: whether ``fit`` goes on with the model that there is, with another optimizer.
        random_state: an int makes all that is random in a call, weights, orders and the samples left out, the same
            each time, to the bit and for any number of threads; a `RandomState` of NumPy is drawn from; None is
            another each time. Global generators are neither used nor changed.
        backend: "reference", "cpu" or "cuda"; None for the default one.
        verbose: whether to show a bar for each epoch, or print a line where there is no terminal.

    Rows of float64 are computed with in float64 by "small", rows of float32 in float32, and images in float32; a layer
    or a function of one's own says its dtype. Images of uint8 are pixel values, scaled from 0..255 to 0..1; all other
    numbers are taken as they are, and `StandardScaler` before the estimator often helps.

    Attributes:
        classes_: (classes,), sorted.
        model_: the trained `Layer`, in evaluation mode.
        history_: a `numbacnn.training.History` of all epochs; accuracies in it count each sample once.
        n_iter_: how many epochs that were.
        n_features_in_: how many numbers a sample has.
        feature_names_in_: the names of the columns, where X has such that are strings.
        image_shape_: (c, h, w) of images; None for rows.

    Example:
        >>> X = np.random.default_rng(0).random((60, 6, 6))
        >>> y = np.where(X[:, :3].sum((1, 2)) > X[:, 3:].sum((1, 2)), "above", "below")
        >>> classifier = CNNClassifier(lr=0.01, random_state=0, backend="reference").fit(X, y)
        >>> classifier.predict(X[:3]).shape, classifier.score(X, y) > 0.9
        ((3,), True)
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
        if classes is None and not hasattr(self, "model_"):
            raise ValueError("`classes` must be given in the first call of partial_fit: all classes that there will be")
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"`class_weight` {self.class_weight!r} is not for partial_fit, which does not see all samples; "
                "compute_class_weight gives numbers for a dict"
            )
        return self._learn(X, y, sample_weight, is_partial=True, classes=classes)

    def predict_proba(self, X: Any) -> _Array:  # noqa: N803
        """(n, classes), how likely each of ``classes_`` is for each sample: the softmax of the model's outputs."""
        logits = self._predicted(X)
        backend = self.model_.backend
        return np.array(backend.to_numpy(ops.softmax(logits, 1, backend=backend)))

    def predict(self, X: Any) -> _Array:  # noqa: N803
        """(n,), the likeliest class of each sample."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]

    def _targets(self, y: Any, classes: Any, reset: bool) -> _Array:
        labels = column_or_1d(check_array(y, dtype=None, ensure_2d=False, input_name="y", estimator=self), warn=True)
        check_classification_targets(labels)
        found = np.unique(labels)
        announced = None if classes is None else np.unique(column_or_1d(classes))
        if reset:
            self.classes_ = found if announced is None else announced
        elif announced is not None and not np.array_equal(announced, self.classes_):
            raise ValueError(f"`classes` {announced} must be those of the first call, {self.classes_}")
        unknown = np.setdiff1d(found, self.classes_)
        if unknown.size:
            raise ValueError(f"`y` holds {unknown.tolist()[0]!r}, must hold the classes {self.classes_} alone")
        return np.searchsorted(self.classes_, labels)

    def _factors(self, targets: _Array, weights: _Array) -> _Array | float:
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            of_class = np.bincount(targets, weights)
            return np.divide(1.0, of_class, out=np.zeros_like(of_class), where=of_class > 0)[targets]
        factors = np.asarray(compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[targets]))
        for label, factor in zip(self.classes_.tolist(), factors.tolist(), strict=True):
            number(f"class_weight[{label!r}]", factor, 0)
        return factors[targets]

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
