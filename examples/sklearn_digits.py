"""Read handwritten digits by an estimator of scikit-learn: ``python -m examples.sklearn_digits --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split

from numbacnn.command_line import Parser, integer, run_command, say
from numbacnn.sklearn import CNNClassifier

from .figures import add_output_option, draw_image, write_figure

SHOWN = 24
"""Digits in the picture."""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m examples.sklearn_digits",
        "Train a small network on three quarters of scikit-learn's 1797 digits, and test it on the others.",
    )
    parser.add_argument("--epochs", type=integer(1), default=10, help="passes over the training images")
    parser.add_argument("--seed", type=integer(0), default=0, help="of what is random: weights, order, test images")
    add_output_option(parser, f"the {SHOWN} test images whose digit the network thinks least likely")
    return parser.parse_args(argv)


def learn(arguments: argparse.Namespace) -> None:
    """Train, test, and say how it went."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=arguments.seed)
    classifier = CNNClassifier(
        image_shape=(8, 8), epochs=arguments.epochs, lr=3e-3, random_state=arguments.seed, verbose=True
    ).fit(X_train, y_train)
    say(classification_report(y_test, classifier.predict(X_test), digits=3))
    say(f"accuracy {classifier.score(X_test, y_test):.3f}")
    draw_hardest = partial(draw, images=X_test, labels=y_test, shares=classifier.predict_proba(X_test))
    write_figure(arguments.output, 9, 4.2, draw_hardest)


def draw(figure: Any, images: np.ndarray, labels: np.ndarray, shares: np.ndarray) -> None:
    """The digits (n, 64) whose probability of being what they are is least; red where another is likelier."""
    of_label = shares[np.arange(len(labels)), labels]
    for axes, i in zip(figure.subplots(3, SHOWN // 3).ravel(), np.argsort(of_label, kind="stable"), strict=False):
        draw_image(axes, images[i].reshape(1, 8, 8))
        likeliest = shares[i].argmax()
        title, colour = f"{labels[i]}: {of_label[i]:.0%}", "black"
        if likeliest != labels[i]:
            title, colour = f"{title}\n{likeliest}: {shares[i, likeliest]:.0%}", "C3"
        axes.set_title(title, fontsize=9, color=colour)
        axes.set_axis_off()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(partial(learn, parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
