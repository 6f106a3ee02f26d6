"""Train a model on Fashion-MNIST, CIFAR-10, images of your own and others: ``python -m examples.train --help``.

It is ``numbacnn train``, but that it leaves weights alone in its folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from numbacnn.cli import train

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return train.main(argv, program="python -m examples.train", with_classifier=False)


if __name__ == "__main__":
    sys.exit(main())
