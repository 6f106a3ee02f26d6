"""The processes that share the work."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..ops.arguments import integer
from ..sharding import Addends, Alone, Node
from .exchange import WholeArray, sum_pieces
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

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        local_rank: the number of this process among those of its machine, from 0.
        overlap: whether a `TrainingStep` that is captured exchanges gradients while its backward pass still makes
            others, in a thread of its own; the bits are the same. True at first; the same in all processes.

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
    ) -> None:
        self._communicator = communicator
        self._exchanging = None if communicator is None else (communicator.Dup(), communicator.Dup())
        self._watch = watch
        self._first_of_machine = first_of_machine
        self.rank: int = 0 if communicator is None else communicator.Get_rank()
        self.size: int = 1 if communicator is None else communicator.Get_size()
        self.local_rank = local_rank
        self.overlap = self.size > 1

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
        for dtype in sorted({parameter.dtype for parameter in parameters}, key=str):
            some = [parameter for parameter in parameters if parameter.dtype == dtype]
            flat = np.concatenate([np.ravel(each.backend.to_numpy(each.grad)) for each in some])
            self.sum_pieces(WholeArray({(self.rank, self.rank + 1): flat}, flat), layout, self.size)
            ends = np.cumsum([each.size for each in some])
            for each, part in zip(some, np.split(flat, ends[:-1]), strict=True):
                each.grad = part.reshape(each.shape)

    def sum_pieces(self, addends: Addends, layout: Sequence[Sequence[Node]], shards: int) -> None:
        """Write the sums over all shards, for `TrainingStep`: see `numbacnn.sharding`.

        ``layout`` says which sums of shards each process has.
        """
        if self._watch is None or self._exchanging is None:
            super().sum_pieces(addends, layout, shards)
        else:
            sum_pieces(self._exchanging, self._watch, addends, layout, shards)


def _pickled(value: Any) -> np.ndarray[Any, Any]:
    # Writable, as MPI demands of what is sent, too.
    return np.frombuffer(bytearray(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)), np.uint8)
