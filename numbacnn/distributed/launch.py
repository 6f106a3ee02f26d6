"""Whether this process was started as one of several, and what each of them is to use of its machine."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Any

from ..backends import cuda_support
from . import nccl
from .endings import Watch, end_all_on_errors
from .group import Group

__all__ = ["init"]

LAUNCHERS = {
    "PMI_RANK": "PMI_SIZE",
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
    "PMIX_RANK": "",
    "MV2_COMM_WORLD_RANK": "MV2_COMM_WORLD_SIZE",
    "PALS_RANKID": "PALS_SIZE",
}
"""What MPICH, Intel MPI and Slurm, Open MPI, PMIx, MVAPICH and Cray's launcher tell a process: its rank, and the size.

Slurm's own variables are there for processes, too, that do not belong together.
"""
TRANSPORTS = ("mpi", "nccl")
TRANSPORT = "NUMBACNN_TRANSPORT"
INSTALL = 'pip install "numbacnn[distributed]"'

_group: Group | None = None


def init(mpi: bool | None = None, transport: str | None = None) -> Group:
    """The processes that were started together, as by ``mpiexec -n 4 python program.py``: the same each time.

    A program that is started alone is a group of one, in which nothing is exchanged, and MPI is not even imported. In a
    group of several an exception that nobody handles ends all processes, with its traceback. Kernels then run on as
    many threads as there are cores for each process of the machine, unless NUMBA_NUM_THREADS says how many, and the
    backend cuda takes the GPU of the number of the process among them.

    Call it before anything is computed. Do not fork afterwards: what MPI has does not survive it.

    Args:
        mpi: None to ask the environment whether there is a launcher, True for MPI in any case, False for one process.
        transport: by what gradients on GPUs go from process to process: ``"nccl"``, from GPU to GPU, ``"mpi"``, from
            host to host, or None for NCCL where it can be used, which is where each process has a GPU of its own and
            the package nccl4py is installed. The environment variable NUMBACNN_TRANSPORT says it where this does not.
            What is few, and what is on the host, goes over MPI. :attr:`Group.transport` tells which it was.

    Raises:
        ImportError: a launcher has started several processes, or ``mpi`` is True, and mpi4py or its MPI is missing;
            or NCCL is asked for, for several processes, and missing.
        RuntimeError: the launcher is of another MPI than mpi4py, so that each process would be by itself. Where
            gradients are first exchanged: NCCL is asked for, but there is no GPU for each process, or gradients are on
            the host.
        ValueError: an unknown transport, or another one than a call before has asked for.

    Example:
        >>> from numbacnn import distributed
        >>> group = distributed.init()
        >>> group.rank, group.size
        (0, 1)
    """
    global _group
    asked = _checked_transport(transport)
    if _group is None:
        _group = _new_group(mpi, asked)
    elif transport not in (None, _group._asked_transport):
        raise ValueError(f"`transport` {transport!r} must be that of the first call, {_group._asked_transport!r}")
    return _group


def _checked_transport(given: str | None) -> str | None:
    name = "transport" if given is not None else TRANSPORT
    transport = os.environ.get(TRANSPORT) or None if given is None else given
    if transport not in (None, *TRANSPORTS):
        raise ValueError(f"`{name}` {transport!r} must be one of {', '.join(map(repr, TRANSPORTS))}")
    return transport


def _new_group(mpi: bool | None, transport: str | None) -> Group:
    variable = next((name for name in LAUNCHERS if name in os.environ), None)
    if mpi is False or (mpi is None and variable is None):
        return Group(asked_transport=transport)
    expected = int(os.environ.get(LAUNCHERS[variable], "") or 1) if variable is not None else 1
    if find_spec("mpi4py") is None:
        if mpi is None and expected == 1:
            return Group(asked_transport=transport)
        raise ImportError(f"a group of processes needs mpi4py and an MPI: {INSTALL}")
    if "mpi4py.MPI" not in sys.modules:
        import mpi4py

        # One thread at a time, whichever, speaks with the others.
        mpi4py.rc.thread_level = "serialized"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"mpi4py finds no MPI that it can use: {error}. {INSTALL} brings one") from error
    world = MPI.COMM_WORLD
    if world.Get_size() == 1:
        if expected > 1:
            raise RuntimeError(
                f"the launcher started {expected} processes, but each is alone by the MPI of mpi4py, "
                f"{MPI.Get_library_version().splitlines()[0]}: start them by the mpiexec of that MPI"
            )
        return Group(asked_transport=transport)
    communicator = world.Dup()
    end_all_on_errors(communicator)
    reason = nccl.missing() if transport == "nccl" else None
    if reason is not None:
        raise ImportError(f"transport 'nccl' cannot be used: {reason}")
    neighbours = world.Split_type(MPI.COMM_TYPE_SHARED)
    local_rank, first_of_machine = neighbours.Get_rank(), neighbours.bcast(communicator.Get_rank())
    spans_machines = any(communicator.allgather(neighbours.Get_size() < world.Get_size()))
    _share_cores(neighbours)
    cuda_support.choose_device(local_rank)
    neighbours.Free()
    return Group(
        communicator,
        Watch(communicator),
        local_rank,
        first_of_machine,
        spans_machines=spans_machines,
        asked_transport=transport,
    )


def _share_cores(neighbours: Any) -> None:
    """Let kernels run on this process's part of the cores that it shares with others of its machine."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    every = neighbours.allgather(cores)
    if "NUMBA_NUM_THREADS" in os.environ:
        return
    threads = max(1, len(cores) // sum(not cores.isdisjoint(theirs) for theirs in every))
    if "numba" not in sys.modules:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)
        return
    import numba

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
