"""What padding and stride make of the size of an 8x8 image."""

import numpy as np

from numbacnn import nn

CASES = (
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (5, 3), "padding": (2, 1)},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 5), "padding": (0, 1), "stride": (3, 4)},
    # An even kernel cannot be padded alike on both sides: the odd row goes after, or before.
    {"kernel_size": 4, "padding": "same"},
    {"kernel_size": 4, "padding": "same_lower"},
    {"kernel_size": 4, "padding": ((2, 1), (2, 1))},
)


def main() -> None:
    """Print a line per case."""
    x = np.random.default_rng(0).random((1, 1, 8, 8))
    for arguments in CASES:
        _, _, h, w = nn.Conv2d(1, 1, **arguments)(x).shape
        print(f"{', '.join(f'{name}={value!r}' for name, value in arguments.items()):<50} {h}x{w}")


if __name__ == "__main__":
    main()
