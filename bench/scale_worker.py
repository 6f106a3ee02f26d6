"""One of the processes that ``bench.scale`` measures: it stays alive and does what it is asked in turns with others.

Requests and answers are lines of JSON through a socket of the file system, which reaches into network namespaces; a
process that waits for its turn is asleep there, in no collective, and takes no time from those that are measured.
"""

from __future__ import annotations

import argparse
import json
import pickle
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import backends, distributed, nn, optim
from numbacnn.sharding import PIECE_BYTES, Addends, Alone, Node, Ranks, WholeArray, own_shards
from numbacnn.training import TrainingStep
from numbacnn.training.accumulation import shards_of

from .train_contenders import MODELS, Task

__all__ = ["EXCHANGES", "main"]

LR = 1e-4
LONGEST_END = 15
"""Seconds that a process has to end; ranks may wait for each other when the parent and its wire have gone."""
EXCHANGES = ("overlapped", "after", "none")
"""Beside the backward pass, when it is done, and not at all."""


class _Copies(Alone):
    """Several processes that all have what this one has, which costs nothing on the way."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.length = 0
        """Bytes of what the last one gathered."""

    def gather_metrics(self, value: Any) -> list[Any]:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        every = [pickle.loads(data) for _ in range(self.size)]
        self.length = len(data)
        return [dict(zip([(rank, rank + 1)], few.values(), strict=True)) for rank, few in enumerate(every)]

    def sum_pieces(self, addends: Addends, layout: Sequence[Sequence[Node]], shards: int) -> None:
        """One of the addends: it is the other sums that are measured."""
        for number in range(addends.count):
            (own,) = addends.nodes(number).values()
            addends.backend(number).assign(addends.out(number), own)


class Work:
    """What the process can be asked for, by the name of a method; each answers with something for JSON."""

    def __init__(self) -> None:
        self.group = distributed.init()
        self._model: nn.Layer | None = None
        self._steps: dict[tuple[int | None, bool], Callable[[], None]] = {}

    def prepare(self, model: str, samples: int) -> None:
        """Have this network and no other, and a batch of ``samples`` images for all ranks."""
        self.forget()
        task = Task(MODELS[model], samples, samples)
        self._model, dataset = task.network().train(), task.dataset()
        self._x, self._y = np.asarray(dataset.images, np.float32) / 255, dataset.labels

    def forget(self) -> None:
        """Let the network go."""
        self._model, self._steps = None, {}

    def step(self, shards: int | None, exchange: str, times: int = 1, warm: bool = False) -> float:
        """Seconds of a training step, of as many in a row; they begin in all ranks at once.

        Args:
            shards: of the whole batch; None for one that stays whole, in each rank.
            exchange: one of EXCHANGES; without any a rank computes its shards, and these alone.
            times: how many steps.
            warm: whether one that is not timed comes first.
        """
        run = self._step(shards, exchange)
        if warm:
            run()
        self.group.barrier()
        begin = time.perf_counter()
        for _ in range(times):
            run()
        return (time.perf_counter() - begin) / times

    def _step(self, shards: int | None, exchange: str) -> Callable[[], None]:
        self.group.overlap = exchange == "overlapped"
        key = shards, exchange == "none"
        if key not in self._steps:
            self._steps[key] = self._new_step(shards, None if exchange == "none" else self.group)
        return self._steps[key]

    def _new_step(self, shards: int | None, group: Ranks | None, own: range | None = None) -> Callable[[], None]:
        assert self._model is not None
        optimizer = optim.SGD(self._model.parameters(), LR)
        step = TrainingStep(self._model, nn.CrossEntropyLoss(), optimizer, shards=shards, group=group)
        x, y = self._x, self._y
        if shards is None:
            return lambda: step(x, y)
        own = own_shards(shards, self.group.rank, self.group.size) if own is None else own
        batch = shards_of(x, y, shards, own, self._model.backend)
        return lambda: step(batch)

    def exchange(self, size: int, times: int) -> float:
        """Seconds in which ranks add up arrays of ``size`` bytes, of as many times in a row."""
        layout: list[list[Node]] = [[(rank, rank + 1)] for rank in range(self.group.size)]
        array, node = np.zeros(size // 4, np.float32), layout[self.group.rank][0]
        backend = backends.get("cpu")
        piece = self.group.piece_bytes([backend])
        self.group.barrier()
        begin = time.perf_counter()
        for _ in range(times):
            self.group.sum_pieces(WholeArray(backend, {node: array}, array, piece), layout, self.group.size)
        return (time.perf_counter() - begin) / times

    def pack(self, size: int, times: int) -> float:
        """Seconds in which a rank copies an array of ``size`` bytes piece by piece and adds each to another one."""
        array, piece = np.zeros(size // 4, np.float32), PIECE_BYTES // 4
        begin = time.perf_counter()
        for _ in range(times):
            for start in range(0, array.size, piece):
                part = array[start : start + piece]
                copied = np.concatenate([part])
                np.add(copied, part, out=copied)
        return (time.perf_counter() - begin) / times

    def figures(self, ranks: int) -> tuple[float, int]:
        """Seconds of a step with one image and the figures of as many ranks; bytes of those of one."""
        copies = _Copies(ranks)
        run = self._new_step(ranks, copies, range(1))
        run()
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin, copies.length

    def layers(self, samples: int) -> dict[str, Any]:
        """Of a step with so many images: ``forward`` and ``update``, the seconds before and after the backward pass.

        ``backward`` has the seconds from one layer with parameters to the next, from the last layer on, and ``bytes``
        those of its gradients; running averages, which go the same way, are with the first layer's.
        """
        assert self._model is not None
        found = nc.profile(self._model, (samples, *self._x.shape[1:]), training=True, rounds=3)
        sizes: dict[str, int] = {}
        for name, parameter in self._model.named_parameters():
            layer = name.rpartition(".")[0]
            sizes[layer] = sizes.get(layer, 0) + 4 * parameter.size
        backward, gradients, since = [], [], 0.0
        for row in reversed(found.rows):
            since += row.seconds[1]
            if row.name in sizes:
                backward.append(since)
                gradients.append(sizes.pop(row.name))
                since = 0.0
        assert not sizes, f"no rows of {list(sizes)}"
        backward[-1] += since
        gradients[-1] += sum(8 * buffer.size for _, buffer in self._model.named_buffers() if buffer.dtype.kind == "f")
        forward = sum(row.seconds[0] for row in found.rows)
        update = max(0.0, found.seconds - forward - sum(backward))
        return {"forward": forward, "update": update, "backward": backward, "bytes": gradients}


def main(argv: Sequence[str] | None = None) -> int:
    """Answer until the parent closes the socket."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale_worker", description=__doc__)
    parser.add_argument("--socket", required=True, help="the path of the parent's socket")
    arguments = parser.parse_args(argv)
    work = Work()
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(arguments.socket)
        with connection.makefile("w", encoding="utf-8") as answers:

            def answer(value: Any) -> None:
                answers.write(json.dumps(value) + "\n")
                answers.flush()

            answer(work.group.rank)
            threading.Thread(target=_read, args=(connection, requests), daemon=True).start()
            while (line := requests.get()) is not None:
                what, options = json.loads(line)
                answer(getattr(work, what)(**options))
    return 0


def _read(connection: socket.socket, requests: queue.SimpleQueue[str | None]) -> None:
    """Requests until there is no parent any more, after which the process ends soon, whatever it waits for."""
    try:
        with connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                requests.put(line)
    finally:
        signal.alarm(LONGEST_END)
        requests.put(None)


if __name__ == "__main__":
    sys.exit(main())
