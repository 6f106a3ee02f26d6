"""The GPU as this backend uses it: one stream of its own, addresses as ints, copies through pinned memory.

Everything goes through the driver's own interface (``cuda.bindings.driver``): a launch packs its arguments into words
and costs one call. Nothing runs on the default stream, which other libraries use and which cannot be captured.

All threads share the stream, except one that captures: what it asks for goes into a stream of its own until the capture
ends, so that what other threads ask for meanwhile is done and not recorded.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from ...capture import CaptureError
from ...cuda_support import capability, chosen_device, initialize, value
from ...forks import ForkSafeLock, in_forked_children

__all__ = ["Gpu", "Recorder"]

STAGING_BYTES = 8 << 20
STAGING_BUFFERS = 2
LEGACY_STREAM = 1
KEPT_ALIVE = 64


class Recorder(threading.local):
    """Where what the calling thread asks for is recorded: ``into`` is None where it does not capture."""

    into: Any = None

    def refuse(self, what: str) -> None:
        """CaptureError while the calling thread captures."""
        if self.into is not None:
            raise CaptureError(f"{what} cannot be part of a captured step")


class Gpu:
    """The GPU that was chosen, by default the first.

    Its functions only ask for work; :meth:`synchronize` and :meth:`download` wait for it.
    """

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._driver: Any = driver
        initialize(driver)
        self.number = chosen_device(driver)
        self.name = f"cuda:{self.number}"
        handle = self._handle = value(driver.cuDeviceGet(self.number))
        self.capability = capability(driver, handle)
        attribute = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        self.multiprocessors: int = value(driver.cuDeviceGetAttribute(attribute, handle))
        self._context = value(driver.cuDevicePrimaryCtxRetain(handle))
        self._forget_threads()
        in_forked_children(self._forget_threads)
        self._recorder = Recorder()
        self._enter()
        self._stream = self._new_stream()
        self._staging: list[tuple[int, Any]] = []
        self._next_staging = 0
        self._staging_lock = ForkSafeLock()
        self._kept: deque[Any] = deque()
        self._released: deque[int] = deque()
        self.launches = 0
        """What was launched so far: kernels, those of a capture among them, and captured steps; for benchmarks."""

    @property
    def uuid(self) -> str:
        """What no other GPU has, of any machine."""
        return str(value(self._driver.cuDeviceGetUuid(self._handle)).bytes.hex())

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        self._enter()
        return int(self._stream)

    @property
    def current_stream(self) -> int:
        """The handle of the stream that the calling thread's work goes into: that of its capture while it captures.

        What another library asks for in it is recorded too; the memory that it names has to be kept by the caller.
        """
        self._enter()
        return int(self._current)

    def _forget_threads(self) -> None:
        self._threads = threading.local()

    def _enter(self) -> None:
        """Make the context that of the calling thread, once a thread; DriverError in a forked child."""
        if not getattr(self._threads, "entered", False):
            initialize(self._driver)
            value(self._driver.cuCtxSetCurrent(self._context))
            self._threads.entered = True

    def _new_stream(self) -> Any:
        return value(self._driver.cuStreamCreate(int(self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING)))

    @property
    def _current(self) -> Any:
        """The stream of the calling thread."""
        capturing = self._recorder.into
        return self._stream if capturing is None else capturing

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
        """Give memory back; this waits for the device, so that a thread which captures leaves it for later."""
        self._released.append(address)
        if self._recorder.into is None:
            self._enter()
            with contextlib.suppress(IndexError):
                while True:
                    value(self._driver.cuMemFree(self._released.popleft()))

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
        self._recorder.refuse("a copy from the host")
        data, size = source.ctypes.data, source.nbytes
        with self._staging_lock as lock:
            if lock.depth > 1:  # a signal's handler, amid what follows
                value(self._driver.cuMemcpyHtoDAsync(address, data, size, self._stream))
                self.synchronize()
                return
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
        self._recorder.refuse("waiting for the device")
        if target.nbytes:
            value(self._driver.cuMemcpyDtoHAsync(target.ctypes.data, address, target.nbytes, self._stream))
        self.synchronize()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy on the device."""
        self._enter()
        if size:
            value(self._driver.cuMemcpyDtoDAsync(target, source, size, self._current))

    def clear(self, address: int, size: int) -> None:
        """Set bytes to zero."""
        self._enter()
        if size:
            value(self._driver.cuMemsetD8Async(address, 0, size, self._current))

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
        self.launches += 1
        result = self._driver.cuLaunchKernel(
            function, blocks, 1, 1, threads, 1, 1, 0, self._current, pointers.buffer_info()[0], 0
        )
        value(result)

    def synchronize(self) -> None:
        """Wait until everything is done."""
        self._enter()
        self._recorder.refuse("waiting for the device")
        # What is kept from here on, by any thread, may be needed longer.
        done = []
        with contextlib.suppress(IndexError):
            for _ in range(len(self._kept)):
                done.append(self._kept.popleft())  # noqa: PERF401 - what was taken out before the end stays in the list
        value(self._driver.cuStreamSynchronize(self._stream))

    def mark(self) -> Callable[[], bool]:
        """A question that does not wait: whether all that was asked for before is done."""
        self._enter()
        self._recorder.refuse("waiting for the device")
        mark = _Mark(self._driver, self._new_event())
        value(self._driver.cuEventRecord(mark.event, self._stream))
        return mark

    def begin_capture(self) -> None:
        """Record what the calling thread asks for from now on instead of doing it."""
        self._enter()
        self._recorder.refuse("another capture")
        stream = self._new_stream()
        # Relaxed: this thread allocates and loads kernels meanwhile, others and other libraries use the device.
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        try:
            value(self._driver.cuStreamBeginCapture(stream, mode))
        except BaseException:
            self._driver.cuStreamDestroy(stream)
            raise
        self._recorder.into = stream

    def end_capture(self) -> Callable[[], None]:
        """What was recorded, as one launch; DriverError if the driver could not record it."""
        driver = self._driver
        stream, self._recorder.into = self._recorder.into, None
        try:
            graph = value(driver.cuStreamEndCapture(stream))
        finally:
            driver.cuStreamDestroy(stream)
        try:
            return _Replay(self, value(driver.cuGraphInstantiate(graph, 0)))
        finally:
            value(driver.cuGraphDestroy(graph))

    def replay(self, executable: Any) -> None:
        """Start a graph."""
        self._enter()
        self._recorder.refuse("a captured step")
        self.launches += 1
        value(self._driver.cuGraphLaunch(executable, self._stream))

    def forget(self, executable: Any) -> None:
        """Give a graph back."""
        self._enter()
        self._driver.cuGraphExecDestroy(executable)

    # Other libraries' memory.

    def wait_for(self, stream: int | None) -> None:
        """Let what is asked for next wait for another library's stream, by default the legacy default stream."""
        self._enter()
        other = self._driver.CUstream(LEGACY_STREAM if stream is None else stream)
        # An event of its own, which another thread or a signal's handler cannot record anew before it is waited for.
        # The driver destroys it once it is over. Nor is it part of a capture, whose launches come later.
        event = self._new_event()
        try:
            value(self._driver.cuEventRecord(event, other))
            value(self._driver.cuStreamWaitEvent(self._stream, event, 0))
        finally:
            self._driver.cuEventDestroy(event)

    def ordinal(self, address: int) -> int:
        """The number of the device that ``address`` is in the memory of; this one for what the driver does not know."""
        self._enter()
        attribute = self._driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, ordinal = self._driver.cuPointerGetAttribute(attribute, address)
        return self.number if int(status) else int(ordinal)

    def keep(self, owner: Any) -> None:
        """Keep ``owner`` alive until what was asked for before has been done.

        Finalizers call it, at any moment, in any thread: it neither waits nor raises.
        """
        self._kept.append(owner)

    def let_go(self) -> None:
        """Bound what is kept alive, by waiting for the device where it is much and this thread does not capture."""
        if len(self._kept) >= KEPT_ALIVE and self._recorder.into is None:
            self.synchronize()


class _Replay:
    """Starts a captured graph; the graph goes with it."""

    def __init__(self, gpu: Gpu, executable: Any) -> None:
        self._gpu, self._executable = gpu, executable
        self._lock = ForkSafeLock()

    def __call__(self) -> None:
        with self._lock:  # the driver leaves it to its callers that threads do not launch the same graph at once
            self._gpu.replay(self._executable)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at exit, the driver may be gone first
            self._gpu.forget(self._executable)


class _Mark:
    """Tells whether an event has come; the event goes with it. DriverError if what comes before it failed."""

    def __init__(self, driver: Any, event: Any) -> None:
        self._driver, self.event = driver, event

    def __call__(self) -> bool:
        answer = self._driver.cuEventQuery(self.event)
        if answer[0] == self._driver.CUresult.CUDA_ERROR_NOT_READY:
            return False
        value(answer)
        return True

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at exit, the driver may be gone first
            self._driver.cuEventDestroy(self.event)
