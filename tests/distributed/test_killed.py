"""A run of which processes are killed at any moment ends with the bits of one that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from numbacnn import models, optim
from numbacnn.io import load_checkpoint
from numbacnn.training import History
from tests.distributed.launching import ROOT, lines_of, with_mpi
from tests.distributed.processes import LINUX, gone, processes_of, variable_of
from tests.distributed.test_command import TRAIN, learned
from tests.strategies import SIMULATED

pytestmark = [
    with_mpi,
    pytest.mark.skipif(SIMULATED, reason="it is the backend cpu that trains"),
    pytest.mark.skipif(not LINUX, reason="processes are found by /proc"),
]

EPOCHS, SPARE = 16, 6
"""How many there are, and before how many of the last ones processes are killed."""
STARTING_SECONDS, EPOCH_SECONDS = 1.0, 0.05
"""About what a start takes and an epoch, in which they are killed."""
OPTIONS = ["--backend=cpu", "--dataset=shapes", "--limit=64", "--batch-size=32", "--augment=crop", "--optimizer=adamw"]
OPTIONS += [f"--epochs={EPOCHS}"]
RUNS = int(os.environ.get("NUMBACNN_KILLED_RUNS", "1"))
"""In each a process of four is killed at a random moment, and then one of three at another."""
SECONDS = 60.0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lines_of(2, *TRAIN, *OPTIONS, f"--output-dir={folder}")
    return folder


def ranks_of(variable: dict[str, str], size: int) -> dict[int, int]:
    """The pids of the processes that train, of so many, by their ranks."""
    found = processes_of({**variable, "PMI_SIZE": str(size)})
    return {int(environment["PMI_RANK"]): pid for pid, environment in found.items()}


def epochs_of(folder: Path) -> int:
    """How many have been written down."""
    history = folder / "history.jsonl"
    return len(history.read_text().splitlines()) if history.exists() else 0


def check_checkpoint(folder: Path) -> int:
    """Load all of it; the number of its epochs."""
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0
    model = models.lenet()
    checkpoint = load_checkpoint(path, model, optim.AdamW(model.parameters(), 1e-3))
    assert len(History.from_json(checkpoint["history"])) == checkpoint["epoch"]
    return int(checkpoint["epoch"])


def kill_one(
    process: subprocess.Popen[bytes], variable: dict[str, str], size: int, folder: Path, moment: float, rank: int
) -> None:
    """Kill a process of so many at a moment of 0 to 1 between their start and the end of the run."""
    end = time.monotonic() + SECONDS
    have = epochs_of(folder)
    more = moment * max(1, EPOCHS - SPARE - have)
    while len(ranks_of(variable, size)) < size or epochs_of(folder) < have + int(more):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    time.sleep(more % 1 * (EPOCH_SECONDS if int(more) else STARTING_SECONDS))
    pids = ranks_of(variable, size)
    os.kill(pids[rank], signal.SIGKILL)
    assert gone(pids.values(), within=5)
    assert check_checkpoint(folder) >= have + int(more)


def relaunched(folder: Path, ranks: int, moments: list[float], victims: list[int], *options: str) -> str:
    """Run with so many processes, and one fewer after each moment; what was said of it."""
    variable = variable_of(folder)
    command = [sys.executable, *TRAIN, *OPTIONS, f"--output-dir={folder}"]
    with open(folder / "said", "w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "numbacnn.distributed.run", f"--ranks={ranks}", *options, "--", *command],
            cwd=ROOT, env={**os.environ, **variable, "NUMBA_NUM_THREADS": "1"}, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            for tries, (moment, rank) in enumerate(zip(moments, victims, strict=True)):
                kill_one(process, variable, ranks - tries, folder, moment, rank)
            assert process.wait(SECONDS) == 0
        finally:
            process.terminate()
            process.wait()
            said.seek(0)
            text = said.read()
            print(text)
        assert gone(lambda: processes_of(variable), within=0.2)
    return text


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
