"""The GPU as this backend uses it: one stream of its own, addresses as ints, copies through pinned memory.

Everything goes through the driver's own interface (``cuda.bindings.driver``): a launch packs its arguments into words
and costs one call. Nothing runs on the default stream, which other libraries use and which cannot be captured.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

from ..cuda_support import DriverError, capability, value

__all__ = ["Gpu"]

STAGING_BYTES = 8 << 20
STAGING_BUFFERS = 2
LEGACY_STREAM = 1
KEPT_ALIVE = 64


class Gpu:
    """The first GPU. Its functions only ask for work; :meth:`synchronize` and :meth:`download` wait for it."""

    name = "cuda:0"

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._driver: Any = driver
        value(driver.cuInit(0))
        handle = value(driver.cuDeviceGet(0))
        self.capability = capability(driver, handle)
        attribute = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        self.multiprocessors: int = value(driver.cuDeviceGetAttribute(attribute, handle))
        self._context = value(driver.cuDevicePrimaryCtxRetain(handle))
        self._threads = threading.local()
        self._enter()
        self._stream = value(driver.cuStreamCreate(int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)))
        self._event = self._new_event()
        self._staging: list[tuple[int, Any]] = []
        self._next_staging = 0
        self._kept: list[Any] = []
        self._lock = threading.RLock()
        self._released: list[int] = []
        self.capturing = False
        self.launches = 0

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return int(self._stream)

    def _enter(self) -> None:
        """Make the context that of the calling thread, once a thread."""
        if not getattr(self._threads, "entered", False):
            value(self._driver.cuCtxSetCurrent(self._context))
            self._threads.entered = True

    def _new_event(self) -> Any:
        return value(self._driver.cuEventCreate(int(self._driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)))

    # Memory: addresses are ints.

    def allocate(self, size: int) -> int:
        """The address of ``size`` new bytes; MemoryError if there are none."""
        self._enter()
        result, address = self._driver.cuMemAlloc(size)
        if result == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError(f"the GPU has no {size:,} bytes left")
        return int(value((result, address)))

    def release(self, address: int) -> None:
        """Give memory back; waits for the device, so not while it records."""
        self._released.append(address)
        if not self.capturing:
            self._enter()
            while self._released:
                value(self._driver.cuMemFree(self._released.pop()))

    @staticmethod
    def place(slab: int, start: int, size: int) -> int:
        """Where ``size`` bytes of allocated memory begin."""
        return slab + start

    def free_memory(self) -> int:
        """Bytes that can still be allocated."""
        self._enter()
        free, _ = value(self._driver.cuMemGetInfo())
        return int(free)

    def upload(self, address: int, source: np.ndarray) -> None:
        """Copy a contiguous array to the device; it may be changed as soon as this returns."""
        self._enter()
        self._not_while_capturing("a copy from the host")
        with self._lock:
            data, size = source.ctypes.data, source.nbytes
            for first in range(0, size, STAGING_BYTES):
                part = min(STAGING_BYTES, size - first)
                buffer, event = self._free_staging()
                ctypes.memmove(buffer, data + first, part)
                value(self._driver.cuMemcpyHtoDAsync(address + first, buffer, part, self._stream))
                value(self._driver.cuEventRecord(event, self._stream))

    def _free_staging(self) -> tuple[int, Any]:
        """A pinned buffer whose last copy is done, the buffers taking turns."""
        if len(self._staging) < STAGING_BUFFERS:
            self._staging.append((int(value(self._driver.cuMemHostAlloc(STAGING_BYTES, 0))), self._new_event()))
            return self._staging[-1]
        self._next_staging = (self._next_staging + 1) % STAGING_BUFFERS
        buffer, event = self._staging[self._next_staging]
        value(self._driver.cuEventSynchronize(event))
        return buffer, event

    def download(self, target: np.ndarray, address: int) -> None:
        """Copy from the device into a contiguous array, when everything before is done."""
        self._enter()
        if target.nbytes:
            value(self._driver.cuMemcpyDtoHAsync(target.ctypes.data, address, target.nbytes, self._stream))
        self.synchronize()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy on the device."""
        self._enter()
        if size:
            value(self._driver.cuMemcpyDtoDAsync(target, source, size, self._stream))

    def clear(self, address: int, size: int) -> None:
        """Set bytes to zero."""
        self._enter()
        if size:
            value(self._driver.cuMemsetD8Async(address, 0, size, self._stream))

    # Work.

    def load(self, image: bytes, entry: str) -> Any:
        """The function ``entry`` of a cubin."""
        self._enter()
        module = value(self._driver.cuModuleLoadData(image))
        return value(self._driver.cuModuleGetFunction(module, entry.encode()))

    def launch(self, function: Any, blocks: int, threads: int, words: array[int]) -> None:
        """Start a kernel; ``words`` hold an argument each, in 8 bytes, which the driver copies."""
        self._enter()
        base = words.buffer_info()[0]
        pointers = array("Q", range(base, base + 8 * len(words), 8))
        result = self._driver.cuLaunchKernel(
            function, blocks, 1, 1, threads, 1, 1, 0, self._stream, pointers.buffer_info()[0], 0
        )
        value(result)
        self.launches += 1

    def synchronize(self) -> None:
        """Wait until everything is done."""
        self._enter()
        self._not_while_capturing("waiting for the device")
        value(self._driver.cuStreamSynchronize(self._stream))
        self._kept.clear()

    def begin_capture(self) -> None:
        """Record what is asked for from now on instead of doing it."""
        self._enter()
        # Relaxed: other threads and libraries go on using the device meanwhile.
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        value(self._driver.cuStreamBeginCapture(self._stream, mode))
        self.capturing = True

    def end_capture(self) -> Callable[[], None]:
        """What was recorded, as one launch; DriverError if the driver could not record it."""
        driver = self._driver
        self.capturing = False
        graph = value(driver.cuStreamEndCapture(self._stream))
        try:
            return _Replay(self, value(driver.cuGraphInstantiate(graph, 0)))
        finally:
            value(driver.cuGraphDestroy(graph))

    def replay(self, executable: Any) -> None:
        """Start a graph."""
        self._enter()
        value(self._driver.cuGraphLaunch(executable, self._stream))
        self.launches += 1

    def forget(self, executable: Any) -> None:
        """Give a graph back."""
        self._driver.cuGraphExecDestroy(executable)

    def _not_while_capturing(self, what: str) -> None:
        if self.capturing:
            raise DriverError(f"{what} cannot be part of a captured step")

    # Other libraries' memory.

    def wait_for(self, stream: int | None) -> None:
        """Let what is asked for next wait for another library's stream, by default the legacy default stream."""
        self._enter()
        other = self._driver.CUstream(LEGACY_STREAM if stream is None else stream)
        value(self._driver.cuEventRecord(self._event, other))
        value(self._driver.cuStreamWaitEvent(self._stream, self._event, 0))

    def keep(self, owner: Any) -> None:
        """Keep ``owner`` alive until what was asked for before has been done."""
        self._kept.append(owner)
        if len(self._kept) >= KEPT_ALIVE:
            self.synchronize()


class _Replay:
    """Starts a captured graph; the graph goes with it."""

    def __init__(self, gpu: Gpu, executable: Any) -> None:
        self._gpu, self._executable = gpu, executable

    def __call__(self) -> None:
        self._gpu.replay(self._executable)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at exit, the driver may be gone first
            self._gpu.forget(self._executable)
