"""How a kernel is declared, compiled, cached and called.

A kernel is a plain function whose first argument is the number of the chunk it computes. The others are C-contiguous
arrays, integers, floats, scratch, which is an array of which each thread has its own, microkernels
(``microkernel.py``), and plans: named tuples of integers and microkernels, whose fields the kernel reads as
``p.rows``::

    @kernel
    def scale(chunk, x, y, factor):
        for i in range(chunk * BLOCK, min((chunk + 1) * BLOCK, x.size)):
            y[i] = factor * x[i]

    scale(chunks, x, y, 0.5)

The call compiles the function for the types it meets, once (``machine_code.py``), and runs chunks 0..chunks-1 on all
threads (``threads.py``). In between stands an entry of three words, the chunk number, the address of the packed
arguments and the number of the thread, so that one driver can run every kernel. Floats arrive in the dtype of the first
floating array.

Under ``NUMBA_DISABLE_JIT=1`` the plain function runs chunk by chunk.
"""

from __future__ import annotations

import functools
import operator
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.np.arrayobj import populate_array

from ...kernel_args import float_bits
from ...observed import note
from . import allocator, captured, threads
from .allocator import address_of
from .machine_code import OPTIONS, WORD, compile_function, is_kept, load, name_of, stamp_of
from .microkernel import ELEMENTS, INTEGER, TABLE, Microkernel

__all__ = [
    "CompiledMicrokernel",
    "Kernel",
    "Scratch",
    "compiled_microkernel",
    "inlined",
    "kernel",
    "places_of_addresses",
]

# Waking the other threads takes as long as a kernel on fewer elements of its arrays.
MIN_PARALLEL_ELEMENTS = 1 << 14
# In the place of a number of axes.
SCRATCH = "scratch"
# Of an array of which only the address is known: what is computed with a size in bytes does not overflow.
UNKNOWN_SIZE = 1 << 50

# Inlined always: a callee with a symbol of its own would run as it was first compiled in the process that compiled it,
# but as it was optimised together with its caller in a process that loads the caller from the cache; the two may sum in
# different orders, and the same program would not give the same bits twice. LLVM does it, once each has been compiled:
# Numba would copy it into each caller and work out its types there again.
inlined = functools.partial(njit, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)
"""Decorator for what kernels call: compiled into each of them, a plain function without the compiler."""


class Scratch(NamedTuple):
    """An argument that is, in the kernel, an array of ``size`` elements that no other chunk uses at the same time.

    Memory that a chunk allocated itself would be new pages to every chunk.
    """

    size: int
    dtype: np.dtype


def places_of_addresses(arguments: Sequence[Any]) -> Iterator[tuple[int, np.ndarray | None]]:
    """Where in the words of a launch addresses are: of arrays that have elements, and of scratch, which is None."""
    at = 0
    for a in arguments:
        if type(a) is np.ndarray:
            if a.size:
                yield at, a
            at += 1 + a.ndim
        elif type(a) is Scratch:
            yield at, None
            at += 3
        elif isinstance(a, tuple):
            at += len(a)
        else:
            at += 1


class Kernel:
    """A compiled-on-demand function of (chunk, arrays, integers, floats); see the module's text."""

    def __init__(self, definition: Callable[..., None]) -> None:
        functools.update_wrapper(self, definition)
        self.definition = definition
        self._stamp = stamp_of(definition)
        self._entries: dict[tuple[Any, ...], _Entry] = {}

    def __call__(self, chunks: int, *arguments: Any) -> None:
        """Run ``chunks`` chunks and return when all are done; no chunks, no work."""
        if chunks <= 0:
            return
        if config.DISABLE_JIT:
            plain = [_plain(a) for a in arguments]
            with np.errstate(all="ignore"):  # machine code does not warn either
                for chunk in range(chunks):
                    self.definition(chunk, *plain)
            return
        # This runs some fifty times in a step of a small network, so it looks at every argument once.
        signature: list[Any] = []
        packed: list[int] = []
        late: list[tuple[int, float | np.floating[Any] | Microkernel]] = []
        scratch = []
        elements = needed_bytes = 0
        for a in arguments:
            kind = type(a)
            if kind is int:
                signature.append(-2)
                packed.append(a)
            elif kind is np.ndarray:
                elements += a.size
                dtype, shape, flags = a.dtype, a.shape, a.flags
                signature.append(dtype.num << 8 | len(shape))
                if not (flags.c_contiguous and flags.aligned and dtype.isnative):
                    raise ValueError(_refusal(a))
                packed.append(address_of(a))
                packed += shape
            elif kind is Scratch:
                signature.append(a.dtype.num << 8 | 255)
                scratch.append(len(packed))
                packed += (needed_bytes, a.size, 0)
                needed_bytes += -(-a.size * a.dtype.itemsize // threads.LINE) * threads.LINE
            elif isinstance(a, tuple):
                signature.append(kind)
                for field in a:
                    if type(field) is int:
                        packed.append(field)
                    elif isinstance(field, Microkernel):
                        late.append((len(packed), field))
                        packed.append(0)
                    else:
                        packed.append(operator.index(field))
            elif isinstance(a, (float, np.floating, Microkernel)):
                signature.append(-2 if isinstance(a, Microkernel) else -1)
                late.append((len(packed), a))
                packed.append(0)
            else:
                signature.append(-2)
                packed.append(operator.index(a))
        recording = captured.current_recording()
        if recording is None:
            note(None)
        # Asked once: memory for fewer threads than then run would be that of others.
        available = 1
        if elements >= MIN_PARALLEL_ELEMENTS:
            available = threads.number() if recording is None else recording.threads
        if scratch:
            of_all, distance = (
                _scratch(available, needed_bytes) if recording is None else recording.scratch(needed_bytes)
            )
            first = address_of(of_all)
            for at in scratch:
                packed[at] += first
                packed[at + 2] = distance
        entry = self._entries.get(tuple(signature))
        if entry is None:
            needed = tuple(signature), tuple([_kind(a) for a in arguments])
            if recording is not None and recording.is_rehearsal:
                recording.need(self, *needed)
                for _, a in late:
                    if isinstance(a, Microkernel):
                        recording.need(a, _scalar(needed[1]))
                return
            entry = self.prepare(*needed)
        for at, a in late:
            single = entry.scalar == np.float32
            packed[at] = a.address(entry.scalar) if isinstance(a, Microkernel) else float_bits(float(a), single)
        words = array("q", packed)
        shares = threads.shares(chunks, available)
        if recording is None:
            threads.launch(entry.address, chunks, words.buffer_info()[0], *shares)
        else:
            recording.launch(entry, chunks, words, shares, arguments)

    def is_cached(self, signature: tuple[Any, ...], key: tuple) -> bool:
        """Whether the cache has it for arguments of the types ``key``."""
        return is_kept(name_of(self.definition, repr(key), self._stamp))

    def prepare(self, signature: tuple[Any, ...], key: tuple) -> _Entry:
        """What is called for arguments of the types ``key``, whose short form is ``signature``."""
        with global_compiler_lock:
            if signature not in self._entries:
                scalar = _scalar(key)

                def compiled(name: str) -> bytes:
                    return compile_function(
                        name, self.definition, [types.int64, *_parameters(key, scalar)], 3,
                        lambda *given: _unpacked(key, scalar, *given), **OPTIONS,
                    )  # fmt: skip

                address = load(name_of(self.definition, repr(key), self._stamp), compiled)
                # A signal handler may have made one meanwhile, whose address others have.
                self._entries.setdefault(signature, _Entry(address, scalar))
            return self._entries[signature]


class _Entry(NamedTuple):
    address: int
    scalar: np.dtype  # in which floats are passed, and for which microkernels are compiled


class CompiledMicrokernel(Microkernel):
    """A microkernel that Numba compiles, from a definition with a kernel's arguments."""

    def __init__(self, kinds: Sequence[str], definition: Callable[..., None]) -> None:
        super().__init__(kinds, definition)
        self._stamp = stamp_of(definition)

    def symbol(self, dtype: np.dtype) -> str | None:
        return name_of(self.definition, dtype.str, self._stamp)

    def compiled(self, name: str, dtype: np.dtype) -> bytes:
        of_kind = {
            ELEMENTS: [types.Array(numba.from_dtype(dtype), 1, "C"), types.int64],
            TABLE: [types.Array(types.int64, 1, "C"), types.int64],
            INTEGER: [types.int64],
        }

        def unpack(context: Any, builder: Any, words: Sequence[Any]) -> list[Any]:
            values = []
            for kind, word in zip(self.kinds, words, strict=True):
                if kind == INTEGER:
                    values.append(word)
                else:
                    values += [_array(context, builder, of_kind[kind][0], word, [WORD(UNKNOWN_SIZE)]), WORD(0)]
            return values

        parameters = [parameter for kind in self.kinds for parameter in of_kind[kind]]
        return compile_function(name, self.definition, parameters, len(self.kinds), unpack, **OPTIONS)


def compiled_microkernel(*kinds: str) -> Callable[[Callable[..., None]], CompiledMicrokernel]:
    """Decorator that declares a function of parameters of these kinds a microkernel."""
    return functools.partial(CompiledMicrokernel, kinds)


def _scratch(available: int, size: int) -> tuple[np.ndarray, int]:
    """Memory of which each of the threads has ``size`` bytes, and the distance of two threads' bytes."""
    return allocator.empty_bytes(available * size), size


def _scalar(key: tuple) -> np.dtype:
    """In which floats are passed to a kernel of arguments of the types ``key``."""
    floating = [item[0] for item in key if isinstance(item, tuple) and item[0].kind == "f"]
    return floating[0] if floating else np.dtype(np.float64)


def _plain(argument: Any) -> Any:
    """What a kernel gets for ``argument`` when the compiler is off."""
    if isinstance(argument, Microkernel):
        return argument.definition
    if isinstance(argument, Scratch):
        return np.empty(argument.size, argument.dtype)
    return type(argument)(*map(_plain, argument)) if isinstance(argument, tuple) else argument


def _kind(argument: Any) -> Any:
    if isinstance(argument, Scratch):
        return argument.dtype, SCRATCH
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.ndim
    if isinstance(argument, tuple):
        return type(argument)
    return float if isinstance(argument, (float, np.floating)) else int


def _refusal(x: np.ndarray) -> str:
    """Why machine code, which is told an address and a shape, would take ``x`` for other numbers."""
    return (
        "a kernel takes C-contiguous, aligned arrays in the machine's byte order; this one has shape "
        f"{x.shape}, strides {x.strides} and dtype {x.dtype.str}, and is {'' if x.flags.aligned else 'not '}aligned"
    )


def kernel(definition: Callable[..., None]) -> Kernel:
    """Declare ``definition(chunk, ...)`` a kernel; it is called as ``name(chunks, ...)``."""
    return Kernel(definition)


def _parameters(key: tuple, scalar: np.dtype) -> Iterator[types.Type]:
    """The types of a kernel's arguments behind the chunk, for those of the kinds ``key``."""
    for item in key:
        if isinstance(item, tuple):
            dtype, ndim = item
            yield types.Array(numba.from_dtype(dtype), 1 if ndim == SCRATCH else ndim, "C")
        elif issubclass(item, tuple):
            yield types.NamedUniTuple(types.int64, len(item._fields), item)
        else:
            yield numba.from_dtype(scalar) if issubclass(item, float) else types.int64


def _unpacked(key: tuple, scalar: np.dtype, context: Any, builder: Any, given: Sequence[Any]) -> list[Any]:
    """What a kernel is called with, from the chunk, the address of the words of its arguments, and the thread."""
    chunk, address, thread = given
    words, at = builder.inttoptr(address, WORD.as_pointer()), 0

    def next_word() -> Any:
        nonlocal at
        at += 1
        return builder.load(builder.gep(words, [WORD(at - 1)]))

    values = [chunk]
    for item, kind in zip(key, _parameters(key, scalar), strict=True):
        word = next_word()
        if isinstance(kind, types.Array):
            shape = [next_word() for _ in range(kind.ndim)]
            if item[1] == SCRATCH:
                word = builder.add(word, builder.mul(thread, next_word()))
            values.append(_array(context, builder, kind, word, shape))
        elif isinstance(kind, types.NamedUniTuple):
            fields = [word, *(next_word() for _ in range(kind.count - 1))]
            values.append(context.make_tuple(builder, kind, fields))
        elif kind == types.float32:
            values.append(builder.bitcast(builder.trunc(word, ir.IntType(32)), ir.FloatType()))
        else:
            values.append(builder.bitcast(word, ir.DoubleType()) if kind == types.float64 else word)
    return values


def _array(context: Any, builder: Any, kind: types.Array, address: Any, shape: Sequence[Any]) -> Any:
    """Numba's C-contiguous array of the elements at ``address``."""
    data = builder.inttoptr(address, context.get_data_type(kind.dtype).as_pointer())
    itemsize = WORD(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [itemsize]
    for size in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], size))
    array = context.make_array(kind)(context, builder)
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()
