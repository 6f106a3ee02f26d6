"""The only import of numba.cuda for the device: what kernels are written with, and their compiler.

Kernels index flat memory, ``x[i]``. On the device ``x`` is a raw pointer, because a launch with array arguments costs
several times more; in the simulator (NUMBA_ENABLE_CUDASIM=1) it is a `Memory`, which checks every index. What
the two do not share by themselves has one name here:

- ``cuda``: ``syncthreads``, ``shared.array(size, dtype, alignment)``, ``local.array(size, dtype)``, arrays flat;
- ``unsigned(i)``: an index that is never negative. Numba lets arrays wrap around, which keeps shared memory from being
  read four elements at a time; with an unsigned index it does not. Signed and unsigned do not mix in one expression
  (Numba makes a float64 of them); ``signed(i)`` leads back;
- ``quotient(a, b)``: a // b of numbers in 0 .. 2**31 - 1, in 32 bits, where 64 take five times as long;
  ``divided(a, divisor(b))``: the same in three instructions instead of some twenty, where the host knows b and passes
  ``divisor(b)`` in its place;
- ``vector_load(count)`` and ``vector_store(count)``: functions that read and write 1, 2 or 4 neighbouring elements at
  once, at an index that is a multiple of ``count``, in memory that begins at a multiple of 16 bytes, as that of
  ``device_array.aligned``. They are in the first of four places, whatever ``count`` is, so that kernels are written
  once for each count; what becomes of the others the compiler drops;
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
    "MAX_VECTOR",
    "SIMULATED",
    "VECTOR_BYTES",
    "compile_kernel",
    "cuda",
    "device_function",
    "divided",
    "divisor",
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
    "vector_load",
    "vector_store",
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
vector_load: Any
vector_store: Any

VECTOR_BYTES = 16
"""The most that a thread reads or writes at once."""
MAX_VECTOR = 4
"""The most neighbouring elements that kernels are made for; if they are wider, they are moved in two parts."""


def divisor(b: int) -> int:
    """``b``, from 1 to 2**31 - 1, as :func:`divided` takes it: a multiplier of 32 bits, and above it a shift.

    Granlund and Montgomery, Division by invariant integers using multiplication (1994). The multiplier is 2**(31 +
    shift) / b rounded up by less than 1, for b at most 2**shift: of a below 2**31 the quotient is too large by less
    than a / 2**(31 + shift) <= 1 / b, which reaches no other integer.
    """
    shift = (b - 1).bit_length()
    return -(-(1 << (31 + shift)) // b) | shift << 32


def divided(a, by):
    """``a // b`` of a number in 0 .. 2**31 - 1, where ``by`` is ``divisor(b)``."""
    return ((a * (by & 0xFFFFFFFF)) >> 31) >> (by >> 32)


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

    def _check_aligned(i: int, count: int) -> None:
        if i % count:
            raise IndexError(f"index {i} is not a multiple of the {count} elements that are read or written at once")

    def vector_load(count: int) -> Callable[..., tuple[Any, ...]]:
        """``load(x, i)``: four elements, ``count`` of which are those of x from i on, and others the last of them."""

        def load(x, i):
            _check_aligned(i, count)
            return tuple([x[i + min(k, count - 1)] for k in range(MAX_VECTOR)])

        return load

    def vector_store(count: int) -> Callable[..., None]:
        """``store(y, i, values)``: the first ``count`` of four values, a tuple, from i on."""

        def store(y, i, values):
            _check_aligned(i, count)
            for k in range(count):
                y[i + k] = values[k]

        return store

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda import libdevice
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

    @overload(divided)
    def _divided_overload(a, by):
        # The upper half of the product of 2a and the multiplier is a single instruction.
        return lambda a, by: np.int32(
            np.uint32(libdevice.umulhi(np.int32(a << 1), np.int32(by))) >> np.uint32(np.uint64(by) >> np.uint64(32))
        )

    def _vector_address(context: Any, builder: Any, pointer: Any, index: Any, dtype: Any, count: int) -> Any:
        """The address of the elements from ``index`` on as that of a vector of ``count``."""
        vector = ir.VectorType(context.get_value_type(dtype), count)
        return builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())

    def _alignment(dtype: Any, count: int) -> int:
        return int(min(VECTOR_BYTES, count * dtype.bitwidth // 8))

    def vector_load(count: int) -> Callable[..., tuple[Any, ...]]:
        """``load(x, i)``: four elements, ``count`` of which are those of x from i on, and others the last of them."""

        @intrinsic
        def load(typing, x, i):
            def generate(context, builder, signature, arguments):
                address = _vector_address(context, builder, *arguments, x.dtype, count)
                loaded = builder.load(address, align=_alignment(x.dtype, count))
                places = [ir.Constant(ir.IntType(32), min(k, count - 1)) for k in range(MAX_VECTOR)]
                elements = [builder.extract_element(loaded, place) for place in places]
                return context.make_tuple(builder, signature.return_type, elements)

            return types.UniTuple(x.dtype, MAX_VECTOR)(x, types.int64), generate

        return load

    def vector_store(count: int) -> Callable[..., None]:
        """``store(y, i, values)``: the first ``count`` of four values, a tuple, from i on."""

        @intrinsic
        def store(typing, y, i, values):
            def generate(context, builder, signature, arguments):
                pointer, index, given = arguments
                vector = ir.Constant(ir.VectorType(context.get_value_type(y.dtype), count), ir.Undefined)
                for k in range(count):
                    element = context.cast(builder, builder.extract_value(given, k), values[k], y.dtype)
                    vector = builder.insert_element(vector, element, ir.Constant(ir.IntType(32), k))
                address = _vector_address(context, builder, pointer, index, y.dtype, count)
                builder.store(vector, address, align=_alignment(y.dtype, count))
                return context.get_dummy_value()

            return types.void(y, types.int64, values), generate

        return store


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
