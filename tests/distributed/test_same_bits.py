"""Weights, optimizers and figures have the same bits for any number of processes."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from tests.distributed.launching import lines_of, with_mpi
from tests.strategies import SIMULATED

pytestmark = [with_mpi, pytest.mark.skipif(SIMULATED, reason="the runs are those of the backend cpu")]


@functools.cache
def found_by(ranks: int) -> Any:
    (line,) = lines_of(ranks, "-m", "tests.distributed.runs")
    return json.loads(line)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_the_bits_are_those_of_one_process_without_mpi(ranks: int) -> None:
    (alone,) = found_by(0)
    assert len(set(alone.values())) == len(alone) == 7
    every = found_by(ranks)
    assert len(every) == ranks
    for own in every:
        assert len(own) == (7 if ranks <= 5 else 5)
        assert own.items() <= alone.items()
