"""Training by processes that only a network joins."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.wire import ADDRESSES, DEVICE, TCP, mpiexec, two_machines, why_not
from tests.distributed.killing import relaunched
from tests.distributed.launching import ROOT, SECONDS, lines_of, with_mpi
from tests.distributed.test_command import learned
from tests.strategies import SIMULATED

WHY_NOT = why_not()
pytestmark = [
    with_mpi,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.skipif(SIMULATED, reason="it is the backend cpu that trains"),
]

PROGRAM = """
import json, os, time
import numpy as np
from numbacnn import distributed
from tests.distributed import runs

group = distributed.init()
group.barrier()
begin = time.perf_counter()
group.barrier()
seconds = time.perf_counter() - begin
pid = group.share(lambda: np.full(9, os.getpid()))[0]  # of the process that has made it
own = [os.readlink("/proc/self/ns/net"), group.local_rank, bool(pid == os.getpid())]
found = [runs.run("LeNet, SGD", group), *own, seconds]
every = group.gather_metrics(found)
if group.rank == 0:
    print(json.dumps(every))
"""
ROUNDS = 6
"""Of gradients, in two epochs of three batches."""
GRADIENT_BYTES = 4 * 61_706


def test_the_wire_loses_what_comes_to_a_device_that_is_down() -> None:
    speak = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'1', ('{ADDRESSES[1]}', 9))"
    with two_machines(0.02) as (first, second):
        arrived = second.received()
        subprocess.run(second.command("ip", "link", "set", DEVICE, "down"), check=True)
        subprocess.run(first.command(sys.executable, "-c", speak), check=True)
        time.sleep(0.1)
        subprocess.run(second.command("ip", "link", "set", DEVICE, "up"), check=True)
        end = time.monotonic() + 30
        while second.received() == arrived and time.monotonic() < end:
            subprocess.run(first.command(sys.executable, "-c", speak), check=True)
            time.sleep(0.1)
        assert second.received() > arrived


def test_the_wire_has_a_rate_whether_packets_are_delayed_or_not() -> None:
    received = """
import socket
with socket.create_server(("{}", 9)) as server:
    print(flush=True)
    with server.accept()[0] as connection:
        while connection.recv(1 << 20):
            pass
        connection.sendall(b"1")
"""
    send = """
import socket, sys, time
with socket.create_connection(("{}", 9)) as connection:
    begin = time.perf_counter()
    connection.sendall(bytes(int(sys.argv[1])))
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
    print(time.perf_counter() - begin)
"""
    rate, size, at_once = 8e7, 2_000_000, 1 << 17
    for delay in (0.0, 0.02):
        with two_machines(delay, rate) as (first, second):
            command = second.command(sys.executable, "-c", received.format(ADDRESSES[1]))
            with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
                assert server.stdout is not None and server.stdout.readline()
                sender = first.command(sys.executable, "-c", send.format(ADDRESSES[1]), f"{size}")
                done = subprocess.run(sender, capture_output=True, text=True, timeout=SECONDS)
                server.kill()
        assert done.returncode == 0, done.stderr
        least = 8 * (size - at_once) / rate + 2 * delay
        assert least < float(done.stdout) < 10 * least


@pytest.mark.parametrize("delay", [0.0, 0.02], ids=["no delay", "20 ms"])
def test_two_machines_have_the_bits_of_one(delay: float, tmp_path: Path) -> None:
    (alone,) = lines_of(0, "-c", PROGRAM)
    with two_machines(delay) as (first, second):
        before = [machine.sent() for machine in (first, second)]
        done = subprocess.run(
            first.command(*mpiexec(tmp_path, second), "-n", "2", sys.executable, "-c", PROGRAM),
            cwd=ROOT, env={**os.environ, **TCP, "NUMBA_NUM_THREADS": "1"},
            capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        sent = [machine.sent() - earlier for machine, earlier in zip((first, second), before, strict=True)]
    assert done.returncode == 0, done.stderr
    every = json.loads(done.stdout)
    ((own_bits, own_space, *_),) = json.loads(alone)
    assert [bits for bits, *_ in every] == [own_bits] * 2
    assert len({own_space, *(space for _, space, *_ in every)}) == 3
    assert [(local_rank, is_own) for _, _, local_rank, is_own, _ in every] == [(0, True)] * 2
    # Half of the gradients to be summed, and half of the sums.
    assert min(sent) > ROUNDS * GRADIENT_BYTES
    assert max(seconds for *_, seconds in every) > delay


def test_a_process_that_is_killed_on_one_machine_ends_all_and_they_begin_again(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TCP.items():
        monkeypatch.setenv(name, value)
    with two_machines() as (first, second):
        started_by = [f"--mpiexec={shlex.join(mpiexec(tmp_path, second))}", "--min-ranks=2"]
        said = relaunched(tmp_path, 2, [0.5], [1], *started_by, where=first.command())
    assert "retry 1 of 3, with 2 processes" in said and "retry 2" not in said
    assert learned(tmp_path) == learned(undisturbed)
