"""Runs of `examples.train_lenet` that are killed at any moment, and go on to the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = ["--backend=reference", "--dataset=shapes", "--limit=512", "--epochs=3", "--batch-size=64", "--seed=4"]
KILLS = 3

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def start(output: Path, *options: str) -> subprocess.Popen[str]:
    """Train in a process of its own."""
    command = [sys.executable, "-m", "examples.train_lenet", *OPTIONS, f"--output-dir={output}"]
    return subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> list[str]:
    """Its output, once it has ended well."""
    text, _ = process.communicate()
    assert process.returncode == 0, text
    return text.splitlines()


def learning(output: Path) -> list[dict[str, float]]:
    """The history without what depends on time."""
    records = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in r.items() if "second" not in name} for r in records]


def test_killed_runs_end_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begin = time.perf_counter()
    whole_lines = finish(start(whole))
    duration = time.perf_counter() - begin

    generator = random.Random()
    delays = [generator.uniform(0.2, 1.0) * duration for _ in range(KILLS)]
    print("delays", delays)  # shown when the test fails
    for delay in delays:
        process = start(killed, "--resume")
        time.sleep(delay)
        process.kill()
        process.communicate()
        for line in (killed / "history.jsonl").read_text().splitlines() if (killed / "history.jsonl").exists() else ():
            json.loads(line)
    lines = finish(start(killed, "--resume"))
    assert lines[-2] == whole_lines[-2]
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert learning(killed) == learning(whole)
    assert sorted(os.listdir(killed)) == sorted(os.listdir(whole))


def test_a_kill_while_the_checkpoint_is_written_keeps_the_one_before(tmp_path: Path) -> None:
    """The process kills itself between writing the temporary file and giving it its name, in its second epoch."""
    program = (
        "import os, signal, sys\n"
        "from examples import train_lenet\n"
        "replace, count = os.replace, 0\n"
        "def replace_or_die(source, target):\n"
        "    global count\n"
        "    count += str(target).endswith('checkpoint.safetensors')\n"
        "    if count == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(source, target)\n"
        "os.replace = replace_or_die\n"
        "train_lenet.main(sys.argv[1:])\n"
    )
    options = ["--dataset=shapes", "--limit=64", "--batch-size=32", "--epochs=3", "--backend=reference"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    done = subprocess.run([sys.executable, "-c", program, *options, f"--output-dir={killed}"], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert any(name.startswith(".checkpoint") for name in os.listdir(killed))

    from examples import train_lenet

    assert train_lenet.main([*options, f"--output-dir={killed}", "--resume"]) == 0
    assert train_lenet.main([*options, f"--output-dir={whole}"]) == 0
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert sorted(os.listdir(killed)) == sorted(os.listdir(whole))
