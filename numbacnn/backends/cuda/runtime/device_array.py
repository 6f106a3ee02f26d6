"""Arrays on the device, and the arena they are taken from.

Memory comes from the driver in slabs and goes back to the arena, not to the driver, when the last array in it is gone:
after the first training step, another one asks the driver for nothing. Everything runs in one stream, so that memory
may be used again as soon as Python has let go of it: what still reads it was asked for earlier.

A thread that captures (``captured.py``) takes its arrays from an arena of the capture's own.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...forks import ForkSafeLock
from .device import Gpu
from .simulator import Simulator
from .target import SIMULATED, VECTOR_BYTES

__all__ = [
    "Arena",
    "DeviceArray",
    "aligned",
    "arena",
    "check_size",
    "clear",
    "device",
    "new",
    "overwrite",
    "uploaded",
    "using",
    "will_be_used",
]

SLAB_BYTES = 1 << 20 if SIMULATED else 1 << 28
GRAIN = 512
MAX_ELEMENTS = 1 << 31

_lock = ForkSafeLock()
_device: Any = None


def device() -> Any:
    """The GPU, or the simulator in its place; made at the first call."""
    global _device
    if _device is None:
        with _lock:
            if _device is None:
                made = _new_device()
                _device = _device or made  # a signal's handler may have made one meanwhile
    return _device


def _new_device() -> Any:
    return Simulator() if SIMULATED else Gpu()


class _Scope(threading.local):
    arena: Arena | None = None


_scope = _Scope()


def arena() -> Arena:
    """Where new arrays of this thread are."""
    return _scope.arena or _shared_arena


@contextlib.contextmanager
def using(other: Arena) -> Iterator[None]:
    """Take new arrays of this thread from ``other``, which also keeps the memory that the block uses besides."""
    former, _scope.arena = _scope.arena, other
    try:
        yield
    finally:
        _scope.arena = former


def will_be_used(arguments: Sequence[Any]) -> None:
    """Note the arrays of a launch or a copy: where it is recorded, the record needs their memory for as long."""
    if _scope.arena is not None:
        for x in arguments:
            if isinstance(x, DeviceArray):
                _scope.arena.keep(x.owner)


class Arena:
    """Slabs of device memory and what in them is free, by size."""

    def __init__(self) -> None:
        self._free: dict[int, list[tuple[Any, int]]] = {}
        self._slabs: list[Any] = []
        self._rest: tuple[Any, int, int] = (None, 0, 0)  # slab, start and size of what has never been used
        self._kept: dict[int, Any] = {}
        self.bytes = 0
        """What the driver has given."""

    def take(self, size: int) -> Block:
        """At least ``size`` bytes, uninitialised, that start at a multiple of GRAIN."""
        size = _rounded(size)
        free = self._free.get(size)
        if free:
            try:
                slab, start = free.pop()
            except IndexError:  # another thread was faster
                return self.take(size)
            return Block(self, slab, start, size)
        with _lock:
            if _lock.depth > 1:  # a signal's handler, amid what follows
                return Block(self, self._new_slab(size), 0, size)
            slab, start, room = self._rest
            if room < size:
                room = max(size, SLAB_BYTES)
                slab, start = self._new_slab(room), 0
            self._rest = (slab, start + size, room - size)
        return Block(self, slab, start, size)

    def _new_slab(self, size: int) -> Any:
        slab = device().allocate(size)
        self._slabs.append(slab)
        self.bytes += size
        return slab

    def give_back(self, block: Block) -> None:
        self._free.setdefault(block.size, []).append((block.slab, block.start))

    def keep(self, owner: Any) -> None:
        """Keep ``owner``, memory of another arena or another library, for as long as this one is there."""
        if not (isinstance(owner, Block) and owner.arena is self):
            self._kept[id(owner)] = owner

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at exit, the driver may be gone first
            for slab in self._slabs:
                _device.release(slab)


def _rounded(size: int) -> int:
    """At most an eighth more than ``size``, so that sizes which differ a little share their free memory."""
    grain = max(GRAIN, 1 << max(0, size.bit_length() - 4))
    return max(GRAIN, -(-size // grain) * grain)


class Block:
    """A piece of a slab, which goes back to its arena with the last array that is in it."""

    __slots__ = ("arena", "size", "slab", "start")

    def __init__(self, arena: Arena, slab: Any, start: int, size: int) -> None:
        self.arena, self.slab, self.start, self.size = arena, slab, start, size

    def __del__(self) -> None:
        self.arena.give_back(self)


_shared_arena = Arena()


class DeviceArray:
    """A C-contiguous array on the GPU: shape, dtype, ``reshape`` and slices along the first axis, which share memory.

    ``numpy.asarray(x)`` copies it to the host and waits for it. CuPy, PyTorch, JAX and Numba take it as it is, through
    ``__cuda_array_interface__`` or DLPack.
    """

    __slots__ = ("__weakref__", "dtype", "owner", "place", "shape", "size")

    __array_priority__ = 100

    def __init__(self, shape: Sequence[int], dtype: Any, place: Any, owner: Any) -> None:
        self.shape: tuple[int, ...] = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.place = place
        self.owner = owner
        self.size = math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def reshape(self, *shape: Any) -> DeviceArray:
        """The same elements in another shape, of which one size may be -1."""
        sizes = [int(size) for size in (shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)]
        if sizes.count(-1) == 1:
            known = math.prod(size for size in sizes if size != -1)
            sizes[sizes.index(-1)] = self.size // known if known else 0
        if math.prod(sizes) != self.size or (sizes and min(sizes) < 0):
            raise ValueError(f"`shape` {tuple(shape)} must hold the {self.size} elements of an array {self.shape}")
        return DeviceArray(sizes, self.dtype, self.place, self.owner)

    def __getitem__(self, index: slice) -> DeviceArray:
        if not isinstance(index, slice) or not self.shape:
            raise TypeError(f"an array on the GPU is indexed by slices of its first axis only, not by {index!r}")
        first, end, step = index.indices(self.shape[0])
        if step != 1:
            raise ValueError(f"a slice of an array on the GPU must have the step 1, not {step}")
        count = max(end - first, 0)
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        place = device().place(self.place, first * row, count * row)
        return DeviceArray((count, *self.shape[1:]), self.dtype, place, self.owner)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array of shape () has no length")
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on the GPU cannot become a NumPy array without a copy")
        values = np.empty(self.shape, self.dtype)
        device().download(values, self.place)
        return values if dtype is None else values.astype(dtype, copy=False)

    def __float__(self) -> float:
        return float(np.asarray(self))

    def __int__(self) -> int:
        return int(np.asarray(self))

    def __bool__(self) -> bool:
        return bool(np.asarray(self))

    def __deepcopy__(self, memo: Any) -> DeviceArray:
        copied = new(self.shape, self.dtype)
        overwrite(copied, self)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return uploaded, (np.asarray(self),)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if SIMULATED:
            raise AttributeError("arrays of the simulator are not in a GPU's memory")
        # Waiting here saves every consumer from having to know our stream.
        device().synchronize()
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.place if self.size else 0, False),
            "strides": None,
            "version": 3,
            "stream": None,
        }

    def __dlpack__(self, **options: Any) -> Any:
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_cuda_array_interface(self, stream_ptr=-1)
        return view.__dlpack__(**{**options, "stream": -1})

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, device().number)  # kDLCUDA

    def __repr__(self) -> str:
        return f"DeviceArray({np.array2string(np.asarray(self), separator=', ')}, dtype={self.dtype})"


def uploaded(values: np.ndarray) -> DeviceArray:
    """A new array with the values of a C-contiguous one on the host."""
    array = new(values.shape, values.dtype)
    device().upload(array.place, values)
    return array


def new(shape: Sequence[int], dtype: Any) -> DeviceArray:
    """A new uninitialised array; ValueError for 2**31 elements or more, which indices of 32 bits do not reach."""
    shape, dtype = tuple(int(size) for size in shape), np.dtype(dtype)
    size = check_size(shape) * dtype.itemsize
    block = arena().take(size)
    place = device().place(block.slab, block.start, size)
    if SIMULATED:
        place.fill(0xFF)
    return DeviceArray(shape, dtype, place, block)


def aligned(x: DeviceArray) -> DeviceArray:
    """``x``, or where that is in the midst of other memory, a copy: what threads read VECTOR_BYTES of at once."""
    if SIMULATED or x.place % VECTOR_BYTES == 0:
        return x
    copied = new(x.shape, x.dtype)
    overwrite(copied, x)
    return copied


def check_size(shape: Sequence[int]) -> int:
    """How many elements an array has; ValueError for 2**31 or more."""
    count = math.prod(shape)
    if count >= MAX_ELEMENTS:
        raise ValueError(
            f"an array {tuple(shape)} has {count:,} elements, the cuda backend takes fewer than {MAX_ELEMENTS:,}"
        )
    return count


def overwrite(target: DeviceArray, source: DeviceArray) -> None:
    """Copy the elements of ``source``, as many and of the same dtype, to ``target``."""
    will_be_used((target, source))
    device().copy(target.place, source.place, target.nbytes)


def clear(target: DeviceArray) -> None:
    """Set all elements to zero."""
    will_be_used((target,))
    device().clear(target.place, target.nbytes)
