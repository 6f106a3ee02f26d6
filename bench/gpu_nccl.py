"""Gradients that go by NCCL have the bits of one process: ``python -m bench.gpu_nccl``; exit code 77 where it cannot.

With one GPU, a communicator of one process does the work. With several, two processes do it as well, each on a GPU of
its own, and then one of them leaves while the other waits for it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import backends, distributed, models, nn, optim
from numbacnn.backends import Backend, cuda_support
from numbacnn.distributed import nccl
from numbacnn.distributed.run import mpiexec_of
from numbacnn.sharding import WholeArray, own_shards, sum_of_nodes
from numbacnn.training import TrainingStep

from .command import UserError, WrongResultError, exit_code, say

__all__ = ["SKIPPED", "main"]

SKIPPED = 77
"""The exit code where a package is missing."""
SIZES = (1, 1031, 9_000_000)
"""Of arrays; the last one is sent in two pieces."""
SHARDS, STEPS, BATCH = 8, 3, 64
SECONDS = 120
ROOT = Path(__file__).parents[1]
LEFT = "rank 1 has ended, and this process waits for it"

SumPieces = Callable[..., None]
Batches = list[tuple[Any, Any]]
Train = Callable[[nn.Sequential, nn.Loss, optim.Optimizer, Batches], None]


def values(number: int, n: int, dtype: Any) -> Any:
    """Of all magnitudes, so that their sum depends on the order."""
    rng = np.random.default_rng([number, n])
    return (rng.standard_normal(n) * 10.0 ** rng.integers(-6, 6, n)).astype(dtype)


def check_sums(rank: int, size: int, backend: Backend, sum_pieces: SumPieces, sizes: Sequence[int] = SIZES) -> None:
    """The sums of as many arrays as there are shards have the bits of the same sums on the host."""
    layout = [[(shard, shard + 1) for shard in own_shards(SHARDS, each, size)] for each in range(size)]
    for n in sizes:
        for dtype in (np.float32, np.float64):
            every = {node: values(node[0], n, dtype) for theirs in layout for node in theirs}
            expected = sum_of_nodes(every, SHARDS, lambda left, right: left + right)
            nodes, out = {node: backend.asarray(every[node]) for node in layout[rank]}, backend.empty((n,), dtype)
            sum_pieces(WholeArray(backend, nodes, out, nccl.PIECE_BYTES), layout, SHARDS)
            if backend.to_numpy(out).tobytes() != expected.tobytes():
                raise WrongResultError(f"rank {rank}: the sum of {n} {np.dtype(dtype)} has other bits")
    say(f"rank {rank} of {size}: sums: right")


def trained(backend: Backend, train: Train) -> bytes:
    """LeNet's weights after some steps."""
    rng = np.random.default_rng(0)
    nc.manual_seed(0)
    with nc.use_backend(backend.name):
        model = models.lenet()
    optimizer = optim.SGD(model.parameters(), 0.05, momentum=0.9)
    batches = [(rng.random((BATCH, 1, 28, 28), np.float32), rng.integers(0, 10, BATCH)) for _ in range(STEPS)]
    train(model, nn.CrossEntropyLoss(), optimizer, batches)
    return b"".join(np.asarray(value).tobytes() for value in model.state_dict().values())


def check_training(rank: int, size: int, found: bytes, expected: bytes) -> None:
    """The weights are those of one process."""
    if found != expected:
        raise WrongResultError(f"rank {rank}: the weights have other bits than those of one process")
    say(f"rank {rank} of {size}: training: right")


def by_hand(backend: Backend, transport: nccl.OverNccl | None) -> bytes:
    """Weights of steps whose gradients go through a communicator of one process, or nowhere."""

    def train(model: nn.Sequential, loss: nn.Loss, optimizer: optim.Optimizer, batches: Batches) -> None:
        for x, y in batches:
            optimizer.zero_grad()
            loss.forward(model(x), y)
            model.backward(loss.backward(), input_gradient=False)
            for on, flat in optimizer.flat_gradients():
                if transport is not None:
                    transport.sum_pieces(WholeArray(on, {(0, 1): flat}, flat, transport.piece_bytes), [[(0, 1)]], 1)
            optimizer.step()

    return trained(backend, train)


def in_shards(backend: Backend, group: distributed.Group | None) -> bytes:
    """Weights of steps that the processes of a group share."""

    def train(model: nn.Sequential, loss: nn.Loss, optimizer: optim.Optimizer, batches: Batches) -> None:
        step = TrainingStep(model, loss, optimizer, shards=SHARDS, group=group)
        for x, y in batches:
            step(x, y)

    return trained(backend, train)


def one_process(backend: Backend, gpu: Any, sizes: Sequence[int] = SIZES) -> None:
    """All of it by a communicator of one process."""

    def until(is_done: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not is_done():
            if time.monotonic() > end:
                raise WrongResultError(f"NCCL does not end within {SECONDS} s")

    transport = nccl.OverNccl(0, 1, backend, gpu, lambda value: value, until)
    check_sums(0, 1, backend, transport.sum_pieces, sizes)
    check_training(0, 1, by_hand(backend, transport), by_hand(backend, None))
    transport.abort()


def as_rank(backend: Backend) -> None:
    """What each of two processes does."""
    group = distributed.init(transport="nccl")
    check_sums(group.rank, group.size, backend, group.sum_pieces)
    check_training(group.rank, group.size, in_shards(backend, group), in_shards(backend, None))
    for transport in ("mpi", "nccl"):
        other = distributed.Group(group._communicator, group._watch, asked_transport=transport)
        array = backend.zeros((SIZES[-1],), np.float32)
        layout = [[(rank, rank + 1)] for rank in range(group.size)]
        begin = 0.0
        for _ in range(2):
            group.barrier()
            begin = time.perf_counter()
            whole = WholeArray(backend, {layout[group.rank][0]: array}, array, other.piece_bytes([backend]))
            other.sum_pieces(whole, layout, group.size)
        if group.rank == 0:
            say(f"{array.nbytes / 1e6:.0f} MB over {other.transport}: {1e3 * (time.perf_counter() - begin):.2f} ms")


def as_one_that_leaves(backend: Backend) -> None:
    """The second process ends while the others wait for it on the GPU."""
    group = distributed.init(transport="nccl")
    parameter = nn.Parameter(backend.zeros((1031,), np.float32), backend.name)
    group.sum_gradients([parameter])
    if group.rank == 1:
        sys.exit(3)
    group.sum_gradients([parameter])


def start_two(way: str) -> subprocess.CompletedProcess[str]:
    """Two processes of this program."""
    command = [*mpiexec_of(None), "-n", "2", sys.executable, "-m", "bench.gpu_nccl", way]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise WrongResultError(f"two processes, {way}: they do not end within {SECONDS} s") from error


def two_processes() -> None:
    """All of it by two processes, and one that leaves the other."""
    done = start_two("rank")
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise WrongResultError(f"two processes: exit code {done.returncode}: {done.stderr[-4000:]}")
    begin = time.monotonic()
    done = start_two("leave")
    if not done.returncode or LEFT not in done.stderr:
        raise WrongResultError(f"one of two left: exit code {done.returncode}: {done.stderr[-4000:]}")
    say(f"one of two left: the other one ended, {time.monotonic() - begin:.1f} s after the start of both")


def number_of_gpus() -> int:
    """Those that this process sees."""
    from cuda.bindings import driver

    return int(cuda_support.value(driver.cuDeviceGetCount()))


def run(argv: Sequence[str]) -> int:
    """Do what there are GPUs for; the exit code."""
    if argv:
        raise UserError(f"there are no options, and {' '.join(argv)!r} is given")
    reason = backends.available()["cuda"] or nccl.refusal({"cuda"})
    if reason is not None:
        say(reason)
        return SKIPPED
    backend, gpus = backends.get("cuda"), number_of_gpus()
    one_process(backend, nccl.used_gpu())
    if gpus == 1:
        say("there is 1 GPU: gradients went through a communicator of one process, and two were not tried")
        return 0
    if find_spec("mpi4py") is None:
        say(f"there are {gpus} GPUs, and mpi4py is missing, which starts two processes: {distributed.launch.INSTALL}")
        return SKIPPED
    two_processes()
    say(f"there are {gpus} GPUs: gradients went through a communicator of one process, and between two processes")
    return 0


WAYS = {"rank": as_rank, "leave": as_one_that_leaves}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; ``rank`` and ``leave`` are what it starts itself."""
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) == 1 and argv[0] in WAYS:
        WAYS[argv[0]](backends.get("cuda"))
        return 0
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
