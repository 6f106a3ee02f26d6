"""Several input channels, several output channels, and the 1x1 convolution."""

import numpy as np

from numbacnn import ops


def main() -> None:
    """Print the results."""
    X = np.array([[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
    K = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 4]]])
    print("two input channels: cross-correlate each with its kernel and add up")
    print(np.asarray(ops.conv2d(X[np.newaxis], K[np.newaxis]))[0, 0])

    kernels = np.stack([K, K + 1, K + 2])
    print(f"three output channels: kernels of shape {kernels.shape}")
    print(np.asarray(ops.conv2d(X[np.newaxis], kernels))[0])

    generator = np.random.default_rng(0)
    X = generator.normal(size=(3, 3, 3)).astype(np.float32)
    K = generator.normal(size=(2, 3, 1, 1)).astype(np.float32)
    convolution = np.asarray(ops.conv2d(X[np.newaxis], K))[0]
    product = (K.reshape(2, 3) @ X.reshape(3, 9)).reshape(2, 3, 3)
    print("a 1x1 convolution is a matrix product over the channels:", np.abs(convolution - product).max() < 1e-6)


if __name__ == "__main__":
    main()
