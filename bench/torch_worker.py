"""A convolution by PyTorch on the CPU, alone in its process; ``bench.peers`` starts it.

Some of PyTorch's kernels, depthwise ones among them, split their work over OpenMP threads that the scheduler may put on
one core, where one call in two takes ten times as long: OMP_PROC_BIND, which counts for a whole process, keeps each on
a core of its own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from numbacnn.backends.contract import ConvPass

from .precision import PEER_PRECISIONS, Ways
from .problems import parse
from .torch_conv import TorchConv
from .worker import serve, timed

__all__ = ["ENVIRONMENT", "main"]

ENVIRONMENT = {"OMP_PROC_BIND": "true"}


def main(kind: str, threads: str, descriptor: str, operands: str) -> None:
    """Serve ``outputs``, which writes those of a pass to a file, and ``sample``, which tells the seconds of a call."""

    @functools.cache
    def passes() -> dict[ConvPass, Callable[[], Any]]:
        import torch

        torch.set_num_threads(int(threads))
        ways = {way.name: way for way in TorchConv.kinds(torch, "cpu", Ways(PEER_PRECISIONS))}
        return ways[kind].conv2d(parse(descriptor), *np.load(operands).values())

    serve(
        {
            "outputs": lambda pass_, path: np.save(path, TorchConv.to_numpy(passes()[pass_]())),
            "sample": lambda pass_: timed(passes()[pass_]),
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
