"""Every loss, with settings, predictions and targets that are drawn for it and what PyTorch calls the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numbacnn import nn

from .drawing import away_from_zero, flip, one_of

__all__ = ["LOSSES", "LossCase"]

Draw = Callable[[np.random.Generator, Any], "LossCase"]


class LossCase(NamedTuple):
    """A loss with settings, and what it compares."""

    loss: Callable[[], nn.Loss]
    """Makes it on the default backend."""
    prediction: np.ndarray
    target: np.ndarray
    torch: Callable[[Any], Any]
    """The module of the package that it is given."""


def _reduction(rng: np.random.Generator) -> str:
    return one_of(rng, "mean", "sum", "none")


def _double(torch: Any, x: np.ndarray | None) -> Any:
    return None if x is None else torch.from_numpy(x.astype(np.float64))


def _positions(rng: np.random.Generator) -> tuple[int, ...]:
    return one_of(rng, (4,), (70,), (2, 3), (2, 3, 4), (1, 9, 5), (2, 3, 2, 2))


def _of_classes(rng: np.random.Generator, dtype: Any) -> tuple[dict[str, Any], tuple[int, ...], np.ndarray]:
    """Settings, the shape of the logits, and labels of which some are ignored and one at least is not."""
    classes, positions = one_of(rng, 1, 2, 3, 17), _positions(rng)
    settings: dict[str, Any] = {
        "weight": rng.uniform(0.5, 2, classes).astype(dtype) if flip(rng) else None,
        "ignore_index": one_of(rng, -100, 0, 1) if classes > 2 else -100,
        "reduction": _reduction(rng),
    }
    labels = rng.integers(0, classes, positions)
    labels[rng.random(positions) < 0.2] = settings["ignore_index"]
    labels.flat[0] = classes - 1
    return settings, (positions[0], classes, *positions[1:]), labels


def _as_torch(torch: Any, settings: dict[str, Any]) -> dict[str, Any]:
    arrays = ("weight", "pos_weight")
    return {name: _double(torch, value) if name in arrays else value for name, value in settings.items()}


def _cross_entropy(rng: np.random.Generator, dtype: Any) -> LossCase:
    settings, shape, target = _of_classes(rng, dtype)
    settings["label_smoothing"] = one_of(rng, 0.0, 0.1, 1.0)
    if flip(rng):
        shares = np.exp(rng.standard_normal(shape))
        target = (shares / shares.sum(axis=1, keepdims=True)).astype(dtype)
        settings["ignore_index"] = -100
    return LossCase(
        lambda: nn.CrossEntropyLoss(**settings),
        (3 * rng.standard_normal(shape)).astype(dtype),
        target,
        lambda torch: torch.nn.CrossEntropyLoss(**_as_torch(torch, settings)),
    )


def _nll(rng: np.random.Generator, dtype: Any) -> LossCase:
    settings, shape, target = _of_classes(rng, dtype)
    return LossCase(
        lambda: nn.NLLLoss(**settings),
        -rng.uniform(0, 4, shape).astype(dtype),
        target,
        lambda torch: torch.nn.NLLLoss(**_as_torch(torch, settings)),
    )


def _elements(rng: np.random.Generator, dtype: Any, *jumps: float) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a target, the difference no nearer to a jump of the slope than 0.04."""
    shape = one_of(rng, (5,), (3, 7), (2, 3, 4, 5), (2, 3, 4), (17, 600))
    target, difference = rng.standard_normal(shape), away_from_zero(rng, np.float64, shape)
    for jump in jumps:
        difference[np.abs(np.abs(difference) - jump) < 0.05] = jump + 0.1
    return (target + difference).astype(dtype), target.astype(dtype)


def _pointwise(name: str, **kinds: Any) -> Draw:
    def draw(rng: np.random.Generator, dtype: Any) -> LossCase:
        settings = {key: one_of(rng, *values) for key, values in kinds.items()}
        prediction, target = _elements(rng, dtype, *settings.values())
        settings["reduction"] = _reduction(rng)
        return LossCase(
            lambda: getattr(nn, name)(**settings),
            prediction,
            target,
            lambda torch: getattr(torch.nn, name)(**settings),
        )

    return draw


def _bce_with_logits(rng: np.random.Generator, dtype: Any) -> LossCase:
    shape = one_of(rng, (5,), (3, 7), (2, 3, 4, 5), (2, 3, 4))
    # Of a tail of the axes, or of all, each of its length or of one.
    shapes = [tuple(one_of(rng, size, 1) for size in shape)[rng.integers(len(shape)) :] for _ in range(2)]
    weight, more = (rng.uniform(0.5, 3, some).astype(dtype) if flip(rng) else None for some in shapes)
    settings: dict[str, Any] = {"weight": weight, "pos_weight": more, "reduction": _reduction(rng)}
    target = rng.integers(0, 2, shape) if flip(rng) else rng.uniform(0, 1, shape)
    return LossCase(
        lambda: nn.BCEWithLogitsLoss(**settings),
        (4 * rng.standard_normal(shape)).astype(dtype),
        target.astype(dtype),
        lambda torch: torch.nn.BCEWithLogitsLoss(**_as_torch(torch, settings)),
    )


LOSSES: dict[str, Draw] = {
    "BCEWithLogitsLoss": _bce_with_logits,
    "CrossEntropyLoss": _cross_entropy,
    "HuberLoss": _pointwise("HuberLoss", delta=(0.3, 1.0)),
    "L1Loss": _pointwise("L1Loss"),
    "MSELoss": _pointwise("MSELoss"),
    "NLLLoss": _nll,
    "SmoothL1Loss": _pointwise("SmoothL1Loss", beta=(0.0, 0.4, 1.0)),
}
"""By name in ``nn``."""
