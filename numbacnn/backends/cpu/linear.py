"""The fully connected layer: three matrix products (``gemm.py`` has their roofline) and a bias."""

from __future__ import annotations

import numpy as np

from ..contract import Activation
from ..shared.activations import ACTIVATIONS
from .elementwise import activate, activation_of
from .gemm import matmul
from .jit import kernel

__all__ = ["linear", "linear_backward_bias", "linear_backward_input", "linear_backward_weight"]

COLUMNS = 64


@kernel
def _finish_rows(chunk, activating, y, bias, activation):
    """A chunk is one row: the bias, if there is one, then the activation."""
    row = y[chunk]
    for j in range(bias.size):
        row[j] += bias[j]
    activate(activating, row, 0, row.size, activation)


@kernel
def _sum_columns(chunk, dy, sums):
    """A chunk is COLUMNS neighbouring columns, added up row by row."""
    first, end = chunk * COLUMNS, min((chunk + 1) * COLUMNS, dy.shape[1])
    sums[first:end] = 0
    for i in range(dy.shape[0]):
        for j in range(first, end):
            sums[j] += dy[i, j]


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, activation: Activation = None) -> np.ndarray:
    y = matmul(x, weight, transpose_b=True)
    if bias is not None or activation is not None:
        _finish_rows(
            y.shape[0], activation_of, y, np.empty(0, y.dtype) if bias is None else bias, ACTIVATIONS[activation]
        )
    return y


def linear_backward_input(dy: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return matmul(dy, weight)


def linear_backward_weight(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    return matmul(dy, x, transpose_a=True)


def linear_backward_bias(dy: np.ndarray) -> np.ndarray:
    sums = np.empty(dy.shape[1], dy.dtype)
    _sum_columns(-(-dy.shape[1] // COLUMNS), dy, sums)
    return sums
