"""Search for a network and its learning rate, by processes: ``python -m examples.sklearn_grid --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from numbacnn import nn
from numbacnn.command_line import Parser, integer, run_command, say
from numbacnn.sklearn import CNNClassifier


def network(channels: int, classes: int, width: int) -> nn.Layer:
    """For images of 8x8."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * width * 2 * 2, classes),
    )  # fmt: skip


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m examples.sklearn_grid",
        "Compare networks of two widths with the estimator's own, and learning rates, by cross-validation "
        "on scikit-learn's digits.",
    )
    parser.add_argument("--epochs", type=integer(1), default=5, help="passes over the training images of each run")
    parser.add_argument("--limit", type=integer(50), default=1797, help="how many of the images to use")
    parser.add_argument("--jobs", type=integer(1), default=2, help="processes, which share the cores")
    parser.add_argument("--seed", type=integer(0), default=0, help="of what is random: weights and order")
    return parser.parse_args(argv)


def search(arguments: argparse.Namespace) -> None:
    """Say how well each candidate does."""
    X, y = load_digits(return_X_y=True)
    X, y = X[: arguments.limit] / 16, y[: arguments.limit]
    grid = {
        "model": ["small", *(partial(network, width=width) for width in (4, 16))],
        "lr": [1e-3, 1e-2],
    }
    estimator = CNNClassifier(image_shape=(8, 8), epochs=arguments.epochs, random_state=arguments.seed)
    found = GridSearchCV(estimator, grid, cv=3, n_jobs=arguments.jobs).fit(X, y)
    for params, score in zip(found.cv_results_["params"], found.cv_results_["mean_test_score"], strict=True):
        model = params["model"] if isinstance(params["model"], str) else f"width {params['model'].keywords['width']}"
        say(f"{model:8}  lr {params['lr']:<5g}  accuracy {score:.3f}")
    say(f"best {found.best_score_:.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(partial(search, parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
