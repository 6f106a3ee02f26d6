"""What the classifier and the regressor have in common: arguments, training, and what is kept of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..backends import Backend, get
from ..data import DataLoader, PairDataset
from ..nn import Layer, Loss
from ..nn.init import seeded
from ..ops.arguments import flag, integer, number
from ..optim import Optimizer
from ..training import Callback, EarlyStopping, History, ProgressBar, fit
from .inputs import checked_inputs, checked_weights, converted
from .networks import make_model, make_optimizer

__all__ = ["Estimator"]

_E = TypeVar("_E", bound="Estimator")
_Array = np.ndarray[Any, Any]
LAST_SEED = 2**31 - 1


class Estimator(BaseEstimator, ABC):
    """A network with the methods of scikit-learn; a subclass says what its targets are.

    Its arguments are those of `CNNClassifier`, which says what they mean.
    """

    model_: Layer
    history_: History
    image_shape_: tuple[int, int, int] | None
    _optimizer: Optimizer
    _lr: float
    """What it was when the optimizer was last used."""

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
    def _targets(self, y: Any, classes: Any, reset: bool) -> _Array:
        """``y`` as numbers, the first axis being the samples; with ``reset`` what they are is learned from it.

        Unless there are ``classes`` that are known beforehand.
        """

    @abstractmethod
    def _factors(self, targets: _Array, weights: _Array) -> _Array | float:
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
        return self._learn(X, y, sample_weight)

    def _learn(self: _E, x: Any, y: Any, sample_weight: Any, is_partial: bool = False, classes: Any = None) -> _E:
        """What fit does or, of one epoch and with the optimizer as it is, partial_fit."""
        epochs, is_stopped = integer("epochs", self.epochs, 1), flag("early_stopping", self.early_stopping)
        backend = self._backend()
        is_new = not hasattr(self, "model_") or not (is_partial or flag("warm_start", self.warm_start))
        x = checked_inputs(self, x, y, reset=is_new)
        targets = self._targets(y, classes, is_new)
        if len(targets) != len(x):
            raise ValueError(f"`y` has {len(targets)} entries, must have one for each of the {len(x)} samples in `X`")
        given = checked_weights(sample_weight, len(x))
        x, targets, weights = _weighted(x, targets, given * self._factors(targets, given))
        random = np.random.RandomState() if self.random_state is None else check_random_state(self.random_state)
        seed = int(random.randint(LAST_SEED))
        model = (self._new_model(x, seed) if is_new else self.model_).to(backend)
        if is_new or not is_partial:
            optimizer = make_optimizer(self.optimizer, model, self.lr)
        else:
            optimizer = self._optimizer
            if self.lr != self._lr:
                optimizer.lr = self.lr
        earlier = [] if is_new else self.history_.records
        # Each call has orders of its own, whether or not its seed is that of the call before.
        order = int(np.random.SeedSequence([seed, len(earlier)]).generate_state(1)[0])
        callbacks: list[Callback] = [ProgressBar(test_name="val")] if self.verbose else []
        parts: list[Any] = [slice(None)]
        if is_stopped and not is_partial:
            parts = self._split(targets, seed)
            patience = integer("n_iter_no_change", self.n_iter_no_change, 1)
            callbacks.append(EarlyStopping(patience, restore_best=True))
        loaders = self._loaders(model, x, targets, weights, parts, order)
        loss = self._loss(weights is not None).to(backend)
        history = fit(model, *loaders, loss, optimizer, 1 if is_partial else epochs, callbacks=callbacks)
        records = [replace(record, epoch=record.epoch + len(earlier)) for record in history.records]
        self.model_, self.history_ = model.eval(), History([*earlier, *records])
        self._optimizer, self._lr = optimizer, self.lr
        return self

    def _backend(self) -> Backend:
        if self.backend is not None and not isinstance(self.backend, str):
            raise TypeError(f"`backend` {self.backend!r} must be a name or None")
        return get(self.backend)

    def _new_model(self, x: _Array, seed: int) -> Layer:
        with seeded(seed):
            return make_model(self.model, x.shape[1:], self._outputs(), x.dtype)

    def _split(self, targets: _Array, seed: int) -> list[_Array]:
        """The numbers of samples to train on, and of others for validation."""
        share = number("validation_fraction", self.validation_fraction, 0, 1)
        if share in (0, 1):
            raise ValueError(f"`validation_fraction` {share} must be above 0 and below 1")
        strata = self._strata(targets)
        parts: list[_Array] = train_test_split(
            np.arange(len(targets)), test_size=share, random_state=seed, stratify=strata
        )
        return parts

    def _loaders(
        self, model: Layer, x: _Array, targets: _Array, weights: _Array | None, parts: list[Any], seed: int
    ) -> tuple[DataLoader, DataLoader | None]:
        """Batches of the part to train on and of that for validation, if there is one."""
        dtype, batch_size = _dtype_of(model), integer("batch_size", self.batch_size, 1)
        x = converted("X", x, dtype)
        if targets.dtype.kind == "f":
            targets = converted("y", targets, dtype)
        sets = [
            self._dataset(x[part], targets[part], None if weights is None else weights[part].astype(dtype))
            for part in parts
        ]
        train = DataLoader(sets[0], batch_size, shuffle=True, seed=seed, backend=model.backend)
        return train, DataLoader(sets[1], batch_size, backend=model.backend) if len(sets) > 1 else None

    def _predicted(self, x: Any) -> Any:
        """The model's outputs (n, outputs), on its backend."""
        check_is_fitted(self)
        array = checked_inputs(self, x, reset=False)
        return self.model_.predict(converted("X", array, _dtype_of(self.model_)))


def _weighted(x: _Array, targets: _Array, weights: _Array) -> tuple[_Array, _Array, _Array | None]:
    """Without samples of weight 0, and with weights whose mean is 1, or None where all are."""
    counts = weights > 0
    if not counts.any():
        raise ValueError("`sample_weight`, times `class_weight`, must not be zero for all samples")
    if not counts.all():
        x, targets, weights = x[counts], targets[counts], weights[counts]
    return x, targets, None if (weights == weights[0]).all() else weights / weights.mean()


def _dtype_of(model: Layer) -> np.dtype[Any]:
    return np.dtype(next((parameter.dtype for parameter in model.parameters()), np.float32))
