"""Maximum and average pooling."""

import numpy as np

from numbacnn import nn, ops


def main() -> None:
    """Print the results."""
    X = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    for layer in (nn.MaxPool2d(2, stride=1), nn.AvgPool2d(2, stride=1)):
        show(layer, X)

    X = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    show(nn.MaxPool2d(3), X)  # the stride is the window's size unless told otherwise
    show(nn.MaxPool2d(3, padding=1, stride=2), X)
    show(nn.MaxPool2d((2, 3), stride=(2, 3), padding=(0, 1)), X)
    show(nn.MaxPool2d(3, padding=1, stride=2), np.concatenate([X, X + 1], axis=1))

    print("an edge moved by one pixel is still found in the same place")
    for column in (5, 6):
        image = np.zeros((6, 9), dtype=np.float32)
        image[:, :column] = 1
        edges = ops.corr2d(image, [[1, -1]])
        print(np.asarray(nn.MaxPool2d(2)(edges.reshape(1, 1, 6, 8)))[0, 0, 0])


def show(layer: nn.Layer, x: np.ndarray) -> None:
    """Print what ``layer`` makes of ``x``."""
    print(layer)
    print(np.asarray(layer(x))[0])


if __name__ == "__main__":
    main()
