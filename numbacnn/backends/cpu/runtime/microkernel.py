"""Microkernels: short functions written in LLVM's instructions, which kernels call by their addresses.

A microkernel is compiled once for all kernels, in some milliseconds, because Numba has no part in it: inlined into
every kernel, the register tiles alone would take seconds. The order of its sums is written down to the last addition,
so that it gives the same bits whoever calls it.

Each has a definition in plain Python beside it, which is also what runs when the compiler is off.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from ... import disk_cache
from .machine_code import WORD, compile_module, is_kept, load

__all__ = [
    "ELEMENTS",
    "INTEGER",
    "PLACES",
    "TABLE",
    "WORD",
    "EmittedMicrokernel",
    "Microkernel",
    "calling",
]

ELEMENTS, TABLE, PLACES, INTEGER = "elements", "table", "places", "integer"
"""Kinds of parameters: the address of floating numbers, that of int64, that of int32, an int64."""


class Microkernel(abc.ABC):
    """A function of some parameters, for float32 and float64; an argument of kernels.

    Args:
        kinds: of its parameters. To a kernel an array is two arguments, itself and the element to begin at.
        definition: the same in plain Python, with a kernel's arguments.
    """

    def __init__(self, kinds: Sequence[str], definition: Callable[..., None]) -> None:
        self.kinds, self.definition = kinds, definition
        self._addresses: dict[np.dtype, int] = {}

    def address(self, dtype: np.dtype) -> int:
        """Where the microkernel for ``dtype`` is; it is compiled when it is first asked for."""
        found = self._addresses.get(dtype)
        if found is None:
            with global_compiler_lock:
                if dtype not in self._addresses:
                    address = load(self.symbol(dtype), lambda name: self.compiled(name, dtype))
                    # A signal handler may have made one meanwhile, whose address others have.
                    self._addresses.setdefault(dtype, address)
                found = self._addresses[dtype]
        return found

    def prepare(self, dtype: np.dtype) -> int:
        """:meth:`address`, before it is needed."""
        return self.address(dtype)

    def is_cached(self, dtype: np.dtype) -> bool:
        """Whether the cache has it for ``dtype``."""
        return is_kept(self.symbol(dtype))

    @abc.abstractmethod
    def symbol(self, dtype: np.dtype) -> str | None:
        """The name of its machine code; None for what cannot be kept."""

    @abc.abstractmethod
    def compiled(self, name: str, dtype: np.dtype) -> bytes:
        """The object file, with the entry ``name``."""


class EmittedMicrokernel(Microkernel):
    """A microkernel that is written in LLVM's instructions.

    Args:
        name: what its symbol begins with.
        emit: builds the body from a builder, the floating type and the parameters' values.
    """

    def __init__(
        self, name: str, kinds: Sequence[str], emit: Callable[..., None], definition: Callable[..., None]
    ) -> None:
        super().__init__(kinds, definition)
        self._name, self._emit = name, emit

    def symbol(self, dtype: np.dtype) -> str:
        # What is emitted follows from the package's text, which names the cache's folder, and from what encloses it.
        enclosed = [_told(cell.cell_contents) for cell in self._emit.__closure__ or ()]
        return f"{self._name}-{disk_cache.digest(dtype.str, self._emit.__qualname__, *enclosed)}"

    def compiled(self, name: str, dtype: np.dtype) -> bytes:
        element = ir.FloatType() if dtype.itemsize == 4 else ir.DoubleType()
        module = ir.Module(name)
        function = ir.Function(module, _function_type(self.kinds, element), name)
        builder = ir.IRBuilder(function.append_basic_block())
        self._emit(builder, element, *function.args)
        builder.ret_void()
        return compile_module(module)


def _told(value: Any) -> str:
    """Text that tells ``value`` from others, in any process."""
    if isinstance(value, FunctionType):
        code = value.__code__
        return repr((value.__qualname__, code.co_code, code.co_consts, code.co_names))
    return repr(value)


def _function_type(kinds: Sequence[str], element: Any) -> Any:
    parameters = {
        ELEMENTS: element.as_pointer(),
        TABLE: WORD.as_pointer(),
        PLACES: ir.IntType(32).as_pointer(),
        INTEGER: WORD,
    }
    return ir.FunctionType(ir.VoidType(), [parameters[kind] for kind in kinds])


def calling(kinds: Sequence[str]) -> Callable[..., None]:
    """What kernels call such microkernels by: ``call(microkernel, ...)``, with the arguments of the definition.

    It is an intrinsic with a parameter for each of them, or calls the definition when the compiler is off.
    """
    if config.DISABLE_JIT:
        return _call_definition
    names = ", ".join(f"a{i}" for i in range(sum(1 if kind == INTEGER else 2 for kind in kinds)))
    made: dict[str, Any] = {"typed": functools.partial(_typed, kinds)}
    # Written out as source, because Numba asks an intrinsic for its parameters one by one.
    exec(f"def call(typing_context, microkernel, {names}):\n    return typed(microkernel, {names})", made)
    call: Callable[..., None] = intrinsic(made["call"])
    return call


def _call_definition(definition: Callable[..., None], *arguments: Any) -> None:
    definition(*arguments)


def _typed(kinds: Sequence[str], *arguments: Any) -> tuple[Any, Callable[..., Any]]:
    """What Numba asks an intrinsic for: its signature, integers as int64 and arrays as they are, and its code."""
    given = [argument if isinstance(argument, types.Array) else types.int64 for argument in arguments]

    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        passed: list[Any] = []
        at, element = 1, None
        for kind in kinds:
            if kind == INTEGER:
                passed.append(values[at])
                at += 1
                continue
            array = context.make_array(signature.args[at])(context, builder, values[at])
            passed.append(builder.gep(array.data, [values[at + 1]]))
            if kind == ELEMENTS:
                element = context.get_value_type(signature.args[at].dtype)
            at += 2
        builder.call(builder.inttoptr(values[0], _function_type(kinds, element).as_pointer()), passed)
        return context.get_dummy_value()

    return types.void(*given), codegen
