"""Train LeNet, by default on Fashion-MNIST or the built-in shapes: ``python -m examples.train_lenet --help``.

It is ``python -m examples.train --model lenet``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from numbacnn.cli import train

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    program = "python -m examples.train_lenet"
    return train.main(argv, program=program, model="lenet", with_classifier=False)


if __name__ == "__main__":
    sys.exit(main())
