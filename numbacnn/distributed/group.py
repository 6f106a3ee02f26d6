"""The processes that share the work."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Backend
from ..ops.arguments import integer
from ..sharding import Alone, Node
from . import nccl
from .exchange import OverMpi, Transport, sum_nodes

if TYPE_CHECKING:
    from ..nn.state import Parameter
    from .endings import Watch

__all__ = ["Group"]


class Group(Alone):
    """Processes of one program that train together; :func:`init` makes it.

    What all of them have to call, in the same order, are :meth:`broadcast`, :meth:`sum_gradients`,
    :meth:`gather_metrics` and :meth:`barrier`; in a group of one they do nothing. A process that waits for others gives
    the processor away, and RuntimeError ends it where one of them has left.

    Gradients go from process to process in pieces of 4 MiB. Beside its gradients, see `TrainingStep`, a process of a
    group of r holds at most 4 MiB for each sum that it brings, and 4 MiB / r for each of those of all. Over NCCL, from
    GPU to GPU, pieces are of 32 MiB, of which a process holds what it has of the sums of all, and one more at most.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        local_rank: the number of this process among those of its machine, from 0.
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
        asked_transport: str | None = None,
    ) -> None:
        self._communicator = communicator
        self._watch = watch
        self._asked_transport = asked_transport
        self._transports: dict[bool, Transport] = {}
        self.transport: str | None = None
        self.rank: int = 0 if communicator is None else communicator.Get_rank()
        self.size: int = 1 if communicator is None else communicator.Get_size()
        self.local_rank = local_rank

    def __repr__(self) -> str:
        return f"Group(rank={self.rank}, size={self.size})"

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self._watch is not None:
            self._watch.wait(self._communicator.Ibarrier())

    def first_has_ended(self, within: float) -> bool:
        """Whether the first process has ended, or does within so many seconds."""
        return self._watch is not None and self._watch.has_left(0, within)

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
        lengths = np.empty(self.size, np.int64)
        self._watch.wait(self._communicator.Iallgather(np.array([data.size], np.int64), lengths))
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
            alike.setdefault((str(parameter.dtype), parameter.backend.name), []).append(parameter)
        for _, some in sorted(alike.items()):
            backend, ends = some[0].backend, np.cumsum([0, *(each.size for each in some)]).tolist()
            flat = backend.empty((ends[-1],), some[0].dtype)
            parts = [flat[start:end] for start, end in pairwise(ends)]
            for each, part in zip(some, parts, strict=True):
                backend.assign(part, backend.reshape(each.grad, (each.size,)))
            self.sum_nodes(backend, {(self.rank, self.rank + 1): flat}, layout, self.size, flat)
            for each, part in zip(some, parts, strict=True):
                each.grad = backend.reshape(part, each.shape)

    def sum_nodes(
        self, backend: Backend, nodes: dict[Node, Any], layout: Sequence[Sequence[Node]], shards: int, out: Any
    ) -> None:
        """Write into ``out`` (n,) the sum over all shards, for `TrainingStep`: see `numbacnn.sharding`.

        ``nodes`` are the sums of shards that this process has, flat arrays of ``backend`` like ``out``, one of which
        may be it; ``layout`` says which each process has.
        """
        if self._watch is None:
            super().sum_nodes(backend, nodes, layout, shards, out)
            return
        transport = self._transport_of(backend)
        self.transport = transport.name
        if transport.name == "nccl":
            sum_nodes(transport, nodes, layout, shards, out)
            return
        host = {node: backend.to_numpy(array) for node, array in nodes.items()}
        target = out if isinstance(out, np.ndarray) else np.empty(out.shape, out.dtype)
        sum_nodes(transport, host, layout, shards, target)
        if target is not out:
            backend.assign(out, backend.asarray(target))

    def _transport_of(self, backend: Backend) -> Transport:
        """By what arrays of a backend go: the processes find out together, when the first one is to go."""
        on_gpu = backend.name == "cuda"
        if on_gpu not in self._transports:
            self._transports[on_gpu] = self._new_transport(backend)
        return self._transports[on_gpu]

    def _new_transport(self, backend: Backend) -> Transport:
        assert self._watch is not None
        refusal = 'transport "mpi" was asked for' if self._asked_transport == "mpi" else nccl.refusal(backend)
        gpu = nccl.gpu_of(backend) if refusal is None else None
        every = self.gather_metrics((refusal, gpu and gpu.uuid))
        refusal = next((f"rank {rank}: {each}" for rank, (each, _) in enumerate(every) if each is not None), None)
        if refusal is None and len({uuid for _, uuid in every}) < self.size:
            refusal = f"{self.size} processes have {len({uuid for _, uuid in every})} GPUs, each must have its own"
        if refusal is None:
            transport = nccl.OverNccl(self.rank, self.size, backend, gpu, self.broadcast, self._watch.wait_until)
            self._watch.when_all_have_left(transport.abort)
            return transport
        if self._asked_transport == "nccl":
            raise RuntimeError(f"transport 'nccl' cannot be used: {refusal}")
        return OverMpi(self._communicator, self._watch.wait)


def _pickled(value: Any) -> np.ndarray[Any, Any]:
    # Writable, as MPI demands of what is sent, too.
    return np.frombuffer(bytearray(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)), np.uint8)
