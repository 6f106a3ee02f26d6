"""How a kernel is declared, compiled, cached and called.

A kernel is a plain function whose first argument is the number of the chunk it computes; the rest are C-contiguous
arrays, integers, floats, scratch, an array of which each thread has its own, and routines (``routines.py``)::

    @kernel
    def scale(chunk, x, y, factor):
        for i in range(chunk * BLOCK, min((chunk + 1) * BLOCK, x.size)):
            y[i] = factor * x[i]

    scale(chunks, x, y, 0.5)

The call compiles the function for the types it meets, once, and runs chunks 0..chunks-1 on all threads
(``threads.py``). In between stands an entry function of three words, the chunk number, the address of the packed
arguments and the number of the thread, so that one driver can run every kernel. Floats arrive in the dtype of the first
floating array.

Under ``NUMBA_DISABLE_JIT=1`` the plain function runs chunk by chunk.
"""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import textwrap
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import config
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from ..words import float_bits
from . import graph, memory, threads
from .kernel_cache import attach_cache as attach_cache
from .kernel_cache import cache_folder as cache_folder
from .kernel_cache import is_kept, keep, stamp_of
from .memory import address_of
from .routines import ELEMENTS, INTEGER, Routine

__all__ = ["CompiledRoutine", "Kernel", "Scratch", "attach_cache", "cache_folder", "function", "kernel", "routine"]

# Waking the other threads takes as long as a kernel on fewer elements of its arrays.
WORTH_THREADS = 1 << 14
# NaN and infinity must go through, so nnan and ninf stay out; contract and reassoc together give vector FMA reductions.
FASTMATH = {"contract", "reassoc", "nsz"}
OPTIONS = {"fastmath": FASTMATH, "error_model": "numpy"}

# Inlined always: a callee with a symbol of its own would run as it was first compiled in the process that compiled it,
# but as it was optimised together with its caller in a process that loads the caller from the cache; the two may sum in
# different orders, and the same program would not give the same bits twice.
function = functools.partial(njit, inline="always", **OPTIONS)
"""Decorator for what kernels call: compiled into each of them, a plain function without the compiler."""


class Scratch(NamedTuple):
    """An argument that is, in the kernel, an array of ``size`` elements that no other chunk uses at the same time.

    Memory that a chunk allocated itself would be new pages to every chunk.
    """

    size: int
    dtype: np.dtype


class Kernel:
    """A compiled-on-demand function of (chunk, arrays, integers, floats); see the module's text."""

    def __init__(self, definition: Callable[..., None]) -> None:
        functools.update_wrapper(self, definition)
        self.definition = definition
        self._stamp = stamp_of(definition)
        self._entries: dict[tuple[int, ...], _Entry] = {}

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
        signature: list[int] = []
        packed: list[int] = []
        late, scratch = [], []
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
            elif isinstance(a, (float, np.floating, Routine)):
                signature.append(-2 if isinstance(a, Routine) else -1)
                late.append((len(packed), a))
                packed.append(0)
            else:
                signature.append(-2)
                packed.append(operator.index(a))
        recording = graph.recording()
        # Asked once: memory for fewer threads than then run would be that of others.
        available = 1
        if elements >= WORTH_THREADS:
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
                    if isinstance(a, CompiledRoutine):
                        recording.need(a, _scalar(needed[1]))
                return
            entry = self.prepare(*needed)
        for at, a in late:
            single = entry.scalar == np.float32
            packed[at] = a.address(entry.scalar) if isinstance(a, Routine) else float_bits(float(a), single)
        words = array("q", packed)
        shares = threads.shares(chunks, available)
        if recording is None:
            threads.launch(entry.address, chunks, words.buffer_info()[0], *shares)
        else:
            recording.launch(entry, chunks, words, shares, arguments)

    def is_cached(self, signature: tuple[int, ...], key: tuple) -> bool:
        """Whether the cache has it for arguments of the types ``key``."""
        return is_kept(self.definition, repr(key), self._stamp)

    def prepare(self, signature: tuple[int, ...], key: tuple) -> _Entry:
        """What is called for arguments of the types ``key``, whose short form is ``signature``."""
        with global_compiler_lock:
            if signature not in self._entries:
                scalar = _scalar(key)
                compiled = CFunc(
                    _entry_function(self.definition, key, scalar, self._stamp == stamp_of(self.definition)),
                    ((types.int64, types.int64, types.int64), types.void),
                    locals={},
                    options={"nopython": True, **OPTIONS},
                )
                keep(compiled, self.definition, repr(key), self._stamp)
                compiled.compile()
                address = cast(int, compiled.address)
                # A signal handler may have made one meanwhile, whose address others have.
                self._entries.setdefault(signature, _Entry(address, scalar, compiled))
            return self._entries[signature]


class _Entry(NamedTuple):
    address: int
    scalar: np.dtype  # in which floats are passed, and for which routines are compiled
    compiled: CFunc  # owns the machine code


class CompiledRoutine(Routine):
    """A routine that Numba compiles: (x, start, count, ...), a function of x[start : start + count]."""

    def __init__(self, definition: Callable[..., None]) -> None:
        # The first two parameters, an array and where to begin, are one to the machine code.
        super().__init__((ELEMENTS, *(INTEGER,) * (definition.__code__.co_argcount - 2)), definition)
        self._body = function(definition)
        self._stamp = stamp_of(definition)

    def is_cached(self, dtype: np.dtype) -> bool:
        """Whether the cache has it for ``dtype``."""
        return is_kept(self.definition, dtype.str, self._stamp)

    def prepare(self, dtype: np.dtype) -> int:
        """What is called for ``dtype``."""
        return self.address(dtype)

    def compiled(self, dtype: np.dtype) -> tuple[int, Any]:
        integers = [f"i{i}" for i in range(len(self.kinds) - 1)]
        name = f"{self.definition.__name__}_entry"
        names: dict[str, Any] = {
            "__name__": self.definition.__module__,
            "body": self._body,
            "carray": carray,
            "dtype": dtype.type,
            "pointer": _pointer,
        }
        parameters = ", ".join(integers)
        source = [
            f"def {name}(address, {parameters}):",
            f"    body(carray(pointer(address, dtype), ({integers[0]},)), 0, {parameters})",
        ]
        exec("\n".join(source), names)
        words = (types.int64,) * len(self.kinds)
        compiled = CFunc(names[name], (words, types.void), locals={}, options={"nopython": True, **OPTIONS})
        keep(compiled, self.definition, dtype.str, self._stamp)
        compiled.compile()
        return cast(int, compiled.address), compiled


def routine(definition: Callable[..., None]) -> CompiledRoutine:
    """Declare ``definition(x, start, count, ...)`` a routine."""
    return CompiledRoutine(definition)


def _scratch(available: int, size: int) -> tuple[np.ndarray, int]:
    """Memory of which each of the threads has ``size`` bytes, and the distance of two threads' bytes."""
    return memory.empty((available * size,), np.uint8), size


def _scalar(key: tuple) -> np.dtype:
    """In which floats are passed to a kernel of arguments of the types ``key``."""
    floating = [item[0] for item in key if isinstance(item, tuple) and item[0].kind == "f"]
    return floating[0] if floating else np.dtype(np.float64)


def _plain(argument: Any) -> Any:
    """What a kernel gets for ``argument`` when the compiler is off."""
    if isinstance(argument, Routine):
        return argument.definition
    return np.empty(argument.size, argument.dtype) if isinstance(argument, Scratch) else argument


def _kind(argument: Any) -> Any:
    if isinstance(argument, Scratch):
        return argument.dtype, "scratch"
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.ndim
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


@intrinsic
def _pointer(typing_context: Any, address: Any, dtype: Any) -> Any:
    """The address as a pointer to elements of ``dtype``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(dtype.dtype)(address, dtype), codegen


@intrinsic
def _low_float32(typing_context: Any, word: Any) -> Any:
    """The float32 whose bits are the low half of a word."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.trunc(arguments[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.int64), codegen


@intrinsic
def _as_float64(typing_context: Any, word: Any) -> Any:
    """The float64 whose bits are a word."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), codegen


def _entry_function(
    definition: Callable[..., None], key: tuple, scalar: np.dtype, is_current: bool
) -> Callable[[int, int, int], None]:
    """The function (chunk, address of words, thread) that unpacks words of ``key``'s types and then is ``definition``.

    Its text is put before that of the definition, not around a call of it, which would be compiled twice: on its own
    and within its caller. A call is what there is where the definition's text is not to be had, or not ``is_current``.
    """
    parameters = definition.__code__.co_varnames[: definition.__code__.co_argcount]
    names: dict[str, Any] = {
        **definition.__globals__,
        **inspect.getclosurevars(definition).nonlocals,
        "_carray": carray,
        "_int64": types.int64,
        "_pointer": _pointer,
        "_to_float": _low_float32 if scalar == np.float32 else _as_float64,
    }
    text = _text_of(definition) if is_current else None
    if text is None:
        given = ", ".join(parameters)
        # LLVM inlines it, for the reason of `function`: Numba does not inline a call of more than 30 arguments.
        names["_definition"] = njit(forceinline=True, **OPTIONS)(definition)
        text = ast.parse(f"def {definition.__name__}({given}):\n    _definition({given})")
    lines, word = ["_w = _pointer(_words, _int64)"], 0
    for name, item in zip(parameters[1:], key, strict=True):
        if isinstance(item, tuple):
            dtype, ndim = item
            names[f"_dtype_of_{name}"] = dtype.type
            is_scratch = ndim == "scratch"
            axes = 1 if is_scratch else ndim
            address = f"_w[{word}]" + (f" + _thread * _w[{word + 2}]" if is_scratch else "")
            sizes = "".join(f"_w[{word + 1 + axis}], " for axis in range(axes))
            lines.append(f"{name} = _carray(_pointer({address}, _dtype_of_{name}), ({sizes}))")
            word += 1 + axes + is_scratch
        else:
            lines.append(f"{name} = _to_float(_w[{word}])" if issubclass(item, float) else f"{name} = _w[{word}]")
            word += 1
    entry = cast(ast.FunctionDef, text.body[0])
    entry.args.args = [ast.arg(name) for name in (parameters[0], "_words", "_thread")]
    entry.decorator_list = []
    entry.body = [*ast.parse("\n".join(lines)).body, *entry.body]
    exec(compile(ast.fix_missing_locations(text), definition.__code__.co_filename, "exec"), names)
    return cast(Any, names[definition.__name__])


def _text_of(definition: Callable[..., None]) -> ast.Module | None:
    """The text that ``definition`` was made of; None where only its code is there."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(definition)))
    except (OSError, SyntaxError):
        return None
    if not isinstance(tree.body[0], ast.FunctionDef):
        return None
    ast.increment_lineno(tree, definition.__code__.co_firstlineno - 1)
    return tree
