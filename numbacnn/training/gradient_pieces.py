"""The gradients of a shard while its backward pass goes on: which of them are there, to be summed over all processes.

A backward pass goes from the last layer to the first. Cut into pieces, gradients leave in that order, in every process
the same, each piece as soon as nothing is added to it any more. When that is, a captured pass knows: it does the same
each time.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..backends import Array, Backend
from ..nn.grad_mode import telling_accumulated
from ..nn.layer import Layer
from ..nn.state import Parameter
from ..sharding import Node

if TYPE_CHECKING:
    from ..optim import Optimizer

__all__ = ["BackwardOrder", "BackwardProgress", "GradientPieces", "Piece", "cut_gradients"]

OnBackend = list[tuple[Backend, Array]]


class BackwardOrder:
    """In what order a backward pass adds to gradients, known when it is over."""

    def __init__(self) -> None:
        self.is_complete = False
        self.count = 0
        self.last: dict[Parameter, int] = {}
        """The number of the last addition to each."""


class BackwardProgress:
    """Tells how far backward passes are: whoever listens gets the order of the pass, and the number of an addition."""

    def __init__(self) -> None:
        self._listener: Callable[[BackwardOrder, int], None] | None = None

    @contextmanager
    def watched(self, backend: Backend) -> Iterator[None]:
        """The backward pass in the block tells, and a launch of it, if it is being captured."""
        order = BackwardOrder()

        def note(parameter: Parameter) -> None:
            order.last[parameter] = order.count
            backend.call_host(functools.partial(self._tell, order, order.count))
            order.count += 1

        with telling_accumulated(note):
            yield
        order.is_complete = True

    @contextmanager
    def told_to(self, listener: Callable[[BackwardOrder, int], None] | None) -> Iterator[None]:
        """Passes in the block are told of to ``listener``."""
        self._listener = listener
        try:
            yield
        finally:
            self._listener = None

    def _tell(self, order: BackwardOrder, number: int) -> None:
        if self._listener is not None:
            self._listener(order, number)


class Piece(NamedTuple):
    """A part of one of an optimizer's flat gradients."""

    array: int
    place: slice
    parameters: tuple[Parameter, ...]


def cut_gradients(model: Layer, optimizer: Optimizer, piece_bytes: int) -> list[Piece]:
    """An optimizer's gradients in pieces of so many bytes, those of the last parameters of the model first."""
    positions = {parameter: i for i, parameter in enumerate(model.parameters())}
    found: list[tuple[int, Piece]] = []
    flats = zip(optimizer.flat_gradients(), optimizer.gradient_places(), strict=True)
    for number, ((_, gradient), places) in enumerate(flats):
        size = max(1, piece_bytes // gradient.dtype.itemsize)
        for start in range(0, gradient.size, size):
            piece = slice(start, min(start + size, gradient.size))
            inside = [each for place, each in places if place.start < piece.stop and piece.start < place.stop]
            first = min((positions.get(parameter, -1) for parameter in inside), default=-1)
            found.append((first, Piece(number, piece, tuple(inside))))
    return [piece for _, piece in sorted(found, key=lambda each: (-each[0], each[1].array, -each[1].place.start))]


class GradientPieces:
    """The gradients of one batch, as `numbacnn.sharding.Addends`.

    Args:
        pieces: what :func:`cut_gradients` gave.
        gradients: of the optimizer, where a shard's gradients are made and the sums of all go.
        complete: the sums that the process has of whole nodes.
        last: the node whose last shard is still to be computed, into ``gradients``; None where there is none.
        ahead: what that shard is added to, the largest node first.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        gradients: OnBackend,
        complete: dict[Node, OnBackend],
        last: Node | None = None,
        ahead: Sequence[OnBackend] = (),
    ) -> None:
        self._pieces = pieces
        self._gradients = gradients
        self._complete = complete
        self._last = last
        self._ahead = ahead
        self._condition = threading.Condition()
        self._ready = 0
        self._failed = False
        self._needs: tuple[BackwardOrder | None, list[float]] = (None, [])

    def reached(self, order: BackwardOrder, number: int) -> None:
        """A backward pass has done an addition to a gradient."""
        if not order.is_complete:
            return
        if self._needs[0] is not order:
            # What nothing was added to is zero, at the latest when all is done.
            needs = [
                max((order.last.get(each, np.inf) for each in piece.parameters), default=0) for piece in self._pieces
            ]
            self._needs = order, needs
        needs, ready = self._needs[1], self._ready
        while ready < len(needs) and needs[ready] <= number:
            ready += 1
        if ready > self._ready:
            self._set_ready(ready)

    def finish(self) -> None:
        """All gradients are there."""
        self._set_ready(len(self._pieces))

    def fail(self) -> None:
        """There will be no more."""
        self._failed = True
        self._set_ready(self._ready)

    def _set_ready(self, ready: int) -> None:
        with self._condition:
            self._ready = ready
            self._condition.notify_all()

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self._pieces)

    def backend(self, number: int) -> Backend:
        """That of the gradients of a piece."""
        return self._gradients[self._pieces[number].array][0]

    def is_ready(self, number: int) -> bool:
        """Whether the gradients of a piece are there; RuntimeError if they never will be."""
        if self._failed:
            raise RuntimeError("the backward pass has failed")
        return number < self._ready

    def wait(self, number: int, seconds: float) -> None:
        """Until they are, or as long as that."""
        with self._condition:
            self._condition.wait_for(lambda: self._failed or number < self._ready, seconds)

    def nodes(self, number: int) -> dict[Node, Any]:
        """The sums that this process has of a piece."""
        array, place, _ = self._pieces[number]
        found = {node: gradients[array][1][place] for node, gradients in self._complete.items()}
        if self._last is not None:
            backend, gradient = self._gradients[array]
            total = gradient[place]
            for gradients in reversed(self._ahead):
                left = gradients[array][1][place]
                if isinstance(left, np.ndarray):
                    np.add(left, total, out=left)  # not by the threads that the backward pass runs on
                else:
                    backend.accumulate(left, total)
                total = left
            found[self._last] = total
        return found

    def out(self, number: int) -> Any:
        """Where the sum over all processes goes."""
        array, place, _ = self._pieces[number]
        return self._gradients[array][1][place]
