"""Processes whose gradients go by NCCL's stand-in: ``python -m tests.distributed.over_nccl [leave]``, of the simulator.

With "leave" one of them ends amid the work; else the first one prints "well" if all is.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

import numbacnn as nc
from numbacnn import backends, distributed, nn, optim
from numbacnn.distributed import nccl
from numbacnn.training import TrainingStep
from tests.distributed import collectives
from tests.distributed.nccl_stand_in import Core, Gpu, Processes, install


def weights(group: distributed.Group | None) -> Any:
    """After two steps."""
    rng = np.random.default_rng(0)
    nc.manual_seed(0)
    with nc.use_backend("cuda"):
        model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3, dtype=np.float32))
    step = TrainingStep(model, nn.MSELoss(), optim.SGD(model.parameters(), 0.1, momentum=0.9), shards=5, group=group)
    for n in (11, 3):
        step(rng.standard_normal((n, 5), np.float32), rng.standard_normal((n, 3), np.float32))
    return [np.array(value) for value in model.state_dict().values()]


def check_choice(group: distributed.Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what they go: all processes have to agree."""

    def new(transport: str | None) -> distributed.Group:
        return distributed.Group(group._communicator, group._watch, asked_transport=transport)

    def used(other: distributed.Group) -> str | None:
        check = [nn.Parameter(backends.get("cuda").zeros((3,), np.float32), "cuda")]
        other.sum_gradients(check)
        return other.transport

    over_mpi, cuda = new("mpi"), backends.get("cuda")
    collectives.check_sums(group.rank, group.size, cuda, over_mpi.sum_pieces)
    assert over_mpi.transport == "mpi"
    for name, reason, change in (
        ("refusal", "rank 1: there is none", lambda names: "there is none" if group.rank == 1 else None),
        (
            "used_gpu",
            f"{group.size} processes have 2 GPUs, each must have its own",
            lambda: Gpu(str(group.rank % 2)),
        ),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(nccl, name, change)
            assert used(new(None)) == "mpi"
            with pytest.raises(RuntimeError, match=f"transport 'nccl' cannot be used: {reason}"):
                used(new("nccl"))


def main() -> None:
    """Check everything, or leave."""
    core = Core(Processes(MPI.COMM_WORLD))
    install(core)
    group = distributed.init(transport="nccl" if "leave" in sys.argv else None)
    gpu = Gpu(f"GPU-{group.rank}")
    nccl.refusal, nccl.used_gpu = lambda names: None, lambda: gpu
    nccl.OverNccl.piece_bytes = 256
    backend = backends.get("cuda")
    if "leave" in sys.argv:
        group.sum_gradients([nn.Parameter(backend.zeros((300,), np.float32), "cuda")])
        assert group.transport == "nccl"
        if group.rank == 1:
            sys.exit(3)
        try:
            group.sum_gradients([nn.Parameter(backend.zeros((300,), np.float32), "cuda")])
        finally:
            print("aborted" if core.communicators[0].was_aborted else "", flush=True)
    collectives.check_sums(group.rank, group.size, backend, group.sum_pieces)
    assert group.transport == "nccl" and len(core.communicators) == 1 and gpu.marks
    collectives.check_gradients(group, backend)
    for own, alone in zip(weights(group), weights(None), strict=True):
        np.testing.assert_array_equal(own, alone)
    on_host = [nn.Parameter(np.ones(3), "reference")]
    with pytest.MonkeyPatch.context() as patch:
        check_choice(group, patch)
        patch.setattr(nccl, "refusal", lambda names: "it is on the host")
        group.sum_gradients(on_host)
    assert group.transport == "mpi" and on_host[0].grad.shape == (3,)
    if group.rank == 0:
        group._watch.when_all_have_left(lambda: print("aborted" if core.communicators[0].was_aborted else ""))
        assert not core.communicators[0].was_aborted
        print("well", flush=True)


if __name__ == "__main__":
    main()
