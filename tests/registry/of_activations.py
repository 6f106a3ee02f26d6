"""Activations with settings or a weight, normalisation by softmax, dropout of channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbacnn import nn

from . import Case, Entry
from .drawing import flip, one_of

__all__ = ["ENTRIES"]

SHAPES = ((2, 3, 4, 5), (3, 7), (1, 17, 2, 3), (2, 3, 4), (5,))


def away_from(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...], bends: tuple[float, ...]) -> np.ndarray:
    """Numbers to both sides of ``bends``, none nearer to one of them than 0.05."""
    values = 3 * rng.standard_normal(shape)
    for bend in bends:
        values = np.where(np.abs(values - bend) < 0.05, bend + 0.1, values)
    return values.astype(dtype)


def _pointwise(name: str, bends: tuple[float, ...] = (0.0,), **kinds: Any) -> Entry:
    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        settings = {key: one_of(rng, *values) for key, values in kinds.items()} if flip(rng) else {}
        x = away_from(rng, dtype, one_of(rng, *SHAPES), (*bends, *settings.values()) if name == "Hardtanh" else bends)
        return Case(lambda: getattr(nn, name)(**settings), (x,), lambda torch: getattr(torch.nn, name)(**settings))

    return Entry(name, draw)


def _softplus(rng: np.random.Generator, dtype: Any) -> Case:
    beta, threshold = one_of(rng, 1, 0.5, 2.0), one_of(rng, 20, 3.0)
    x = away_from(rng, dtype, one_of(rng, *SHAPES), (threshold / beta,))
    return Case(lambda: nn.Softplus(beta, threshold), (x,), lambda torch: torch.nn.Softplus(beta, threshold))


def _hardsigmoid(rng: np.random.Generator, dtype: Any) -> Case:
    def in_float64(torch: Any) -> Any:
        """In the gradient of its own PyTorch rounds 1 / 6 to float32."""

        class Hardsigmoid(torch.nn.Module):
            def forward(self, x: Any) -> Any:
                return torch.clamp(x + 3, 0, 6) / 6

        return Hardsigmoid()

    return Case(nn.Hardsigmoid, (away_from(rng, dtype, one_of(rng, *SHAPES), (-3.0, 3.0)),), in_float64)


def _prelu(rng: np.random.Generator, dtype: Any) -> Case:
    shape = one_of(rng, (2, 3, 4, 5), (3, 7), (1, 17, 2, 3), (2, 3, 4))
    slopes, init = one_of(rng, 1, shape[1]), one_of(rng, 0.25, -0.5)
    x = away_from(rng, dtype, shape, (0.0,))
    return Case(lambda: nn.PReLU(slopes, init, dtype), (x,), lambda torch: torch.nn.PReLU(slopes, init))


def _softmax(name: str) -> Entry:
    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        shape = one_of(rng, (2, 3, 4, 5), (3, 7), (1, 40, 2, 3), (2, 3, 4))
        # Axis 0 is the batch, of which an empty one has no maximum to share.
        dim = int(rng.integers(1 - len(shape), len(shape))) or 1
        x = 3 * rng.standard_normal(shape).astype(dtype)
        return Case(lambda: getattr(nn, name)(dim), (x,), lambda torch: getattr(torch.nn, name)(dim))

    return Entry(name, draw)


def _dropout2d(rng: np.random.Generator, dtype: Any) -> Case:
    p, shape = one_of(rng, 0.0, 0.3, 1.0), one_of(rng, (2, 3, 4, 5), (5, 7, 1, 1), (1, 40, 3, 2))
    x = rng.standard_normal(shape).astype(dtype)
    return Case(lambda: nn.Dropout2d(p), (x,), lambda torch: torch.nn.Dropout2d(p))


ENTRIES = [
    _pointwise("LeakyReLU", negative_slope=(0.01, 0.2, 0, -1.5)),
    _pointwise("ELU", alpha=(1.0, 0.3)),
    _pointwise("SELU"),
    # PyTorch rounds 1 / alpha to float32.
    _pointwise("CELU", alpha=(1.0, 0.25)),
    _pointwise("GELU", approximate=("none", "tanh")),
    _pointwise("SiLU"),
    _pointwise("Mish"),
    Entry("Softplus", _softplus),
    _pointwise("Softsign"),
    Entry("Hardsigmoid", _hardsigmoid),
    _pointwise("Hardswish", (-3.0, 3.0)),
    _pointwise("Hardtanh", (-1.0, 1.0), min_val=(-2.0, -0.5), max_val=(0.3, 2)),
    _pointwise("ReLU6", (0.0, 6.0)),
    Entry("PReLU", _prelu),
    _softmax("Softmax"),
    _softmax("LogSoftmax"),
    Entry("Dropout2d", _dropout2d, is_random=True),
]
