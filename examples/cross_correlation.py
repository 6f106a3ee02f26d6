"""The two-dimensional cross-correlation: by hand, as an edge detector, and learned from data."""

import numpy as np

import numbacnn as nc
from numbacnn import nn, ops, optim


def main() -> None:
    """Print the results."""
    X = np.arange(9).reshape(3, 3)
    K = np.array([[0, 1], [2, 3]])
    print("corr2d of", X.tolist(), "with", K.tolist())
    print(np.asarray(ops.corr2d(X, K)))

    image = np.ones((6, 8))
    image[:, 2:6] = 0
    detector = np.array([[1, -1]])
    edges = np.asarray(ops.corr2d(image, detector))
    print("vertical edges of a black bar on white")
    print(edges)
    print("the same of the transposed image: the kernel sees vertical edges only")
    print(np.asarray(ops.corr2d(image.T, detector)))

    nc.manual_seed(0)
    conv = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False)
    loss = nn.MSELoss(reduction="sum")
    optimizer = optim.SGD(conv.parameters(), lr=3e-2)
    x, y = image.reshape(1, 1, 6, 8), edges.reshape(1, 1, 6, 7)
    print("learning the kernel from input and output")
    for epoch in range(1, 11):
        value = loss.forward(conv(x), y)
        conv.zero_grad()
        conv.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        if epoch % 2 == 0:
            print(f"epoch {epoch}, loss {value:.3f}")
    print("weight", conv.state_dict()["weight"].reshape(1, 2))


if __name__ == "__main__":
    main()
