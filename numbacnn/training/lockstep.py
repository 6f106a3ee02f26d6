"""The shards of a batch side by side, for layers that need what all of them have, as `SyncBatchNorm` does.

Each shard of a process runs in a thread of its own, one at a time: until it asks for a sum over all shards, of every
process. When all have asked for it, it is formed along the tree of the shards, and they go on. What a pass leaves in
layers, parameters and sums is the shard's own meanwhile: the attributes of these objects are exchanged with each turn.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Mapping
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ..backends.numba_threads import numba_threads, set_numba_threads
from ..nn.grad_mode import enable_grad, is_grad_enabled
from ..nn.layer import Layer
from ..nn.sync_batch_norm import synchronized
from ..sharding import Alone, Node, Ranks, add_up, own_nodes, own_shards, sum_of_nodes

__all__ = ["Attributes", "Lockstep"]

_T = TypeVar("_T")

THREAD = "numbacnn-shard"
"""The name of the threads that shards are computed in."""
_OVER = object()
"""Instead of a sum, where all shards have come to their end."""


class Attributes:
    """What attributes of some objects hold, to be put in the place of what they hold now.

    Args:
        objects: each once.
        values: names and values of the attributes of each; those that they have now for None.
    """

    def __init__(self, objects: Iterable[Any], values: Iterable[dict[str, Any]] | None = None) -> None:
        self._objects = list(objects)
        self._values = [vars(one) for one in self._objects] if values is None else list(values)

    def put(self) -> None:
        """Let the objects have them."""
        for one, values in zip(self._objects, self._values, strict=True):
            object.__setattr__(one, "__dict__", values)


class _Request(NamedTuple):
    """What a shard asks for: see `numbacnn.nn.sync_batch_norm.Shards.total`."""

    layer: Layer
    stage: str
    own: Callable[[], Any]
    add: Callable[[Any, Any], Any]
    finish: Callable[[Any], Any]


class _Stopped(BaseException):
    """Ends the thread of a shard that is not needed any more, and is no error that layers would say more about."""


class _Strand(Generic[_T]):
    """Work that goes on in a thread of its own only while whoever resumes it waits."""

    def __init__(self, work: Callable[[], _T], attributes: Attributes) -> None:
        self.attributes = attributes
        self.result: _T
        self._work = work
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._requests: SimpleQueue[tuple[_Request | None, BaseException | None]] = SimpleQueue()
        self._is_stopped = False
        circumstances = np.geterr(), is_grad_enabled(), numba_threads()
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run, *circumstances), name=THREAD, daemon=True)

    def resume(self, answer: Any) -> _Request | None:
        """Let it go on with what it has asked for, to its next request; None at its end. Raises what it raises."""
        self.attributes.put()
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._answers.put(answer)
        request, error = self._requests.get()
        if error is not None:
            try:
                raise error
            finally:
                del error  # which has this frame
        return request

    def ask(self, request: _Request) -> Any:
        """In the thread: wait until it is resumed."""
        if not self._is_stopped:
            self._requests.put((request, None))
            answer = self._answers.get()
        if self._is_stopped:
            raise _Stopped
        return answer

    def stop(self) -> None:
        """End it, wherever it is."""
        if self._thread.ident is not None:
            self._is_stopped = True
            self._answers.put(None)
            self._thread.join()

    def _run(self, errors: Any, enables_grad: bool, threads: int) -> None:
        try:
            set_numba_threads(threads)
            with np.errstate(**errors), enable_grad(enables_grad):
                self.result = self._work()
        except BaseException as error:
            self._requests.put((None, error))
        else:
            self._requests.put((None, None))


class Lockstep:
    """The shards of one batch of so many samples.

    Args:
        shards: into how many it is cut.
        ranks: the processes that share them; None for this one alone.
        samples: of the whole batch.
        model: whose layers ask.
    """

    def __init__(self, shards: int, ranks: Ranks | None, samples: int, model: Layer) -> None:
        self._shards = shards
        self._ranks = Alone() if ranks is None else ranks
        self._nodes = own_nodes(shards, own_shards(shards, self._ranks.rank, self._ranks.size), samples)
        self._names = {id(layer): name for name, layer in model.named_layers()}
        self._number = 0
        self._strand: _Strand[Any] | None = None
        """What is resumed; None where the only shard of this process runs in the caller's thread."""

    def run(self, work: Mapping[int, tuple[Callable[[], _T], Attributes]]) -> dict[int, _T]:
        """What the work of each shard of this process returns, done with these attributes.

        The first one has those that are there, and all are as it leaves them afterwards. Raises what any of them
        raises, when all have ended.
        """
        if len(work) > 1:
            return self._run_in_turn({number: _Strand(self._within(each), own) for number, (each, own) in work.items()})
        results = {}
        for self._number, (each, _) in work.items():
            results[self._number] = self._within(each)()
        while self._meet(dict.fromkeys(work)) is not _OVER:
            pass
        return results

    def total(
        self,
        layer: Layer,
        stage: str,
        own: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        finish: Callable[[Any], Any],
    ) -> Any:
        """See `numbacnn.nn.sync_batch_norm.Shards`."""
        request = _Request(layer, stage, own, add, finish)
        return self._meet({self._number: request}) if self._strand is None else self._strand.ask(request)

    def _within(self, work: Callable[[], _T]) -> Callable[[], _T]:
        def run() -> _T:
            with synchronized(self):
                return work()

        return run

    def _run_in_turn(self, strands: dict[int, _Strand[_T]]) -> dict[int, _T]:
        first, *_ = strands.values()
        answer: Any = None
        try:
            while answer is not _OVER:
                requests = {}
                for number, self._strand in strands.items():
                    requests[number] = self._strand.resume(answer)
                answer = self._meet(requests)
        finally:
            # After Ctrl-C it may still run, with the attributes that are there.
            if self._strand is not None:
                self._strand.stop()
            for strand in strands.values():
                strand.attributes.put()
                strand.stop()
            first.attributes.put()
        return {number: strand.result for number, strand in strands.items()}

    def _meet(self, requests: Mapping[int, _Request | None]) -> Any:
        """What is made of the sum that all shards ask for, these of this process; `_OVER` if they ask for no more.

        Processes without a shard that has samples are there, too, and get None.
        """
        places = {number: self._place(request) for number, request in requests.items()}
        request = next(iter(requests.values()), None)
        sums: dict[Node, Any] = {}
        if request is not None and len(set(places.values())) == 1:

            def own(number: int) -> Any:
                asked = requests.get(number)
                return None if asked is None else asked.own()

            sums = {node: add_up(node, own, request.add) for node in self._nodes}
        for others, found in self._ranks.gather_metrics((places, sums)):
            places.update(others)
            sums.update(found)
        if len(set(places.values())) > 1:
            raise RuntimeError(
                f"the shards of a batch must come to the same layers, but came to {_listed(places)}; whether a layer "
                "is run must not depend on samples where a SyncBatchNorm waits for all of them"
            )
        if not any(places.values()):
            return _OVER
        return None if request is None else request.finish(sum_of_nodes(sums, self._shards, request.add))

    def _place(self, request: _Request | None) -> str:
        """Where a shard is, in words; "" is its end."""
        return "" if request is None else f"the {request.stage} pass of {self._names.get(id(request.layer))!r}"


def _listed(places: Mapping[int, str]) -> str:
    """Each place, with the first shard that is there."""
    shown: dict[str, int] = {}
    for number in sorted(places):
        shown.setdefault(places[number], number)
    return " and ".join(f"{place or 'the end'} in shard {number}" for place, number in shown.items())
