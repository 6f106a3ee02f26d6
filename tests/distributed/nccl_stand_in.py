"""What `numbacnn.distributed.nccl` uses of the package nccl4py, for arrays on the host, between threads or processes.

As with NCCL, what is asked for begins at the end of a group, and what is to come is there some questions later: who
does not ask reads what was there before.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol

import numpy as np

STREAM = 7
MESSAGES = {0: "no error", 6: "remote process exited or there was a network error"}


class Wire(Protocol):
    """Carries bytes from rank to rank."""

    def put(self, source: int, target: int, data: bytes) -> None:
        """Send."""

    def take(self, source: int, target: int) -> bytes | None:
        """What was sent first, of what has come and was not taken; None if there is nothing."""


class Threads:
    """A wire between threads."""

    def __init__(self) -> None:
        self._boxes: dict[tuple[int, int], deque[bytes]] = defaultdict(deque)

    def put(self, source: int, target: int, data: bytes) -> None:
        self._boxes[source, target].append(data)

    def take(self, source: int, target: int) -> bytes | None:
        box = self._boxes[source, target]
        return box.popleft() if box else None


class Processes:
    """A wire between the processes of MPI."""

    def __init__(self, communicator: Any) -> None:
        self._communicator = communicator.Dup()
        self._sent: list[tuple[Any, Any]] = []

    def put(self, source: int, target: int, data: bytes) -> None:
        self._sent = [(request, sent) for request, sent in self._sent if not request.Test()]
        array = np.frombuffer(data, np.uint8).copy()
        self._sent.append((self._communicator.Isend(array, target), array))

    def take(self, source: int, target: int) -> bytes | None:
        from mpi4py import MPI

        status = MPI.Status()
        if not self._communicator.Iprobe(source, status=status):
            return None
        array = np.empty(status.Get_count(MPI.BYTE), np.uint8)
        self._communicator.Recv(array, source)
        return array.tobytes()


class Communicator:
    """One rank's."""

    def __init__(self, core: Core, size: int, rank: int) -> None:
        self.core, self.size, self.rank = core, size, rank
        self.error = 0
        self.was_aborted = False
        self._coming: list[tuple[int, Any]] = []
        self._questions = 2

    def send(self, sendbuf: Any, peer: int, *, stream: int) -> None:
        self._ask(lambda: self.core.wire.put(self.rank, peer, _memory(sendbuf).tobytes()), stream)

    def recv(self, recvbuf: Any, peer: int, *, stream: int) -> None:
        self._ask(lambda: self._coming.append((peer, _memory(recvbuf))), stream)

    def allgather(self, sendbuf: Any, recvbuf: Any, *, stream: int) -> None:
        part, whole = _memory(sendbuf), _memory(recvbuf)
        assert whole.size == self.size * part.size > 0 and whole.dtype == part.dtype

        def begin() -> None:
            for peer, place in enumerate(np.split(whole, self.size)):
                self.core.wire.put(self.rank, peer, part.tobytes())
                self._coming.append((peer, place))

        self._ask(begin, stream)

    def _ask(self, begin: Callable[[], None], stream: int) -> None:
        if self.was_aborted:
            raise Exception("Communicator not initialized")
        assert stream == STREAM and not self._coming and not self._questions
        if self.core.grouped.work is None:
            begin()
            self._questions = 1
        else:
            self.core.grouped.work.append((self, begin))

    def begin_group(self) -> None:
        self._questions = 1

    def get_async_error(self) -> int:
        if self.error:
            return self.error
        if self._questions:
            self._questions -= 1
            return 7
        while self._coming:
            peer, place = self._coming[0]
            data = self.core.wire.take(peer, self.rank)
            if data is None:
                return 7
            place[:] = np.frombuffer(data, place.dtype)
            del self._coming[0]
        return 0

    def get_last_error(self) -> str:
        return "it is gone"

    def abort(self) -> None:
        self.was_aborted = True


def _memory(buffer: Any) -> Any:
    """Of an array of NumPy or of the simulator."""
    array = buffer.array
    return array if isinstance(array, np.ndarray) else array.place.view(array.dtype)


class Core(ModuleType):
    """``nccl.core``, of as many threads as like, or of one process of several."""

    UniqueId = SimpleNamespace(from_bytes=lambda data: data)

    def __init__(self, wire: Wire) -> None:
        super().__init__("nccl.core")
        self.wire = wire
        self.grouped = threading.local()
        self.communicators: list[Communicator] = []
        self.Communicator = SimpleNamespace(init=self._init)

    @staticmethod
    def NCCLConfig(*, blocking: bool) -> Any:  # noqa: N802
        assert not blocking
        return SimpleNamespace()

    @staticmethod
    def get_unique_id() -> bytes:
        return b"unique"

    @staticmethod
    def get_error_string(result: int) -> str:
        return MESSAGES[result]

    def _init(self, nranks: int, rank: int, unique_id: bytes, config: Any) -> Communicator:
        assert unique_id == b"unique"
        self.grouped.work = None
        self.communicators.append(Communicator(self, nranks, rank))
        return self.communicators[-1]

    @contextmanager
    def group(self) -> Iterator[None]:
        self.grouped.work = []
        try:
            yield
        finally:
            work, self.grouped.work = self.grouped.work, None
            for communicator, begin in work:
                begin()
                communicator.begin_group()


class Gpu:
    """What is asked of a GPU, whose work here is done at once."""

    stream = STREAM

    def __init__(self, uuid: str = "") -> None:
        self.uuid = uuid
        self.marks = 0

    def synchronize(self) -> None:
        """Nothing is to be waited for."""

    def mark(self) -> Callable[[], bool]:
        self.marks += 1
        return lambda: True


def install(core: Core) -> None:
    """Have programs import it."""
    package = ModuleType("nccl")
    package.core = core  # type: ignore[attr-defined]
    sys.modules.update({"nccl": package, "nccl.core": core})


def wait_until(is_done: Callable[[], bool]) -> None:
    """As a group waits, of which nobody leaves."""
    end = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < end
        time.sleep(0)
