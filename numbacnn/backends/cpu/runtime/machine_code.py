"""Machine code: object files that Numba or LLVM makes once, the disk keeps, and one engine of the process holds.

An object file is less than a tenth of what Numba keeps for a function of its own, and takes a tenth of a millisecond to
load. Each has an entry of its own name, a function of int64 words.

On disk there is a file for each entry, not one index for all: two processes that compile at the same time would
otherwise overwrite each other's.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import pathlib
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.compiler import Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from ... import disk_cache

__all__ = [
    "OPTIONS",
    "VECTOR_BYTES",
    "WORD",
    "Entry",
    "Stamp",
    "cache_folder",
    "compile_function",
    "compile_module",
    "is_kept",
    "load",
    "name_of",
    "object_file",
    "stamp_of",
]

WORD = ir.IntType(64)


def _vector_bytes(features: Mapping[str, bool]) -> int:
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


VECTOR_BYTES = _vector_bytes(llvm.get_host_cpu_features())
"""Of a vector register of this machine."""

Stamp = tuple[int, int] | None
"""The date and the size of the file that holds a function, by which a change is known; None where there is no file."""

# NaN and infinity must go through, so nnan and ninf stay out; contract and reassoc together give vector FMA reductions.
OPTIONS = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy"}


def cache_folder() -> pathlib.Path | None:
    """Where machine code is kept; None if nothing can be written there, or others could."""
    here = pathlib.Path(__file__).parents[1]  # the backend's sources, of which this is one room
    processor = cpu_target.target_context.codegen().magic_tuple()
    versions = (
        numba.__version__,
        llvmlite.__version__,
        platform.python_version(),
        np.__version__,
        str(config.USING_SVML),
    )
    return disk_cache.kernel_folder("kernels", (here, here.parent / "shared"), *versions, repr(processor))


def stamp_of(definition: Callable[..., None]) -> Stamp:
    """Of the file that holds ``definition``, as it is now."""
    try:
        status = os.stat(definition.__code__.co_filename)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def name_of(definition: Callable[..., None], variant: str, stamp: Stamp) -> str | None:
    """The entry of what is compiled of ``definition`` for ``variant``, the types of its arguments.

    None for what is no longer in the file that it came from, of which ``stamp`` was taken when it was declared, and
    where what encloses it is not told by its text.
    """
    if stamp != stamp_of(definition):
        return None
    enclosed = [cell.cell_contents for cell in definition.__closure__ or ()]
    if not all(isinstance(value, (bool, int, float, str, type(None), np.dtype)) for value in enclosed):
        return None
    readable = re.sub(r"[^\w.]", "", f"{definition.__module__}.{definition.__qualname__}")
    return f"{readable}-{disk_cache.digest(variant, repr(enclosed), disk_cache.definition_digest(definition))}"


def is_kept(name: str | None) -> bool:
    """Whether the disk has the entry ``name``."""
    path = _path(name)
    return path is not None and path.exists()


def object_file(name: str, make: Callable[[str], bytes]) -> bytes:
    """The object file with the entry ``name``: the disk's, or what ``make(name)`` makes, which the disk then keeps."""
    path = _path(name)
    code = None if path is None else disk_cache.read(path)
    if code is None:
        code = make(name)
        if path is not None:
            disk_cache.write(path, code)
    return code


def load(name: str | None, make: Callable[[str], bytes]) -> int:
    """The address of the entry ``name`` of :func:`object_file`; without a name it is made, and not kept.

    The compiler's lock is held. A handler of a signal may load what this is loading, and then has it elsewhere.
    """
    if name is None:
        name = f"numbacnn.{next(_numbers)}"
        code = make(name)
    elif name in _addresses:
        return _addresses[name]
    else:
        code = object_file(name, make)
    try:
        engine = _at_hand.pop()
    except IndexError:  # none yet, or it is at work, and this is a signal's handler
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
        _engines.append(engine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address: int = engine.get_function_address(name)
    _at_hand.append(engine)
    return _addresses.setdefault(name, address)


_addresses: dict[str, int] = {}
# What holds the machine code, as long as the process lives: one for each entry would hold a megabyte and a half more.
_engines: list[Any] = []
_at_hand: list[Any] = []
_numbers = itertools.count()


def _path(name: str | None) -> pathlib.Path | None:
    folder = cache_folder()
    return None if folder is None or name is None else folder / f"{name}.code"


def _machine() -> Any:
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )


def compile_module(module: ir.Module) -> bytes:
    """The object file of what was written in LLVM's instructions."""
    module.triple = llvm.get_process_triple()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    code: bytes = _machine().emit_object(parsed)
    return code


def compile_function(
    name: str,
    definition: Callable[..., None],
    parameters: Sequence[types.Type],
    words: int,
    unpack: Callable[[Any, Any, Sequence[Any]], Sequence[Any]],
    **options: Any,
) -> bytes:
    """The object file of what Numba makes of ``definition``, with an entry of so many words.

    Args:
        parameters: the types of its arguments.
        unpack: (context, builder, words) -> the arguments, built from the words.
        options: of Numba, beside those of all.
    """
    context, flags = cpu_target.target_context, Flags()
    # It is part of the entry, and nothing in it may allocate: who calls the entry would not be told of a failure.
    own = {"nopython": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True, "_nrt": False}
    cpu_target.options.parse_as_flags(flags, {**own, **options})
    flags.no_compile = True
    compiled = compile_extra(
        cpu_target.typing_context, context, definition, tuple(parameters), types.void, flags, locals={}
    )
    library, described = compiled.library, compiled.fndesc
    module = context.create_module(name)
    body = ir.Function(
        module, context.call_conv.get_function_type(types.void, described.argtypes), described.llvm_func_name
    )
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [WORD] * words), name)
    # Of AVX-512 LLVM's own choice is half of it, from the days when whole vectors slowed the clock. llvmlite takes only
    # names that it knows, which this is none of.
    set.add(entry.attributes, f'"prefer-vector-width"="{8 * VECTOR_BYTES}"')
    builder = ir.IRBuilder(entry.append_basic_block())
    context.call_conv.call_function(builder, body, types.void, described.argtypes, unpack(context, builder, entry.args))
    builder.ret_void()
    library.add_ir_module(module)
    library.get_function(described.llvm_func_name).linkage = "internal"
    library.finalize()
    code: bytes = library._get_compiled_object()
    return code


class Entry:
    """A compiled function of words, for Python to call without the interpreter lock.

    Args:
        options: of Numba.
    """

    def __init__(self, definition: Callable[..., Any], **options: Any) -> None:
        functools.update_wrapper(self, definition)
        self.definition, self._options = definition, options
        self._words = definition.__code__.co_argcount
        self._stamp = stamp_of(definition)
        self._called: Callable[..., None] | None = None
        self._address = 0

    @property
    def address(self) -> int:
        """Where it is, compiled."""
        self.prepare()
        return self._address

    def __call__(self, *words: int) -> None:
        self.prepare()(*words)

    def prepare(self) -> Callable[..., None]:
        """Compile it, or load it from the cache; what is called."""
        if self._called is None:
            with global_compiler_lock:
                self._address = load(self._name(), self._compiled)
            self._called = ctypes.CFUNCTYPE(None, *(ctypes.c_int64,) * self._words)(self._address)
        return self._called

    def is_cached(self) -> bool:
        """Whether the cache has it."""
        return is_kept(self._name())

    @property
    def is_ready(self) -> bool:
        """Whether a call would compile nothing."""
        return self._called is not None or self.is_cached()

    def _name(self) -> str | None:
        return name_of(self.definition, "", self._stamp)

    def _compiled(self, name: str) -> bytes:
        parameters = [types.int64] * self._words
        return compile_function(
            name, self.definition, parameters, self._words, lambda _context, _builder, given: given, **self._options
        )
