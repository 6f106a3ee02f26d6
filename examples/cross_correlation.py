"""The two-dimensional cross-correlation: by hand, as an edge detector, and learned from data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import nn, ops, optim
from numbacnn.command_line import Parser, run_command

from .figures import add_output_option, draw_numbers, write_figure

DETECTOR = np.array([[1, -1]])
EPOCHS = 10


def learn(image: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """The kernel before each epoch and after the last, (EPOCHS + 1, 1, 2), and the loss of each epoch."""
    nc.manual_seed(0)
    conv = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False)
    loss = nn.MSELoss(reduction="sum")
    optimizer = optim.SGD(conv.parameters(), lr=3e-2)
    x, y = image.reshape(1, 1, *image.shape), edges.reshape(1, 1, *edges.shape)
    kernels, losses = [conv.state_dict()["weight"]], []
    for _ in range(EPOCHS):
        losses.append(loss.forward(conv(x), y))
        conv.zero_grad()
        conv.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        kernels.append(conv.state_dict()["weight"])
    return np.reshape(kernels, (-1, 1, 2)), losses


def show(output: Path | None) -> None:
    """Print the results, and draw them into ``output``."""
    X = np.arange(9).reshape(3, 3)
    K = np.array([[0, 1], [2, 3]])
    print("corr2d of", X.tolist(), "with", K.tolist())
    print(np.asarray(ops.corr2d(X, K)))

    image = np.ones((6, 8))
    image[:, 2:6] = 0
    edges = np.asarray(ops.corr2d(image, DETECTOR))
    print("vertical edges of a black bar on white")
    print(edges)
    print("the same of the transposed image: the kernel sees vertical edges only")
    print(np.asarray(ops.corr2d(image.T, DETECTOR)))

    print("learning the kernel from input and output")
    kernels, losses = learn(image, edges)
    for epoch in range(2, EPOCHS + 1, 2):
        print(f"epoch {epoch}, loss {losses[epoch - 1]:.3f}")
    print("weight", kernels[-1])
    write_figure(output, 9, 5.6, partial(draw, image=image, edges=edges, kernels=kernels))


def draw(figure: Any, image: np.ndarray, edges: np.ndarray, kernels: np.ndarray) -> None:
    """The image and its edges above, by the kernel as it was learned and by the true one; the learning below."""
    panels = figure.subplot_mosaic([["image", "edges", "learned"], ["weights"] * 3], width_ratios=[8, 7, 7])
    learned = np.asarray(ops.corr2d(image, kernels[-1]))
    draw_numbers(panels["image"], image, "the image", grey=True)
    draw_numbers(panels["edges"], edges, "edges by the kernel (1, -1)")
    left, right = kernels[-1, 0]
    draw_numbers(panels["learned"], learned, f"edges by the learned ({left:.2f}, {right:.2f})")
    axes = panels["weights"]
    for number, (name, target) in enumerate(zip(("left", "right"), DETECTOR[0], strict=True)):
        axes.plot(kernels[:, 0, number], marker="o", color=f"C{number}", label=f"learned, {name}")
        axes.axhline(target, linestyle="--", color=f"C{number}", label=f"true, {name}")
    axes.set(xlabel="epoch", ylabel="weight", ylim=(-1.4, 1.4), xticks=range(len(kernels)))
    axes.set_title("the two weights of the kernel while it learns", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="center right", fontsize=8)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = Parser("python -m examples.cross_correlation", "Find edges by a kernel, and learn it from their image.")
    add_output_option(parser, "the image, its edges and the kernel while it learns")
    return run_command(partial(show, parser.parse_args(argv).output))


if __name__ == "__main__":
    sys.exit(main())
