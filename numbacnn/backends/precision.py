"""How much results may be rounded: by the algorithms that ``auto`` picks, and by what tensor cores multiply."""

from __future__ import annotations

import functools
import os
from types import TracebackType
from typing import NamedTuple

from .forks import ForkSafeLock

__all__ = ["OPERANDS", "InForce", "in_force", "is_allowed", "is_strict", "precision"]


class InForce(NamedTuple):
    """The settings of the process: one of ALGORITHMS and one of OPERANDS."""

    algorithms: str = "fast"
    operands: str = "float32"


ALGORITHMS = ("fast", "strict")
OPERANDS = ("float32", "tf32", "tf32x3", "bf16")
# Algorithms that compute in another basis, where sums round by several times as much as those of the definition.
ROUND_MORE = ("winograd",)

_lock = ForkSafeLock()
_mode: InForce | None = None


class precision:  # noqa: N801 - it is called like a function, and `with` makes the change temporary
    """Set how much convolutions and linear layers of the process may round, from the next call on.

    Two settings, of which ``mode`` names a value of one and leaves the other as it is. What ``algorithm="auto"`` may
    take for convolutions:

    - ``"fast"``, the default: whatever is fastest;
    - ``"strict"``: only what sums the products of the definition, so nothing by Winograd's transforms, which round
      several times as much. An algorithm that is asked for by its name is taken in either.

    What float32 matrix products on the backend ``cuda`` multiply, in convolutions by ``implicit_gemm`` and ``im2col``
    and in linear layers, forward and backward; arrays and sums stay float32:

    - ``"float32"``, the default: the numbers as they are, without tensor cores;
    - ``"tf32"``: each rounded to 11 bits, by tensor cores. What PyTorch does in convolutions unless told otherwise;
    - ``"tf32x3"``: each as a sum of two of these, three products for one: float32's accuracy but for the last bits. An
      infinity times a number becomes NaN, which is its only other difference;
    - ``"bf16"``: each rounded to 8 bits, by tensor cores.

    A factor is off by at most 2^-11 of itself in ``"tf32"``, 2^-21 in ``"tf32x3"`` and 2^-8 in ``"bf16"``. Products
    with fewer than 16 rows or columns, float64, and GPUs before compute capability 8.0, which have no such tensor
    cores, are computed in full; the backends ``cpu`` and ``reference`` always are.

    Without a call the environment variable NUMBACNN_PRECISION decides, one mode or two with a comma between them, as it
    is when the first convolution asks. Captured steps and sessions follow: those of another precision are not taken.

    ``with precision(mode):`` restores the former settings at the end of the block. ValueError for another ``mode``.

    >>> with precision("strict") as mode:
    ...     mode
    'strict'
    """

    def __init__(self, mode: str) -> None:
        global _mode
        _check("mode", mode)
        self._name = mode
        with _lock:
            self._former = _mode
            _mode = _with(in_force(), mode)

    def __enter__(self) -> str:
        return self._name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _mode
        with _lock:
            _mode = self._former


def in_force() -> InForce:
    """Both settings: what captures and caches of calls depend on."""
    return _mode or _of_the_environment()


def is_strict() -> bool:
    """Whether ``auto`` takes only algorithms that sum the products of the definition."""
    return in_force().algorithms == "strict"


@functools.cache
def _of_the_environment() -> InForce:
    found = InForce()
    for mode in filter(None, os.environ.get("NUMBACNN_PRECISION", "").split(",")):
        _check("NUMBACNN_PRECISION", mode)
        found = _with(found, mode)
    return found


def is_allowed(algorithm: str) -> bool:
    """Whether ``auto`` may take it."""
    return algorithm not in ROUND_MORE or not is_strict()


def _with(settings: InForce, mode: str) -> InForce:
    return settings._replace(**{"algorithms" if mode in ALGORITHMS else "operands": mode})


def _check(argument: str, mode: str) -> None:
    if mode not in ALGORITHMS + OPERANDS:
        raise ValueError(f"`{argument}` {mode!r} must be one of {', '.join(map(repr, ALGORITHMS + OPERANDS))}")
