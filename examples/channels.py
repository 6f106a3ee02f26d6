"""Several input channels, several output channels, and the 1x1 convolution."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn import ops
from numbacnn.command_line import Parser, run_command

from .figures import add_output_option, draw_numbers, write_figure

X = np.array([[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
K = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 4]]])
KERNELS = np.stack([K, K + 1, K + 2])


def show(output: Path | None) -> None:
    """Print the results, and draw the second into ``output``."""
    print("two input channels: cross-correlate each with its kernel and add up")
    print(np.asarray(ops.conv2d(X[np.newaxis], K[np.newaxis]))[0, 0])

    print(f"three output channels: kernels of shape {KERNELS.shape}")
    print(np.asarray(ops.conv2d(X[np.newaxis], KERNELS))[0])

    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 3, 3)).astype(np.float32)
    mix = generator.normal(size=(2, 3, 1, 1)).astype(np.float32)
    convolution = np.asarray(ops.conv2d(x[np.newaxis], mix))[0]
    product = (mix.reshape(2, 3) @ x.reshape(3, 9)).reshape(2, 3, 3)
    print("a 1x1 convolution is a matrix product over the channels:", np.abs(convolution - product).max() < 1e-6)
    write_figure(output, 9.5, 6.2, draw)


def draw(figure: Any) -> None:
    """The input above; a row for each output channel: its two kernels, what each makes of its channel, and the sum."""
    grid = figure.subplots(len(KERNELS) + 1, 5)
    for axes in grid[0]:
        axes.set_axis_off()
    for number, channel in enumerate(X):
        axes = grid[0, 2 + number]
        axes.set_axis_on()
        draw_numbers(axes, channel, f"input channel {number}")
    titles = ["kernel for 0", "kernel for 1", "made of 0", "made of 1", "sum"]
    for number, (line, kernels) in enumerate(zip(grid[1:], KERNELS, strict=True)):
        parts = [np.asarray(ops.corr2d(channel, kernel)) for channel, kernel in zip(X, kernels, strict=True)]
        total = np.asarray(ops.conv2d(X[np.newaxis], kernels[np.newaxis]))[0, 0]
        for axes, array, title in zip(line, [*kernels, *parts, total], titles, strict=True):
            draw_numbers(axes, array, title if number == 0 else "")
        line[0].set_ylabel(f"output channel {number}", fontsize=9)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = Parser("python -m examples.channels", "Convolve images of several channels.")
    add_output_option(parser, "two input channels, three pairs of kernels and three output channels")
    return run_command(partial(show, parser.parse_args(argv).output))


if __name__ == "__main__":
    sys.exit(main())
