"""One model, several threads: every forward pass gives its own input's result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from numbacnn import nn
from numbacnn.backends import Backend
from tests.strategies import SIMULATED


def test_forward_from_two_threads(backend: Backend) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.Concat(nn.Identity(), nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(3, 2, 1))),
        nn.Add(nn.Identity(), nn.Tanh()),
        nn.Dropout(),
        nn.GlobalAvgPool2d(),
        nn.Flatten(),
        nn.Linear(5, 4),
    ).eval()
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((n, 1, size, size)).astype(np.float32) for n, size in ((2, 6), (3, 9))]
    expected = [np.array(model(x)) for x in inputs]
    together = Barrier(2)

    def repeat(i: int) -> None:
        for _ in range(5 if SIMULATED else 30):
            together.wait(timeout=60)
            np.testing.assert_array_equal(model(inputs[i]), expected[i])

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(repeat, i) for i in range(2)]:
            future.result()
