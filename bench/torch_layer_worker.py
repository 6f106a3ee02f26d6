"""PyTorch's layers on the CPU, alone in a process whose threads are bound to cores; ``bench.layer_rows`` asks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .layer_rows import inputs_of
from .worker import serve, timed

__all__ = ["main"]


class Layers:
    """The layer that was made last, in both memory formats."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._passes: dict[tuple[str, str], Callable[[], Any]] = {}
        self._results: list[np.ndarray] = []

    def make(self, text: str, shapes: list[list[int]], state: str) -> list[str]:
        """The layer that ``text`` makes, with the numbers of a file; the names of the ways to run it."""
        torch = self._torch
        self._passes.clear()
        kinds = {"torch": torch.contiguous_format}
        if any(len(shape) == 4 for shape in shapes):
            kinds["torch channels_last"] = torch.channels_last
        for kind, memory_format in kinds.items():
            layer = eval(text, dict(vars(torch.nn))).train()
            layer.load_state_dict({key: torch.from_numpy(value) for key, value in np.load(state).items()})
            layer = layer.to(memory_format=memory_format)
            xs = [
                (x.contiguous(memory_format=memory_format) if x.dim() == 4 else x).requires_grad_()
                for x in map(torch.from_numpy, inputs_of([tuple(shape) for shape in shapes]))
            ]
            y = layer(*xs)
            dy = torch.from_numpy(np.random.default_rng(1).standard_normal(tuple(y.shape), np.float32))
            dy = dy.contiguous(memory_format=memory_format) if dy.dim() == 4 else dy
            wanted = [*xs, *layer.parameters()]
            self._passes[kind, "forward"] = lambda layer=layer, xs=xs: layer(*xs)
            self._passes[kind, "backward"] = lambda y=y, wanted=wanted, dy=dy: torch.autograd.grad(
                y, wanted, dy, retain_graph=True
            )
            if kind == "torch":
                self._results = [y.detach().numpy(), self._passes[kind, "backward"]()[0].numpy()]
        return list(kinds)

    def outputs(self, paths: list[str]) -> None:
        """The output and the gradient of the first input go to files."""
        for path, result in zip(paths, self._results, strict=True):
            np.save(path, result)

    def sample(self, kind: str, pass_: str) -> float:
        """The seconds of a call."""
        return timed(self._passes[kind, pass_])


def main(threads: str) -> None:
    """Serve ``make``, ``outputs`` and ``sample``."""
    import torch

    torch.set_num_threads(int(threads))
    layers = Layers(torch)
    serve({"make": layers.make, "outputs": layers.outputs, "sample": layers.sample})


if __name__ == "__main__":
    main(*sys.argv[1:])
