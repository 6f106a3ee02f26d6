"""What the classifier and the regressor have in common: arguments, training, and what is kept of it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..backends import get
from ..data import DataLoader, PairDataset
from ..nn import Layer, Loss
from ..nn.init import seeded
from ..ops.arguments import flag, integer, number
from ..training import Callback, EarlyStopping, History, ProgressBar, fit
from .inputs import checked_inputs, checked_weights, converted
from .networks import make_model, make_optimizer

__all__ = ["Estimator"]

_E = TypeVar("_E", bound="Estimator")
_Array = np.ndarray[Any, Any]
LAST_SEED = 2**31 - 1


class Estimator(BaseEstimator):  # type: ignore[misc]
    """A network with the methods of scikit-learn; a subclass says what its targets are."""

    model_: Layer
    history_: History
    image_shape_: tuple[int, int, int] | None

    def __init__(
        self,
        model: Any = "small",
        *,
        image_shape: Any = None,
        epochs: int = 30,
        batch_size: int = 32,
        lr: float = 1e-3,
        optimizer: Any = "adam",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        backend: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.backend = backend
        self.verbose = verbose

    @abstractmethod
    def _targets(self, y: Any, reset: bool) -> _Array:
        """``y`` as numbers, the first axis being the samples; with ``reset`` what they are is learned from it."""

    @abstractmethod
    def _class_weights(self, targets: _Array) -> _Array | float:
        """What the weights of samples with these targets are multiplied by."""

    @abstractmethod
    def _outputs(self) -> int:
        """How many numbers the model gives for a sample."""

    @abstractmethod
    def _dataset(self, x: _Array, targets: _Array, weights: _Array | None) -> PairDataset:
        """Samples for `_loss`; weights (n,), whose mean over all samples is 1."""

    @abstractmethod
    def _loss(self, is_weighted: bool) -> Loss:
        """The mean over samples of what is minimised, each times its weight."""

    def _strata(self, targets: _Array) -> _Array | None:
        """What both parts have the same shares of where some samples are left out for validation."""
        return None

    @property
    def n_iter_(self) -> int:
        """How many epochs there were."""
        return len(self.history_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def fit(self: _E, X: Any, y: Any, sample_weight: Any = None) -> _E:  # noqa: N803
        """Train for ``epochs`` epochs, from the beginning or, with ``warm_start``, from where the last call ended.

        Args:
            X: (n, features), images as such rows where ``image_shape`` says so, (n, h, w) or (n, c, h, w).
            y: what is to be predicted, for each of the n samples.
            sample_weight: (n,), how much each sample counts, 0 or more; None for 1. Only proportions matter, and a
                sample of weight 0 is as if it were not there.

        Returns:
            Itself.

        Raises:
            TypeError, ValueError: arguments of another type, shape or range.
            FloatingPointError: the loss became infinite or NaN.
        """
        return self._learn(X, y, sample_weight, is_partial=False)

    def _learn(self: _E, x: Any, y: Any, sample_weight: Any, is_partial: bool) -> _E:
        epochs, is_stopped = integer("epochs", self.epochs, 1), flag("early_stopping", self.early_stopping)
        is_new = not hasattr(self, "model_") or not (is_partial or flag("warm_start", self.warm_start))
        x = checked_inputs(self, x, y, reset=is_new)
        targets = self._targets(y, is_new)
        if len(targets) != len(x):
            raise ValueError(f"`y` has {len(targets)} entries, must have one for each of the {len(x)} samples in `X`")
        weights = checked_weights(sample_weight, len(x)) * self._class_weights(targets)
        counts = weights > 0
        if not counts.any():
            raise ValueError("`sample_weight`, times `class_weight`, must not be zero for all samples")
        if not counts.all():
            x, targets, weights = x[counts], targets[counts], weights[counts]
        random = np.random.RandomState() if self.random_state is None else check_random_state(self.random_state)
        seed = int(random.randint(LAST_SEED))
        model = self._new_model(x, seed) if is_new else self.model_
        model.to(get(self.backend))
        if is_new or not is_partial:
            self._optimizer, self._lr = make_optimizer(self.optimizer, model, self.lr), self.lr
        elif self._lr != self.lr:
            self._optimizer.lr = self._lr = self.lr
        earlier = History() if is_new else self.history_
        history = self._train(
            model, x, targets, None if (weights == weights[0]).all() else weights / weights.mean(),
            epochs=1 if is_partial else epochs, is_stopped=is_stopped and not is_partial,
            seed=seed, done=len(earlier),
        )  # fmt: skip
        records = [replace(record, epoch=record.epoch + len(earlier)) for record in history.records]
        self.model_, self.history_ = model.eval(), History([*earlier.records, *records])
        return self

    def _new_model(self, x: _Array, seed: int) -> Layer:
        with seeded(seed):
            return make_model(self.model, x.shape[1:], self._outputs(), x.dtype)

    def _train(
        self, model: Layer, x: _Array, targets: _Array, weights: _Array | None, *,
        epochs: int, is_stopped: bool, seed: int, done: int,
    ) -> History:  # fmt: skip
        dtype = _dtype_of(model)
        x = converted("X", x, dtype)
        if targets.dtype.kind == "f":
            targets = converted("y", targets, dtype)
        callbacks: list[Callback] = [ProgressBar(test_name="val")] if self.verbose else []
        parts: list[Any] = [slice(None)]
        if is_stopped:
            share = number("validation_fraction", self.validation_fraction, 0, 1)
            patience = integer("n_iter_no_change", self.n_iter_no_change, 1)
            parts = train_test_split(
                np.arange(len(x)), test_size=share, random_state=seed, stratify=self._strata(targets)
            )
            callbacks.append(EarlyStopping(patience, restore_best=True))
        sets = [
            self._dataset(x[part], targets[part], None if weights is None else weights[part].astype(dtype))
            for part in parts
        ]
        batch_size = integer("batch_size", self.batch_size, 1)
        # Each call has orders of its own, whether or not its seed is that of the call before.
        order = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
        train, val = [
            DataLoader(samples, batch_size, shuffle=is_shuffled, seed=order, backend=model.backend)
            for samples, is_shuffled in zip(sets, (True, False), strict=False)
        ] + [None] * (2 - len(sets))  # fmt: skip
        loss = self._loss(weights is not None).to(model.backend)
        return fit(model, train, val, loss, self._optimizer, epochs, callbacks=callbacks)

    def _predicted(self, x: Any) -> Any:
        """The model's outputs (n, outputs), on its backend."""
        check_is_fitted(self)
        array = checked_inputs(self, x, reset=False)
        return self.model_.predict(converted("X", array, _dtype_of(self.model_)))


def _dtype_of(model: Layer) -> np.dtype[Any]:
    return np.dtype(next((parameter.dtype for parameter in model.parameters()), np.float32))
