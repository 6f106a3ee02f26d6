"""Flat arrays from GPU to GPU by NCCL, through the package nccl4py: the extra ``distributed-cuda``.

NCCL moves bytes here and adds nothing: the order of its own sums depends on the algorithm that it takes. All goes into
the backend's stream, so that what was computed before is sent, and what comes is there for what is asked for next.

A process that has left would keep kernels of the others waiting for ever, and NCCL's blocking calls, too. So its calls
do not block here, and the host waits for them, and at the end for the stream, by asking, see `Watch`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..backends import Array, Backend
from ..sharding import Addends, Node
from .exchange import Parts

__all__ = ["INSTALL", "OverNccl", "missing", "refusal", "used_gpu"]

PIECE_BYTES = 32 << 20
"""Of each array, that are on their way at a time: what a piece costs the host beside is some of NCCL's calls."""
INSTALL = 'pip install "numbacnn[distributed-cuda]"'
LOOK_SECONDS = 0.05
"""How often it is asked whether a piece is ready."""
SUCCESS, IN_PROGRESS = 0, 7
"""Of NCCL's results, see nccl.h."""


def missing() -> str | None:
    """What keeps this Python from NCCL, with the remedy, in one line; None if nothing does."""
    try:
        from nccl import core

        core.get_error_string(SUCCESS)  # which needs the library, and no GPU
    except Exception as error:  # a library that is not there is reported in many ways
        return f"{' '.join(str(error).split()) or type(error).__name__}: {INSTALL}"
    return None


def refusal(names: set[str]) -> str | None:
    """Why arrays of the backends ``names`` do not go over NCCL, as far as this process knows; None if they can."""
    if names != {"cuda"}:
        return f"the arrays are on {', '.join(map(repr, sorted(names))) or 'no backend'}, must be on 'cuda'"
    from ..backends.cuda.runtime.target import SIMULATED

    return "the GPU is a simulator" if SIMULATED else missing()


def used_gpu() -> Any:
    """The GPU of arrays that :func:`refusal` has nothing against."""
    from ..backends.cuda.runtime.device_array import device

    return device()


class OverNccl:
    """Arrays on the GPU, of which each process has one of its own.

    Args:
        rank: the number of this process, from 0.
        size: how many there are.
        backend: that of the arrays.
        gpu: where they are.
        broadcast: gives all processes the value of the first one.
        until: waits until a function says True; RuntimeError if a process has left.

    Raises:
        RuntimeError: NCCL cannot connect the processes. They then have to end, for the others wait.
    """

    name = "nccl"
    piece_bytes = PIECE_BYTES

    def __init__(
        self,
        rank: int,
        size: int,
        backend: Backend,
        gpu: Any,
        broadcast: Callable[[Any], Any],
        until: Callable[[Callable[[], bool]], None],
    ) -> None:
        from nccl import core

        self._rank, self._size, self._core = rank, size, core
        self._backend, self._gpu, self._until = backend, gpu, until
        self._communicator: Any = None
        with self._asking():
            gpu.synchronize()  # whose context is the thread's from then on: NCCL asks for it
            unique = broadcast(bytes(core.get_unique_id()) if rank == 0 else None)
            config = core.NCCLConfig(blocking=False)
            self._communicator = core.Communicator.init(size, rank, core.UniqueId.from_bytes(unique), config)
        self._wait(self._is_settled)

    def sum_pieces(self, addends: Addends, layout: Sequence[Sequence[Node]], shards: int) -> None:
        """Write the sums of what the processes have by ``layout``; wait until they are there."""
        parts = Parts(self._rank, self._size, layout, shards)
        for number in range(addends.count):
            while not addends.is_ready(number):
                addends.wait(number, LOOK_SECONDS)
            self._sum(parts, addends.nodes(number), addends.out(number))
        is_done = self._gpu.mark()
        self._wait(lambda: self._is_settled() and is_done())

    def _sum(self, parts: Parts, nodes: dict[Node, Array], out: Array) -> None:
        lengths = parts.lengths(out.size)
        own = lengths[self._rank]
        together = self._backend.empty((sum(parts.counts) * own,), out.dtype)
        received = [together[i * own : (i + 1) * own] for i in range(sum(parts.counts))]
        coming = iter(received)
        with self._asking(), self._core.group():
            for peer, arrays in enumerate(parts.sent(nodes, lengths)):
                for array in arrays if lengths[peer] else ():
                    self._communicator.send(_Buffer(array), peer, stream=self._gpu.stream)
                for _ in range(parts.counts[peer] if own else 0):
                    self._communicator.recv(_Buffer(next(coming)), peer, stream=self._gpu.stream)
        self._wait(self._is_settled)
        self._all_gather(parts.total(received, self._add), lengths, out)

    def _add(self, left: Array, right: Array) -> Array:
        self._backend.accumulate(left, right)
        return left

    def _all_gather(self, total: Array, lengths: Sequence[int], out: Array) -> None:
        longest = lengths[0]
        if lengths[self._rank] < longest:  # parts have to be alike
            part, total = total, self._backend.empty((longest,), out.dtype)
            self._backend.assign(total[: len(part)], part)
        whole = out if longest * self._size == out.size else self._backend.empty((longest * self._size,), out.dtype)
        with self._asking():
            self._communicator.allgather(_Buffer(total), _Buffer(whole), stream=self._gpu.stream)
        self._wait(self._is_settled)
        if whole is not out:
            self._backend.assign(out, whole[: out.size])

    def abort(self) -> None:
        """End what is under way, here; nothing can be exchanged afterwards."""
        if self._communicator is not None:
            self._communicator.abort()

    def _wait(self, is_done: Callable[[], bool]) -> None:
        with self._asking():
            self._until(is_done)

    def _is_settled(self) -> bool:
        """Whether what was asked for is in the stream, before which nothing else may be; connections come first."""
        result = int(self._communicator.get_async_error())
        if result not in (SUCCESS, IN_PROGRESS):
            said = f"{self._core.get_error_string(result)} {self._communicator.get_last_error()}"
            raise RuntimeError(f"NCCL: {said.strip()}")
        return result == SUCCESS

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Abort after an error: else kernels would wait for ever, and the end of the process for them."""
        try:
            yield
        except BaseException as error:
            self.abort()
            if isinstance(error, RuntimeError) or not isinstance(error, Exception):
                raise
            raise RuntimeError(f'NCCL: {error}; `distributed.init(transport="mpi")` does without it') from error


class _Buffer:
    """An array as NCCL is given it. The array's own interface waits for the device, which is of no use here."""

    def __init__(self, array: Any) -> None:
        self.array = array

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        array = self.array
        return {
            "shape": (array.size,),
            "typestr": array.dtype.str,
            "data": (array.place, False),
            "strides": None,
            "version": 3,
        }
