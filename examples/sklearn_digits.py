"""Read handwritten digits by an estimator of scikit-learn: ``python -m examples.sklearn_digits --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split

from numbacnn.command_line import Parser, integer, run_command, say
from numbacnn.sklearn import CNNClassifier


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m examples.sklearn_digits",
        "Train a small network on three quarters of scikit-learn's 1797 digits, and test it on the others.",
    )
    parser.add_argument("--epochs", type=integer(1), default=10, help="passes over the training images")
    parser.add_argument("--seed", type=integer(0), default=0, help="of what is random: weights, order, test images")
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(partial(learn, parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
