"""The processes that share the work."""

from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..backends import Backend
from ..ops.arguments import integer
from ..sharding import Addends, Alone, Node, WholeArray
from . import nccl
from .exchange import OverMpi, Transport
from .shared_arrays import share

if TYPE_CHECKING:
    from ..nn.state import Parameter
    from .endings import Watch

__all__ = ["Group"]

_T = TypeVar("_T")


SHORT_BYTES = 4096
"""Of a message that goes to all without asking how long it is."""


class Group(Alone):
    """Processes of one program that train together; :func:`init` makes it.

    What all of them have to call, in the same order, are :meth:`share`, :meth:`broadcast`, :meth:`sum_gradients`,
    :meth:`gather_metrics` and :meth:`barrier`; in a group of one they do nothing. A process that waits for others gives
    the processor away, and RuntimeError ends it where one of them has left.

    Gradients go from process to process in pieces of 1 MiB, four at a time. Beside its gradients, see `TrainingStep`, a
    process of a group of r holds at most 4 MiB for each sum that it brings, and 4 MiB / r for each of those of all.
    Over NCCL pieces are of 32 MiB, of which a process holds what it has of the sums of all, and one more at most.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        local_rank: the number of this process among those of its machine, from 0.
        overlap: whether a `TrainingStep` that is captured exchanges gradients while its backward pass still makes
            others, in a thread of its own; the bits are the same. True at first where processes are on several
            machines: within one there is nothing to wait for, and the exchange is work for the same cores. The same in
            all processes.
        transport: by what gradients went the last time, ``"mpi"`` or ``"nccl"``; None before the first time, and in a
            group of one.

    Example:
        >>> group = Group()
        >>> group, group.gather_metrics(0.5)
        (Group(rank=0, size=1), [0.5])
    """

    def __init__(
        self,
        communicator: Any = None,
        watch: Watch | None = None,
        local_rank: int = 0,
        first_of_machine: int = 0,
        spans_machines: bool = False,
        asked_transport: str | None = None,
    ) -> None:
        self._communicator = communicator
        self._over_mpi = None
        if watch is not None:
            self._over_mpi = OverMpi((communicator.Dup(), communicator.Dup()), watch)
        self._watch = watch
        self._first_of_machine = first_of_machine
        self.rank: int = 0 if communicator is None else communicator.Get_rank()
        self.size: int = 1 if communicator is None else communicator.Get_size()
        self.local_rank = local_rank
        self.overlap = spans_machines
        self._asked_transport = asked_transport
        self._transports: dict[bool, Transport] = {}
        self.transport: str | None = None

    def __repr__(self) -> str:
        return f"Group(rank={self.rank}, size={self.size})"

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self._watch is not None:
            self._watch.wait(self._communicator.Ibarrier())

    def first_has_ended(self, within: float) -> bool:
        """Whether the first process has ended, or does within so many seconds."""
        return self._watch is not None and self._watch.has_left(0, within)

    def share(self, function: Callable[[], _T]) -> _T:
        """What ``function`` returns, with one copy of its NumPy arrays in the memory of each machine.

        The first process of each machine calls it, that of rank 0 before the others, and all processes of the machine
        get what it returns: data sets, lists of them, or anything that can be pickled. The arrays may be written to, as
        any others; what a process changes is its own. While they are made ready there are two copies, in the first
        process. Where processes cannot have memory in common, as elsewhere than on Linux, the others call
        ``function`` as well, when the first are done.

        An error of ``function`` is raised in all processes. TypeError for a result that cannot be pickled.

        Example:
            >>> from numbacnn import data
            >>> train, test = Group().share(lambda: [data.shapes(split, 64) for split in ("train", "test")])
            >>> len(train)
            64
        """
        return function() if self._watch is None else share(self, self._first_of_machine, function)

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """The value that process ``root`` gives, in all of them: anything that can be pickled.

        Those of the others do not matter. ValueError for a number that no process has.
        """
        root = integer("root", root, 0, self.size - 1)
        if self._watch is None:
            return value
        data = _pickled(value) if self.rank == root else np.empty(0, np.uint8)
        length = np.array([data.size], np.int64)
        self._watch.wait(self._communicator.Ibcast(length, root))
        data = data if self.rank == root else np.empty(int(length[0]), np.uint8)
        self._watch.wait(self._communicator.Ibcast(data, root))
        return value if self.rank == root else pickle.loads(data.tobytes())

    def gather_metrics(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks, in all of them: anything that can be pickled.

        Sums over this list are the same in each process. ``value`` itself is not in it, but a copy.
        """
        if self._watch is None:
            return [value]
        data = _pickled(value)
        # What is short, as it is in each step, needs one round: its length stands before it.
        head = np.zeros(SHORT_BYTES, np.uint8)
        head[:8].view(np.int64)[0] = data.size
        if data.size <= SHORT_BYTES - 8:
            head[8 : 8 + data.size] = data
        heads = np.empty((self.size, SHORT_BYTES), np.uint8)
        self._watch.wait(self._communicator.Iallgather(head, heads))
        lengths = heads[:, :8].copy().view(np.int64)[:, 0]
        if lengths.max() <= SHORT_BYTES - 8:
            return [pickle.loads(each[8 : 8 + length].tobytes()) for each, length in zip(heads, lengths, strict=True)]
        ends = np.cumsum(lengths)
        every = np.empty(int(ends[-1]), np.uint8)
        starts = ends - lengths
        self._watch.wait(self._communicator.Iallgatherv(data, [every, (lengths.tolist(), starts.tolist())]))
        return [
            pickle.loads(every[start:end].tobytes()) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Have the sum over all processes in ``grad`` of each of these parameters, which are in all in the same order.

        For steps of one's own: `TrainingStep` does it itself. The sum is formed along one tree over the ranks, so that
        it is the same again and again, but it is that of so many parts of the batch as there are processes, and
        another number of them gives other last bits. Frozen parameters are left out.
        """
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        if self._watch is None:
            return
        layout: list[list[Node]] = [[(rank, rank + 1)] for rank in range(self.size)]
        alike: dict[tuple[str, str], list[Parameter]] = {}
        for parameter in parameters:
            alike.setdefault((parameter.dtype.str, parameter.backend.name), []).append(parameter)
        for _, some in sorted(alike.items()):
            backend, ends = some[0].backend, np.cumsum([0, *(each.size for each in some)]).tolist()
            flat = backend.empty((ends[-1],), some[0].dtype)
            parts = [flat[start:end] for start, end in pairwise(ends)]
            for each, part in zip(some, parts, strict=True):
                backend.assign(part, backend.reshape(each.grad, (each.size,)))
            nodes: dict[Node, Any] = {(self.rank, self.rank + 1): flat}
            self.sum_pieces(WholeArray(backend, nodes, flat, self.piece_bytes([backend])), layout, self.size)
            for each, part in zip(some, parts, strict=True):
                each.grad = backend.reshape(part, each.shape)

    def piece_bytes(self, backends: Iterable[Backend]) -> int:
        """In pieces of how many bytes arrays of these backends are summed, for `TrainingStep`."""
        return super().piece_bytes(backends) if self._watch is None else self._transport_of(backends).piece_bytes

    def sum_pieces(self, addends: Addends, layout: Sequence[Sequence[Node]], shards: int) -> None:
        """Write the sums over all shards, for `TrainingStep`: see `numbacnn.sharding`.

        ``layout`` says which sums of shards each process has.
        """
        if self._watch is None:
            super().sum_pieces(addends, layout, shards)
            return
        transport = self._transport_of(map(addends.backend, range(addends.count)))
        self.transport = transport.name
        transport.sum_pieces(addends, layout, shards)

    def _transport_of(self, backends: Iterable[Backend]) -> Transport:
        """By what arrays of these backends go: the processes find out together, when the first are to go."""
        assert self._over_mpi is not None
        on = {backend.name: backend for backend in backends}
        if not on:
            return self._over_mpi
        on_gpu = on.keys() == {"cuda"}
        if on_gpu not in self._transports:
            self._transports[on_gpu] = self._new_transport(on)
        return self._transports[on_gpu]

    def _new_transport(self, on: dict[str, Backend]) -> Transport:
        assert self._watch is not None and self._over_mpi is not None
        refusal = 'transport "mpi" was asked for' if self._asked_transport == "mpi" else nccl.refusal({*on})
        gpu = nccl.used_gpu() if refusal is None else None
        every = self.gather_metrics((refusal, gpu and gpu.uuid))
        refusal = next((f"rank {rank}: {each}" for rank, (each, _) in enumerate(every) if each is not None), None)
        gpus = len({uuid for _, uuid in every})
        if refusal is None and gpus < self.size:
            refusal = f"{self.size} processes have {gpus} GPU{'s' * (gpus > 1)}, each must have its own"
        if refusal is None:
            until = functools.partial(self._watch.until, busy_seconds=math.inf)
            (backend,) = on.values()
            transport = nccl.OverNccl(self.rank, self.size, backend, gpu, self.broadcast, until)
            self._watch.when_all_have_left(transport.abort)
            return transport
        if self._asked_transport == "nccl":
            raise RuntimeError(f"transport 'nccl' cannot be used: {refusal}")
        return self._over_mpi


def _pickled(value: Any) -> np.ndarray[Any, Any]:
    # Writable, as MPI demands of what is sent, too.
    return np.frombuffer(bytearray(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)), np.uint8)
