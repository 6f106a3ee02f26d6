"""Groups: what their processes exchange, and when there is one at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import distributed, nn, optim
from numbacnn.distributed import launch
from numbacnn.training import TrainingStep
from tests.distributed.launching import MPIEXEC, lines_of, start, with_mpi

OURS = [name for pair in launch.LAUNCHERS.items() for name in pair if name]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No launcher, and no group that was made before."""
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch, "_group", None)
    return monkeypatch


@with_mpi
@pytest.mark.parametrize("ranks", [0, 1, 2, 3, 5])
def test_what_processes_exchange(ranks: int) -> None:
    assert lines_of(ranks, "-m", "tests.distributed.collectives") == ["well"]


@with_mpi
def test_mpiexec_is_that_of_the_environment() -> None:
    assert MPIEXEC.is_file() and MPIEXEC.parent == Path(sys.executable).parent


def test_without_a_launcher_there_is_one_process_and_mpi_is_not_imported(alone: pytest.MonkeyPatch) -> None:
    before = set(sys.modules)
    group = distributed.init()
    assert (group.rank, group.size, group.local_rank, repr(group)) == (0, 1, 0, "Group(rank=0, size=1)")
    assert not [name for name in set(sys.modules) - before if name.startswith("mpi4py")]
    parameter = nn.Parameter(np.ones(2), "reference")
    group.sum_gradients([parameter])
    group.barrier()
    assert group.broadcast(3) == 3 and group.gather_metrics(4) == [4] and not group.first_has_ended(within=0)
    assert distributed.init() is group
    with pytest.raises(ValueError, match="`root` 1 "):
        group.broadcast(3, root=1)


@pytest.mark.parametrize(("size", "mpi"), [("2", None), ("1", True)])
def test_several_processes_without_mpi_are_an_error(alone: pytest.MonkeyPatch, size: str, mpi: bool | None) -> None:
    """Each would train by itself, and write the same files."""
    alone.setenv("PMI_RANK", "0")
    alone.setenv("PMI_SIZE", size)
    alone.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'needs mpi4py and an MPI: pip install "numbacnn\[distributed\]"'):
        distributed.init(mpi)
    assert distributed.init(mpi=False).size == 1


def test_one_process_of_a_launcher_needs_no_mpi(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("PMIX_RANK", "0")
    alone.setattr(launch, "find_spec", lambda name: None)
    assert distributed.init().size == 1


@with_mpi
def test_the_launcher_of_another_mpi_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    done = start(0, "-c", "from numbacnn import distributed; distributed.init()")
    assert done.returncode == 1 and "the launcher started 4 processes, but each is alone" in done.stderr


@with_mpi
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinities")
@pytest.mark.parametrize("imported", ["", "import numba; numba.set_num_threads(numba.config.NUMBA_NUM_THREADS); "])
def test_processes_share_the_cores_of_a_machine(monkeypatch: pytest.MonkeyPatch, imported: str) -> None:
    cores = len(os.sched_getaffinity(0))
    program = (
        f"import os; os.environ.pop('NUMBA_NUM_THREADS'); {imported}from numbacnn import distributed; "
        "group = distributed.init(); from numbacnn.backends.numba_threads import numba_threads; "
        "every = group.gather_metrics(numba_threads()); print(*every) if group.rank == 0 else None"
    )
    (line,) = lines_of(2, "-c", program)
    assert line.split() == [str(max(1, cores // 2))] * 2
    told = program.replace("os.environ.pop('NUMBA_NUM_THREADS')", "pass")
    assert lines_of(2, "-c", told) == ["1 1"]


def test_a_step_has_a_shard_for_each_process() -> None:
    class Nine(distributed.Group):
        def __init__(self) -> None:
            super().__init__()
            self.size = 9

        def broadcast(self, value: Any, root: int = 0) -> Any:
            return value

    def step(**options: Any) -> TrainingStep:
        with nc.use_backend("reference"):
            model = nn.Linear(2, 2)
        return TrainingStep(model, nn.MSELoss(), optim.SGD(model.parameters(), 0.1), **options)

    with pytest.raises(ValueError, match="`shards` 8 must be at least 9, the size of `group`"):
        step(group=Nine())
    assert step(group=Nine(), shards=9).shards == 9
    assert step(group=distributed.Group()).shards is None
