"""Train LeNet, by default on Fashion-MNIST or the built-in shapes: ``python -m examples.train_lenet --help``.

It is ``python -m examples.train --model lenet``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import train

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return train.main(argv, model="lenet", program="python -m examples.train_lenet")


if __name__ == "__main__":
    sys.exit(main())
