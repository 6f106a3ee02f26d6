"""How a kernel is declared, compiled, cached and launched.

Four kinds of kernels, all plain functions of flat memory, integers, floats and tuples of integers::

    @mapping
    def scaled(i, x, factor):           # the value of element i of the first array of the call
        return factor * x[i]

    @kernel
    def swap(i, x, y):                  # whatever index i is responsible for
        x[i], y[i] = y[i], x[i]

    @loading_kernel(read)               # the same, where reading takes long: value is what read(i, x, y) returned
    def halve(i, value, x, y):
        y[i] = value / 2

    @block_kernel(THREADS)
    def sums(block, thread, x, total):  # a block of threads that share memory and wait for each other
        ...

    scaled(n, y, x, 0.5)                # for each i in 0..n-1: y[i] = ...
    swap(n, x, y)
    halve(n, x, y)
    sums(blocks, x, total)

The call compiles the function for the types it meets, once: Numba makes PTX, nvJitLink makes machine code for the
device, and a file keeps it for the next process. Floats arrive in the dtype of the first floating array. In the
simulator the plain function runs.
"""

from __future__ import annotations

import contextlib
import pathlib
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ... import disk_cache
from ...cuda_support import DriverError
from ...forks import ForkSafeLock
from ...kernel_args import float_bits
from . import device_array
from .device_array import DeviceArray
from .target import SIMULATED, compile_kernel, cuda, device_function, signed, threads_per_block, versions

__all__ = ["Kernel", "block_kernel", "every_kernel", "kernel", "link", "loading_kernel", "mapping"]

THREADS = threads_per_block(256)
# The values that a thread works out, or loads, before it stores one, so that their loads are under way together:
# pointers might alias, and no load is moved above a store, nor above the branches of a division as IEEE has it.
UNROLL = 4

_kernels: list[Kernel] = []


class _Entry(NamedTuple):
    run: Any
    single: bool  # floats are passed as float32


class Kernel:
    """A compiled-on-demand function; see the module's text.

    Args:
        definition: the function.
        kind: ``"mapping"``, ``"kernel"``, ``"loading"`` or ``"block"``.
        threads: in a block.
        load: for ``"loading"``, the function whose results ``definition`` is given.
        name: of the kernel in the cache, different for each function that is made by the same lines.
    """

    def __init__(
        self,
        definition: Callable[..., Any],
        kind: str,
        threads: int,
        name: str = "",
        load: Callable[..., Any] | None = None,
    ) -> None:
        self.definition = definition
        self.load = load
        self.kind = kind
        self.threads = threads
        self.name = name or f"{definition.__module__}.{definition.__qualname__}"
        self._share = 1 if kind == "block" else threads if kind == "kernel" else threads * UNROLL  # a block's, of all
        self._body = device_function(definition)
        self._load_body = None if load is None else device_function(load)
        self._entries: dict[tuple[Any, ...], _Entry] = {}
        self._lock = ForkSafeLock()
        _kernels.append(self)

    def __call__(self, count: int, *arguments: Any) -> None:
        """Ask for indices 0..count-1, or for ``count`` blocks; none, no work."""
        if count <= 0:
            return
        key = tuple([_type_of(a) for a in arguments])
        entry = self._entries.get(key)
        if entry is None:
            entry = self._load(key)
        device = device_array.device()
        packed = () if self.kind == "block" else (count,)
        if SIMULATED:
            words: Any = [*packed, *((a.place, a.dtype) if isinstance(a, DeviceArray) else a for a in arguments)]
        else:
            words = _packed(packed, arguments, entry.single)
        device_array.will_be_used(arguments)
        device.launch(entry.run, -(-count // self._share), self.threads, words)

    def _load(self, key: tuple[Any, ...]) -> _Entry:
        with self._lock:
            if key not in self._entries:
                scalar = _scalar_type(key)
                run = self.entry(len(key)) if SIMULATED else self._machine_code(key, device_array.device())
                self._entries[key] = _Entry(run, scalar == np.float32)
            return self._entries[key]

    def _machine_code(self, key: tuple[Any, ...], device: Any) -> Any:
        """The function on the device, from the cache or the compiler."""
        folder, file = cache_folder(), None
        if folder is not None:
            functions = [self.definition] if self.load is None else [self.definition, self.load]
            detail = disk_cache.digest(self.name, repr(key), *map(disk_cache.definition_digest, functions))
            file = folder / f"{self.definition.__name__}-{detail}-{device.capability[0]}{device.capability[1]}.cubin"
            # A damaged file, or one that the driver does not take, means compiling again, never an error.
            kept = disk_cache.read(file)
            if kept is not None:
                with contextlib.suppress(ValueError, DriverError):
                    name, _, image = kept.partition(b"\n")
                    return device.load(image, name.decode("ascii"))
        ptx, entry = self.compile(key, device.capability)
        image, _ = link(ptx, device.capability)
        if file is not None:
            disk_cache.write(file, entry.encode("ascii") + b"\n" + image)
        return device.load(image, entry)

    def compile(self, key: Sequence[Any], capability: tuple[int, int]) -> tuple[str, str]:
        """PTX for arguments of the types ``key`` (see :func:`compile_kernel`) and the name of its entry."""
        scalar = _scalar_type(key)
        arguments = [scalar.type if item is float else item for item in key]
        counts = [] if self.kind == "block" else [int]
        with _compiler_lock:
            return compile_kernel(self.entry(len(key)), (*counts, *arguments), self.threads, capability)

    def entry(self, parameters: int) -> Callable[..., None]:
        """The function that the device starts: it finds its indices and calls the definition.

        It is written out as source because its number of arguments is; a mapping's first one is what it stores to, and
        what is loaded for it is its value.
        """
        given = [f"a{i}" for i in range(parameters)]
        arguments, inputs = ", ".join(given), ", ".join(given[1:])
        offsets = [u * self.threads for u in range(UNROLL)]
        load, store = f"body({{}}, {inputs})", "a0[{}] = {}"
        if self.kind == "loading":
            load, store = f"load({{}}, {arguments})", f"body({{}}, {{}}, {arguments})"
        if self.kind == "block":
            lines = [
                f"def entry({arguments}):",
                f"    body(signed(cuda.blockIdx.x), signed(cuda.threadIdx.x), {arguments})",
            ]
        elif self.kind == "kernel":
            lines = [
                f"def entry(count, {arguments}):",
                f"    i = signed(cuda.blockIdx.x) * {self.threads} + signed(cuda.threadIdx.x)",
                "    if i < count:",
                f"        body(i, {arguments})",
            ]
        else:
            lines = [
                f"def entry(count, {arguments}):",
                f"    i = signed(cuda.blockIdx.x) * {self.threads * UNROLL} + signed(cuda.threadIdx.x)",
                f"    if i + {offsets[-1]} < count:",
                *(f"        v{u} = {load.format(f'i + {offset}')}" for u, offset in enumerate(offsets)),
                *(f"        {store.format(f'i + {offset}', f'v{u}')}" for u, offset in enumerate(offsets)),
                "    else:",
                "        while i < count:",
                f"            {store.format('i', load.format('i'))}",
                f"            i += {self.threads}",
            ]
        names = {"cuda": cuda, "body": self._body, "load": self._load_body, "signed": signed}
        namespace: dict[str, Any] = {"__name__": self.definition.__module__, **names}
        exec("\n".join(lines), namespace)
        namespace["entry"].waits = self.kind == "block"  # whether its threads wait for each other, for the simulator
        return namespace["entry"]


def mapping(definition: Callable[..., Any], name: str = "") -> Kernel:
    """Declare that ``definition(i, ...)`` is element i of the array that the call names first."""
    return Kernel(definition, "mapping", THREADS, name)


def kernel(definition: Callable[..., None]) -> Kernel:
    """Declare that ``definition(i, ...)`` does what index i is responsible for."""
    return Kernel(definition, "kernel", THREADS)


def loading_kernel(load: Callable[..., Any]) -> Callable[[Callable[..., None]], Kernel]:
    """Declare that ``definition(i, load(i, ...), ...)`` does what index i is responsible for.

    For what is more than a mapping: loads that branches would hold up, or results that are stored elsewhere than at i.
    """
    return lambda definition: Kernel(definition, "loading", THREADS, load=load)


def block_kernel(threads: int, name: str = "") -> Callable[[Callable[..., None]], Kernel]:
    """Declare that ``definition(block, thread, ...)`` is done by each of ``threads`` threads of each block."""
    return lambda definition: Kernel(definition, "block", threads, name)


def every_kernel() -> list[Kernel]:
    """All kernels that have been declared, for tests that compile them."""
    return list(_kernels)


_compiler_lock = ForkSafeLock()


def link(ptx: str, capability: tuple[int, int]) -> tuple[bytes, str]:
    """Machine code from PTX, and what the linker says about registers and spills. It needs no device."""
    from cuda.bindings import nvjitlink

    options = [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"]
    handle = nvjitlink.create(len(options), options)
    try:
        data = ptx.encode()
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), "kernel")
        nvjitlink.complete(handle)
        image = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, image)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    finally:
        nvjitlink.destroy(handle)
    return bytes(image), log.decode(errors="replace").rstrip("\0\n")


def cache_folder() -> pathlib.Path | None:
    """Where machine code is kept; None if nothing can be written there."""
    here = pathlib.Path(__file__).parents[1]  # the backend's sources, of which this is one room
    return disk_cache.kernel_folder("cuda", (here, here.parent / "shared"), *versions())


def _type_of(argument: Any) -> Any:
    if isinstance(argument, DeviceArray):
        return argument.dtype
    if isinstance(argument, tuple):
        return len(argument)
    if isinstance(argument, (int, np.integer)):
        return int
    if isinstance(argument, float):
        return float
    raise TypeError(f"a kernel takes arrays of the cuda backend and numbers, not {type(argument).__name__}")


def _scalar_type(key: Sequence[Any]) -> np.dtype[Any]:
    """What floats are passed as."""
    floating = (item for item in key if isinstance(item, np.dtype) and item.kind == "f" and item.itemsize >= 4)
    return next(floating, np.dtype(np.float64))


def _packed(first: Sequence[int], arguments: Sequence[Any], single: bool) -> array[int]:
    """Arguments as words of 8 bytes: addresses, ints, floats in the low bytes."""
    words = array("q", first)
    for a in arguments:
        if isinstance(a, DeviceArray):
            words.append(a.place)
        elif isinstance(a, tuple):
            words.extend(a)
        else:
            words.append(float_bits(a, single) if isinstance(a, float) else int(a))
    return words
