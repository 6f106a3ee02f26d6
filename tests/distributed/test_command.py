"""The command that trains, started as several processes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from numbacnn.data import write_idx
from numbacnn.io.checkpoint import checkpoint_settings
from tests.distributed.launching import lines_of, start, with_mpi
from tests.distributed.processes import LINUX
from tests.strategies import SIMULATED

pytestmark = [with_mpi, pytest.mark.skipif(SIMULATED, reason="it is the backend cpu that trains")]

TRAIN = ["-m", "examples.train", "--model=lenet"]
OPTIONS = ["--backend=cpu", "--dataset=shapes", "--limit=96", "--batch-size=32", "--augment=crop", "--optimizer=adamw"]


def train(ranks: int, folder: Path, *options: str) -> list[str]:
    return lines_of(ranks, *TRAIN, *OPTIONS, f"--output-dir={folder}", *options)


def learned(folder: Path) -> tuple[bytes, bytes, list[dict[str, float]]]:
    """The weights, the mistakes of the evaluation, and the history without what depends on time."""
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in record.items() if "second" not in name} for record in records]
    weights, mistakes = ((folder / f"{name}.safetensors").read_bytes() for name in ("model", "mistakes"))
    return weights, mistakes, kept


def test_a_run_goes_on_with_another_number_of_processes_to_the_same_bits(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    out = train(2, whole, "--epochs=3")
    assert len([line for line in out if line.startswith("epoch ")]) == 3  # said once
    assert out[-1].endswith(" examples/sec on 2 x cpu")
    assert sorted(path.name for path in whole.iterdir())[0] == "checkpoint.safetensors"
    assert not [path for path in whole.iterdir() if path.name.endswith(".tmp")]
    assert checkpoint_settings(whole / "checkpoint.safetensors")["--shards"] == 8
    for epoch, ranks in ((1, 3), (2, 0), (3, 4)):
        train(ranks, parts, f"--epochs={epoch}", "--resume")
    assert learned(parts) == learned(whole)


def test_one_process_cuts_no_batches_unless_it_is_told(tmp_path: Path) -> None:
    train(1, tmp_path, "--epochs=1")
    assert checkpoint_settings(tmp_path / "checkpoint.safetensors")["--shards"] is None
    refused = start(2, *TRAIN, *OPTIONS, f"--output-dir={tmp_path}", "--epochs=2", "--resume")
    assert refused.returncode == 2
    assert "was made with --shards None, this run has 8" in refused.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epochs=0"], "error: argument --epochs: '0' must be a whole number, 1 or more"),
        (["--shards=2"], "error: --shards 2: must be at least 3, one for each process"),
        (["--dataset=folder", "--data-dir=/nowhere"], "error: --data-dir '/nowhere' must have the folders"),
        (["--output-dir=/proc/nowhere"], "error: "),
    ],
)
def test_what_all_processes_refuse_is_said_once(options: list[str], said: str, tmp_path: Path) -> None:
    done = start(3, *TRAIN, *OPTIONS, f"--output-dir={tmp_path}", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder with files as MNIST's, which are compressed."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 64), ("t10k", 40)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)).astype(np.uint8))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", rng.integers(0, 10, count).astype(np.uint8))
    return tmp_path


READING = """
import sys
from numbacnn import data, distributed
from numbacnn.cli import train

def reads(*arguments, **options):
    calls.append(1)
    return real(*arguments, **options)

calls = []
real, data.mnist = data.mnist, reads
code = train.main(sys.argv[1:])
every = distributed.init().gather_metrics(len(calls))
if distributed.init().rank == 0:
    print("read", *every)
sys.exit(code)
"""


def test_files_are_read_once_on_a_machine_to_the_same_bits(digits: Path) -> None:
    options = [*TRAIN[2:], *OPTIONS, "--dataset=mnist", f"--data-dir={digits}", "--epochs=1", "--shards=8"]
    for ranks in (0, 2):
        folder = digits / str(ranks)
        out = lines_of(ranks, "-c", READING, *options, f"--output-dir={folder}")
        assert out[-1] == ("read 2 0" if ranks and LINUX else "read 2 2" if ranks else "read 2")
    assert learned(digits / "0") == learned(digits / "2")
    whole = (digits / "t10k-images-idx3-ubyte.gz").read_bytes()
    (digits / "t10k-images-idx3-ubyte.gz").write_bytes(whole[:-100])
    done = start(2, *TRAIN, *options, f"--output-dir={digits / 'none'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and "is damaged: its gzip data must be whole" in done.stderr


def test_help_is_printed_once() -> None:
    out = lines_of(2, *TRAIN, "--help")
    assert sum(line.startswith("usage:") for line in out) == 1 and any("--shards PARTS" in line for line in out)


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from numbacnn import distributed
from examples.train import main

def kill_when_there_is_an_epoch():
    while not (history.exists() and history.read_text()):
        time.sleep(0.01)
    time.sleep(float(sys.argv[2]))
    os.kill(os.getpid(), signal.SIGKILL)

history = Path(sys.argv[1], "history.jsonl")
if distributed.init().rank == 1:
    threading.Thread(target=kill_when_there_is_an_epoch, daemon=True).start()
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_run_whose_process_is_killed_goes_on(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = [*OPTIONS, "--epochs=10", "--limit=64"]
    lines_of(2, *TRAIN, *options, f"--output-dir={whole}")
    for delay in ("0", "0.07"):
        folder = [f"--output-dir={killed}", "--resume"]
        done = start(3, "-c", KILLED, str(killed), delay, *TRAIN[2:], *options, *folder)
        assert done.returncode != 0 and not (killed / "model.safetensors").exists()
    lines_of(0, *TRAIN, *options, f"--output-dir={killed}", "--resume")
    assert learned(killed) == learned(whole)


FAILING = """
import os, sys
from numbacnn import distributed
from numbacnn.cli import train
from numbacnn.command_line import UserError

def fails(*arguments, **options):
    if distributed.init().rank == int(sys.argv[1]):
        raise UserError("here it fails")
    return real(*arguments, **options)

real, train.fit = train.fit, fails
sys.exit(train.main(sys.argv[2:]))
"""


@pytest.mark.parametrize(("rank", "said"), [(0, "error: here it fails\n"), (2, "rank 2: error: here it fails\n")])
def test_what_one_process_refuses_is_said_and_ends_all(rank: int, said: str, tmp_path: Path) -> None:
    done = start(3, "-c", FAILING, str(rank), *TRAIN[2:], *OPTIONS, "--epochs=1", f"--output-dir={tmp_path}")
    assert done.returncode != 0
    assert said in done.stderr and f"rank {rank} has ended" in done.stderr
    assert os.listdir(tmp_path) == []


def test_python_beside_which_mpiexec_lies_is_the_one_that_is_started() -> None:
    assert lines_of(1, "-c", "import sys; print(sys.executable)") == [sys.executable]
