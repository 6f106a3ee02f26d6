"""One model of whatever ``numbacnn`` is first on the path; ``bench.compare`` starts it.

It uses only what every version has, so that one program measures them all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

import numbacnn
from numbacnn import models, nn, optim
from numbacnn.training import TrainingStep

from .drawn import named, network_of
from .worker import serve, timed

MODELS: dict[str, tuple[Callable[[], Any], tuple[int, int, int]]] = {
    "lenet": (models.lenet, (1, 28, 28)),
    "alexnet": (models.alexnet, (1, 224, 224)),
    "vgg": (lambda: models.vgg(width_divisor=4), (1, 224, 224)),
    "nin": (models.nin, (1, 224, 224)),
    "googlenet": (models.googlenet, (1, 96, 96)),
    "resnet": (models.resnet, (1, 96, 96)),
    "densenet": (models.densenet, (1, 96, 96)),
}
MIN_SAMPLE = 2e-3
COMPARED_STEPS = 2
LR = 1e-3


class Case:
    """What is asked for: a model with weights that do not depend on how the version draws them."""

    def __init__(self) -> None:
        self._run: Callable[[], object] = lambda: None

    def prepare(self, task: str, model: str, batch_size: int, threads: int) -> dict[str, Any]:
        """Build and warm the case; where the package lies and what it computes, to be compared."""
        numba.set_num_threads(threads)
        numbacnn.use_backend("cpu")
        network, image_shape = _network_of(model)
        rng = np.random.default_rng(0)
        state = {
            name: _weights(rng, name, array.shape).astype(array.dtype) for name, array in network.state_dict().items()
        }
        network.load_state_dict(state)
        x = rng.random((batch_size, *image_shape), np.float32)
        results = self._training(network, x, rng) if task == "train" else self._inference(network, x)
        return {"package": str(Path(numbacnn.__file__).parent), "results": results}

    def _training(self, network: Any, x: np.ndarray, rng: np.random.Generator) -> list[float]:
        for layer in network.layers():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        network.train()
        labels = rng.integers(0, 10, len(x))
        step = TrainingStep(network, nn.CrossEntropyLoss(), optim.SGD(network.parameters(), LR))

        def run() -> float:
            step(x, labels)
            return float(step.totals()[0]) / len(x)

        self._run = run
        return [run() for _ in range(COMPARED_STEPS)]

    def _inference(self, network: Any, x: np.ndarray) -> list[float]:
        session = nn.InferenceSession(nn.fold_batch_norm(network.eval()))
        self._run = lambda: session(x)
        values: list[float] = np.asarray(session(x), np.float64).ravel().tolist()
        return values

    def sample(self) -> float:
        """Seconds of a call."""
        return timed(self._run, MIN_SAMPLE)


def _network_of(model: str) -> tuple[Any, tuple[int, int, int]]:
    if model in MODELS:
        build, image_shape = MODELS[model]
        return build(), image_shape
    drawn = named(model)
    return network_of(drawn.text), drawn.image_shape


def _weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) > 1:
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    # Of a norm or a bias: around 1 where it is a variance or a factor, which must not be 0.
    return rng.uniform(0.9, 1.1, shape).astype(np.float32) * np.float32(not name.endswith(("bias", "mean")))


def main() -> None:
    """Serve ``prepare`` and ``sample``."""
    case = Case()
    serve({"prepare": case.prepare, "sample": case.sample})


if __name__ == "__main__":
    sys.exit(main())
