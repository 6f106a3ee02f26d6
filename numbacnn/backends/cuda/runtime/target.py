"""The only import of numba.cuda for the device: what kernels are written with, and their compiler.

Kernels index flat memory, ``x[i]``. On the device ``x`` is a raw pointer, because a launch with array arguments costs
several times more; in the simulator (NUMBA_ENABLE_CUDASIM=1) it is a `Memory`, which checks every index. What
the two do not share by themselves has one name here:

- ``cuda``: ``syncthreads``, ``shared.array(size, dtype, alignment)``, ``local.array(size, dtype)``, arrays flat;
- ``unsigned(i)``: an index that is never negative. Numba lets arrays wrap around, which keeps shared memory from being
  read four elements at a time; with an unsigned index it does not. Signed and unsigned do not mix in one expression
  (Numba makes a float64 of them); ``signed(i)`` leads back;
- ``quotient(a, b)``: a // b of numbers in 0 .. 2**31 - 1, in 32 bits, where 64 take five times as long;
- ``within(i, n)``: whether i is in 0 .. n - 1, one comparison in 32 bits; ``word(i)``: an index below 2**31 that is
  worked out in 32 bits, one instruction where 64 take two;
- ``scalar(x, v)``: the number v in the dtype of the number x or of the elements of x, so that float32 kernels hold no
  float64;
- ``erf``, ``exp``, ``expm1``, ``log``, ``log1p``, ``sqrt``, ``tanh``, ``power_of(x, exponent)``: IEEE, in the dtype of
  their arguments.
"""

from __future__ import annotations

import contextlib
import math
import re
import types as python_types
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numba.cuda
import numpy as np
from numba.core import config

__all__ = [
    "SIMULATED",
    "compile_kernel",
    "cuda",
    "device_function",
    "erf",
    "exp",
    "expm1",
    "log",
    "log1p",
    "power_of",
    "quotient",
    "scalar",
    "signed",
    "sqrt",
    "tanh",
    "threads_per_block",
    "unsigned",
    "versions",
    "within",
    "word",
]

SIMULATED = bool(config.ENABLE_CUDASIM)
REMOVED_NAME = "row_stack"

cuda: Any
signed: Any
unsigned: Any
device_function: Any
power_of: Any


def within(i, n):
    """Whether ``i``, between -2**31 and 2**31, is in 0 .. n - 1."""
    return 0 <= i < n


def word(i):
    """``i``, between -2**31 and 2**31, in 32 bits."""
    return i


def threads_per_block(most: int) -> int:
    """``most``, a power of two, or few enough in the simulator, where every thread is one of Python's."""
    return min(most, 4) if SIMULATED else most


def scalar(x, value):
    """``value`` in the dtype of ``x``, a number, or of the elements of ``x``."""
    return value


def quotient(a, b):
    """``a // b`` of numbers in 0 .. 2**31 - 1."""
    return a // b


if SIMULATED:
    from .simulator import KernelCuda, ieee

    cuda = KernelCuda()
    exp, expm1, log, log1p, sqrt, tanh = (
        ieee(compute) for compute in (np.exp, np.expm1, np.log, np.log1p, np.sqrt, np.tanh)
    )
    erf = ieee(math.erf)
    power_of = np.power
    signed = unsigned = int

    def device_function(definition: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator for what kernels call: compiled into each of them, a plain function in the simulator."""
        return definition

else:
    from numba import types
    from numba.cuda.extending import intrinsic as intrinsic
    from numba.cuda.extending import overload, register_jitable

    cuda = numba.cuda
    exp, expm1, log, log1p, sqrt, tanh = math.exp, math.expm1, math.log, math.log1p, math.sqrt, math.tanh
    erf, power_of = math.erf, math.pow
    signed, unsigned = np.int64, np.uint64
    device_function = register_jitable

    @overload(scalar)
    def _scalar_overload(x, value):
        dtype = getattr(x, "dtype", x)
        return lambda x, value: dtype(value)

    @overload(within)
    def _within_overload(i, n):
        # A negative number is a large one without a sign.
        return lambda i, n: np.uint32(i) < np.uint32(n)

    @overload(word)
    def _word_overload(i):
        return lambda i: np.int32(i)

    @overload(quotient)
    def _quotient_overload(a, b):
        # LLVM narrows a division of 64 bits only when both sides are seen to be unsigned numbers of 32.
        return lambda a, b: np.int64(np.uint32(a) // np.uint32(b))


def versions() -> tuple[str, ...]:
    """What compiled kernels depend on besides their sources."""
    import numba_cuda

    return numba.__version__, numba_cuda.__version__


def compile_kernel(
    definition: Callable[..., None], arguments: tuple[Any, ...], threads: int, capability: tuple[int, int]
) -> tuple[str, str]:
    """PTX of a kernel, and the name of its entry.

    It needs no device. ``arguments`` say the type of each argument: a NumPy dtype for memory of such elements,
    ``int``, a NumPy scalar type, or the length of a tuple of ints. ``threads`` is the size of a block.
    """
    from numba.cuda import dispatcher

    signature = tuple(_numba_type(argument) for argument in arguments)
    with _numpy_of_numba_cuda(), _assumed_capability(dispatcher, capability):
        # Two blocks to a multiprocessor, so that one computes while the other waits: 128 registers in 256 threads.
        ptx, _ = cuda.compile_ptx(definition, signature, cc=capability, launch_bounds=(threads, 2))
    found = re.search(r"\.entry\s+([\w$]+)", ptx)
    if found is None:
        raise RuntimeError(f"the PTX of {definition.__name__} has no entry")
    return ptx, found[1]


def _numba_type(argument: Any) -> Any:
    if isinstance(argument, np.dtype):
        return types.CPointer(numba.from_dtype(argument))
    if isinstance(argument, int):
        return types.UniTuple(types.int64, argument)
    return types.int64 if argument is int else numba.from_dtype(np.dtype(argument))


@contextlib.contextmanager
def _assumed_capability(dispatcher: Any, capability: tuple[int, int]) -> Iterator[None]:
    """Numba asks the current device what to compile functions for that a kernel calls, even when it has been told."""
    asked = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: python_types.SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = asked


@contextlib.contextmanager
def _numpy_of_numba_cuda() -> Iterator[None]:
    """numba-cuda 0.30 refers to REMOVED_NAME of NumPy, which 2.5 no longer has, when it compiles for the first time.

    This is all that keeps it from NumPy 2.5, so that the cuda extra needs no bound on NumPy of its own.
    """
    if hasattr(np, REMOVED_NAME):
        yield
        return
    # By name, because the linter writes np.vstack where it reads the attribute.
    setattr(np, REMOVED_NAME, np.vstack)
    try:
        yield
    finally:
        delattr(np, REMOVED_NAME)
