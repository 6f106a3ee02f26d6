"""Read handwritten digits by an estimator of scikit-learn: ``python -m examples.sklearn_digits --help``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split

from numbacnn.sklearn import CNNClassifier

from .common import integer


def main(argv: Sequence[str] | None = None) -> float:
    """The share of right answers."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.sklearn_digits",
        description="Train a small network on three quarters of scikit-learn's 1797 digits, and test it on the others.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=integer(1), default=10, help="passes over the training images")
    parser.add_argument("--seed", type=integer(0), default=0, help="of what is random: weights, order, test images")
    arguments = parser.parse_args(argv)

    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=arguments.seed)
    classifier = CNNClassifier(
        image_shape=(8, 8), epochs=arguments.epochs, lr=3e-3, random_state=arguments.seed, verbose=True
    ).fit(X_train, y_train)
    print(classification_report(y_test, classifier.predict(X_test), digits=3))
    accuracy = float(classifier.score(X_test, y_test))
    print(f"accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
