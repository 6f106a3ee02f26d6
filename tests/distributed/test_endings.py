"""A process that ends before the others ends them, too, and says why."""

from __future__ import annotations

import time

import pytest

from tests.distributed.launching import start, with_mpi

pytestmark = with_mpi


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("error", "rank 1 of 3:\nTraceback"),
        ("error in a thread", "rank 1 of 3:\nTraceback"),
        ("error of all", "rank 0 of 3:\nTraceback"),
        ("exit", "rank 1 has ended, and this process waits for it"),
        ("exit well", "rank 1 has ended, and this process waits for it"),
        ("kill", ""),
    ],
)
def test_one_process_that_ends_ends_all(way: str, said: str) -> None:
    done = start(3, "-m", "tests.distributed.failing", way)
    assert time.time() - float(done.stdout.split()[0]) < 5
    assert done.returncode != 0
    assert said in done.stderr
    if way.startswith("error"):
        assert done.stderr.count("ValueError: this is why") == 1


def test_processes_that_end_together_end_as_they_want() -> None:
    done = start(3, "-m", "tests.distributed.failing", "end together")
    assert done.returncode == 2 and not done.stderr
