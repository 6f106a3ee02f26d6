"""The first training steps of a new process, their time or their memory; ``bench.models`` starts it."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba

from numbacnn import backends

from .train_contenders import MODELS, Contender, Ours, Task

__all__ = ["CONTENDERS", "MEMORY_RESET", "main", "measure"]

ROOT = Path(__file__).parent.parent
CONTENDERS = ("numbacnn", "torch")
STATUS = Path("/proc/self/status")
MEMORY_RESET = Path("/proc/self/clear_refs")
"""What the kernel is told through to forget the largest memory so far; of Linux alone."""
RESET_PEAK = "5"
MEMORY_STEPS = 3
"""The first runs plainly, the second may be captured, the third is as all that follow."""


def measure(
    what: str, contender: str, model: str, batch_size: int, backend: str, threads: int, cache: Path | None = None
) -> dict[str, Any]:
    """The figures of training in a process of its own.

    Args:
        what: ``"start"`` for the ``seconds`` from the start of the process to the end of the first step, ``"memory"``
            for ``bytes``, by which the resident memory is larger at most during MEMORY_STEPS steps than it was with
            everything imported and nothing built, ``bytes_before``: weights, gradients, and what building left behind,
            which may be there for the steps, belong to it.
        contender: one of CONTENDERS.
        cache: the folder of the user's caches, compiled kernels among them; None for the usual one.

    Raises RuntimeError, with the last line that it wrote, where the process fails.
    """
    options = ["--contender", contender, "--model", model, "--batch-size", f"{batch_size}", "--backend", backend]
    command = [sys.executable, "-m", "bench.one_step", what, *options, "--threads", f"{threads}"]
    environment = dict(os.environ)
    if cache is not None:
        environment.pop("NUMBA_CACHE_DIR", None)  # it would go before
        environment["XDG_CACHE_HOME"] = str(cache)
    started = ["--started", repr(time.time())]
    done = subprocess.run([*command, *started], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(said[-1])
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _contender(arguments: argparse.Namespace, library: Any) -> Contender:
    task = Task(MODELS[arguments.model], arguments.batch_size, arguments.batch_size)
    if library is None:
        return Ours(task, backends.get(arguments.backend))
    from .torch_trainers import TorchEager

    return TorchEager(library, task, _device(arguments))


def _imported(arguments: argparse.Namespace) -> Any:
    """PyTorch, where it is measured, with as many threads as it may have; None for us."""
    if arguments.contender == "numbacnn":
        numba.set_num_threads(arguments.threads)
        return None
    from . import peers, torch_models  # noqa: F401 - what building imports otherwise

    return peers.import_torch(arguments.threads, _device(arguments))


def _device(arguments: argparse.Namespace) -> str:
    return "cuda" if arguments.backend == "cuda" else "cpu"


def _bytes(name: str) -> int:
    """A figure of this process's memory."""
    (line,) = (line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Train and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.one_step", description=__doc__)
    add = parser.add_argument
    add("what", choices=("start", "memory"))
    add("--contender", choices=CONTENDERS, required=True)
    add("--model", choices=MODELS, required=True)
    add("--batch-size", type=int, required=True)
    add("--backend", choices=backends.NAMES, required=True)
    add("--threads", type=int, required=True)
    add("--started", type=float, required=True, help="when the process was started, as time.time() says")
    arguments = parser.parse_args(argv)
    library = _imported(arguments)
    before = _bytes("VmRSS") if arguments.what == "memory" else 0
    contender = _contender(arguments, library)
    x, y = next(contender.batches(0))
    if arguments.what == "memory":
        # What building took for a moment is no matter of training.
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        MEMORY_RESET.write_text(RESET_PEAK, encoding="ascii")
    for _ in range(MEMORY_STEPS if arguments.what == "memory" else 1):
        contender.step(x, y)
    contender.wait()
    if arguments.what == "memory":
        figures: dict[str, Any] = {"bytes": _bytes("VmHWM") - before, "bytes_before": before}
    else:
        figures = {"seconds": time.time() - arguments.started}
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
