"""Runs that are started again, of which processes are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from numbacnn import models, optim
from numbacnn.io import load_checkpoint
from numbacnn.training import History
from tests.distributed.launching import ROOT
from tests.distributed.processes import gone, processes_of, variable_of
from tests.distributed.test_command import TRAIN

EPOCHS, SPARE = 24, 14
"""How many there are, and before how many of the last ones processes are killed."""
STARTING_SECONDS, EPOCH_SECONDS = 0.7, 0.02
"""About what a start takes and an epoch, in which they are killed."""
OPTIONS = ["--backend=cpu", "--dataset=shapes", "--limit=64", "--batch-size=32", "--augment=crop", "--optimizer=adamw"]
OPTIONS += [f"--epochs={EPOCHS}"]
SECONDS = 60.0


def ranks_of(variable: dict[str, str], size: int) -> dict[int, int]:
    """The pids of the processes that train, of so many, by their ranks."""
    found = processes_of({**variable, "PMI_SIZE": str(size)})
    # Those that they start themselves have their environment, and come later.
    return {int(found[pid]["PMI_RANK"]): pid for pid in sorted(found, reverse=True)}


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
    pids: dict[int, int] = {}
    while len(pids) < size or epochs_of(folder) < have + int(more):
        assert process.poll() is None and time.monotonic() < end
        if len(pids) < size:
            pids = ranks_of(variable, size)
        time.sleep(0.002)
    time.sleep(more % 1 * (EPOCH_SECONDS if int(more) else STARTING_SECONDS))
    os.kill(pids[rank], signal.SIGKILL)
    assert gone(pids.values(), within=5)
    assert check_checkpoint(folder) >= have + int(more)


def relaunched(
    folder: Path, ranks: int, moments: list[float], victims: list[int], *options: str, where: Sequence[str] = ()
) -> str:
    """Run with so many processes, and one fewer after each moment, by a command ``where``; what was said of it."""
    variable = variable_of(folder)
    command = [sys.executable, *TRAIN, *OPTIONS, f"--output-dir={folder}"]
    with open(folder / "said", "w+") as said:
        process = subprocess.Popen(
            [*where, sys.executable, "-m", "numbacnn.distributed.run", f"--ranks={ranks}", *options, "--", *command],
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
