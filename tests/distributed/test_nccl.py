"""Gradients by NCCL, of which there is a stand-in here: nothing but data is moved, and who leaves is noticed."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, distributed
from numbacnn.distributed import launch, nccl
from numbacnn.sharding import WholeArray
from tests.distributed import collectives
from tests.distributed.launching import lines_of, start, with_mpi
from tests.distributed.nccl_stand_in import Core, Gpu, Threads, install, wait_until
from tests.strategies import SIMULATED


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    """The stand-in as the package."""
    for name in ("nccl", "nccl.core"):
        monkeypatch.setitem(sys.modules, name, None)
    made = Core(Threads())
    install(made)
    return made


def connected(rank: int, size: int, unique: Future[Any]) -> nccl.OverNccl:
    """One of several threads, on the simulator's GPU or with arrays of NumPy."""

    def broadcast(value: Any) -> Any:
        if rank == 0:
            unique.set_result(value)
        return unique.result(60)

    backend = backends.get("cuda" if SIMULATED else "reference")
    return nccl.OverNccl(rank, size, backend, Gpu(), broadcast, wait_until)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_sums_have_the_bits_of_the_tree(size: int, core: Core) -> None:
    unique: Future[Any] = Future()

    def check(rank: int) -> None:
        transport = connected(rank, size, unique)
        collectives.check_sums(rank, size, transport._backend, transport.sum_pieces)
        assert transport._gpu.marks >= 2

    with ThreadPoolExecutor(size) as pool:
        assert [*pool.map(check, range(size))] == [None] * size
    assert len(core.communicators) == size


def test_errors_of_nccl_abort_and_are_said(core: Core) -> None:
    transport = connected(0, 1, Future())
    array, backend = np.ones(3, np.float32), backends.get("reference")
    addends = WholeArray(backend, {(0, 1): array}, array, 256)
    (communicator,) = core.communicators
    communicator.error = 6
    with pytest.raises(RuntimeError, match=r"^NCCL: remote process exited or .* it is gone$"):
        transport.sum_pieces(addends, [[(0, 1)]], 1)
    assert communicator.was_aborted
    with pytest.raises(RuntimeError, match=r'NCCL: Communicator not init.*init\(transport="mpi"\)` does without it'):
        transport.sum_pieces(addends, [[(0, 1)]], 1)


def test_what_is_missing_is_said(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nccl.missing() is None
    assert nccl.refusal({"reference"}) == "the arrays are on 'reference', must be on 'cuda'"
    assert nccl.refusal({"cuda", "cpu"}) == "the arrays are on 'cpu', 'cuda', must be on 'cuda'"
    if SIMULATED:
        assert nccl.refusal({"cuda"}) == "the GPU is a simulator"

    def no_library(result: int) -> str:
        raise RuntimeError('Failure finding "libnccl.so.2"\n')

    monkeypatch.setattr(core, "get_error_string", no_library)
    assert nccl.missing() == f'Failure finding "libnccl.so.2": {nccl.INSTALL}'
    monkeypatch.setitem(sys.modules, "nccl", None)
    assert nccl.missing().endswith(nccl.INSTALL)


def test_transports_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_group", None)
    with pytest.raises(ValueError, match="`transport` 'tcp' must be one of 'mpi', 'nccl'"):
        distributed.init(transport="tcp")
    monkeypatch.setenv("NUMBACNN_TRANSPORT", "gloo")
    with pytest.raises(ValueError, match="`NUMBACNN_TRANSPORT` 'gloo' must be one of 'mpi', 'nccl'"):
        distributed.init()
    monkeypatch.setenv("NUMBACNN_TRANSPORT", "mpi")
    group = distributed.init(mpi=False)
    assert group.transport is None and distributed.init(transport="mpi") is group
    with pytest.raises(ValueError, match="`transport` 'nccl' must be that of the first call, 'mpi'"):
        distributed.init(transport="nccl")
    monkeypatch.setenv("NUMBACNN_TRANSPORT", "nccl")
    assert distributed.init() is group


@with_mpi
def test_nccl_that_is_asked_for_and_missing_is_an_error() -> None:
    program = (
        "import sys; sys.modules['nccl'] = None; from numbacnn import distributed; distributed.init(transport='nccl')"
    )
    done = start(2, "-c", program)
    assert done.returncode == 1
    assert "ImportError: transport 'nccl' cannot be used: " in done.stderr and nccl.INSTALL in done.stderr


@with_mpi
def test_processes_exchange_by_nccl_where_all_of_them_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert lines_of(3, "-m", "tests.distributed.over_nccl") == ["well", "aborted"]  # at the end


@with_mpi
def test_a_process_that_leaves_is_noticed_by_those_that_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    begin = time.monotonic()
    done = start(2, "-m", "tests.distributed.over_nccl", "leave")
    assert time.monotonic() - begin < 30
    assert done.returncode != 0 and done.stdout.split() == ["aborted"]
    assert "rank 1 has ended, and this process waits for it" in done.stderr
