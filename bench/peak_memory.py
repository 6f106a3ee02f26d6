"""The most memory that a training step takes, printed in bytes: ``python -m bench.peak_memory MODEL CONTENDER BATCH``.

Counted from a process that has imported everything, and has trained on one image so that kernels are loaded: weights,
gradients, activations, batch and work space. Linux only, where a process can have its peak forgotten.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import numba

from numbacnn import backends

from .train_contenders import MODELS, Ours, Task, TorchEager

__all__ = ["growth", "main"]

STEPS = 2


def growth(run: Callable[[], None]) -> int:
    """Bytes that the process's resident memory rises above what it is now while ``run`` runs."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what is resident now
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def train(model: str, contender: str, batch: int) -> None:
    """Build and train for some steps."""
    task = Task(MODELS[model], batch, batch)
    if contender == "torch":
        import torch

        torch.set_num_threads(numba.get_num_threads())
        trainer = TorchEager(torch, task, "cpu")
    else:
        trainer = Ours(task, backends.get("cpu"))  # type: ignore[assignment]
    x, y = next(iter(trainer.batches(0)))
    for _ in range(STEPS):
        trainer.step(x, y)


def main() -> int:
    """Run the command."""
    model, contender, batch = sys.argv[1:]
    train(model, contender, 1)
    if contender != "torch":
        from numbacnn.backends.cpu import memory

        memory.release()
    print(growth(lambda: train(model, contender, int(batch))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
