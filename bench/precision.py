"""The precisions, layouts and ways to run that are measured, and how far a result may be off in each precision."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import numbacnn as nc
from numbacnn.backends import Backend
from numbacnn.backends.precision import in_force

__all__ = [
    "FULL", "LAYOUTS", "PEER_PRECISIONS", "PRECISIONS", "RUNS", "Ways", "bounded", "compared_with", "from_bfloat16",
    "of_backend", "peer_precisions", "suffix", "to_bfloat16", "using",
]  # fmt: skip

FULL = "float32"
PEER_PRECISIONS = (FULL, "tf32", "bf16")
"""Of the operands of products, whose sums are kept in float32."""
THREE_PRODUCTS = "tf32x3"
PRECISIONS = (FULL, "tf32", THREE_PRODUCTS, "bf16")
"""With ours in three products of TF32 operands, which is beside peers in float32."""
LAYOUTS = ("nchw", "channels_last")
RUNS = ("eager", "compile", "graph")
"""How PyTorch runs a model: call by call, by ``torch.compile``, as a CUDA graph."""
BOUNDS = {FULL: 1e-3, "tf32": 1e-2, "bf16": 3e-2}


class Ways(NamedTuple):
    """Which ways of peers are measured, among those that a device has."""

    precisions: tuple[str, ...] = (FULL,)
    layouts: tuple[str, ...] = LAYOUTS
    runs: tuple[str, ...] = RUNS


def of_backend(backend: Backend, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted precisions that the backend computes in."""
    return [precision for precision in wanted if precision == FULL or backend.name == "cuda"]


def using(precision: str) -> contextlib.AbstractContextManager[Any]:
    """Our convolutions and linear layers in that precision, for a while."""
    # Nothing is set that is in force: a change costs a microsecond, and short calls are measured too.
    return contextlib.nullcontext() if in_force().operands == precision else nc.precision(precision)


def compared_with(precision: str) -> str:
    """The precision of the peers that ours is compared with: the same accuracy.

    >>> [compared_with(precision) for precision in PRECISIONS]
    ['float32', 'tf32', 'float32', 'bf16']
    """
    return FULL if precision == THREE_PRODUCTS else precision


def peer_precisions(wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of peers that stand beside ours in the wanted ones."""
    return tuple(dict.fromkeys(map(compared_with, wanted)))


def bounded(precision: str) -> float:
    """How far outputs of a model, or of operands of 11 and 8 bits, may be off, relative to the largest magnitude."""
    return BOUNDS[compared_with(precision)]


def suffix(precision: str, layout: str = LAYOUTS[0]) -> str:
    """What the name of a contender ends with: nothing for float32 and NCHW.

    >>> suffix("float32"), suffix("tf32", "channels_last")
    ('', '-tf32 channels_last')
    """
    return (f"-{precision}" if precision != FULL else "") + (f" {layout}" if layout != LAYOUTS[0] else "")


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Finite float32 values as the bits of bfloat16, which NumPy has not, to the nearest, ties to even.

    >>> [hex(bits) for bits in to_bfloat16(np.array([1.0, -2.0, 1.00390625, 1.01171875], np.float32))]
    ['0x3f80', '0xc000', '0x3f80', '0x3f82']
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def from_bfloat16(bits: Any) -> np.ndarray:
    """The float32 values of the bits of bfloat16.

    >>> from_bfloat16(np.array([0x3F80, 0xC000], np.uint16)).tolist()
    [1.0, -2.0]
    """
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)
