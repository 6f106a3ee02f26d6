"""A run of which processes are killed at any moment ends with the bits of one that nobody disturbed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.distributed.killing import relaunched
from tests.distributed.launching import with_mpi
from tests.distributed.processes import LINUX
from tests.distributed.test_command import learned
from tests.strategies import SIMULATED

pytestmark = [
    with_mpi,
    pytest.mark.skipif(SIMULATED, reason="it is the backend cpu that trains"),
    pytest.mark.skipif(not LINUX, reason="processes are found by /proc"),
]

RUNS = int(os.environ.get("NUMBACNN_KILLED_RUNS", "1"))
"""In each a process of four is killed at a random moment, and then one of three at another."""


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_run_of_four_ends_with_two_to_the_bits_of_one_that_was_not_killed(
    seed: int, undisturbed: Path, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    said = relaunched(tmp_path, 4, [rng.random(), rng.random()], [rng.randrange(4), rng.randrange(3)])
    assert "retry 1 of 3, with 3 processes" in said and "retry 2 of 3, with 2 processes" in said
    assert "retry 3" not in said
    assert learned(tmp_path) == learned(undisturbed)


def test_one_process_that_begins_again_without_a_checkpoint_cuts_batches_as_two(
    undisturbed: Path, tmp_path: Path
) -> None:
    said = relaunched(tmp_path, 2, [0.0], [1])
    assert "with 1 process\n" in said and "no checkpoint in" in said
    assert learned(tmp_path) == learned(undisturbed)
