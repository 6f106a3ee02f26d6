"""Measuring which convolution algorithm is the fastest for each layer of a model, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import numpy as np

from ..backends import Backend, autotune
from ..backends.contract import ConvPass
from ..backends.geometry import Conv2dGeometry
from ..ops.arguments import one_of, shape_of
from .conv import Convolution
from .layer import Layer
from .state import Shape, Shapes, as_shapes
from .summary import Summary, summary

__all__ = ["tune"]

SECONDS = 0.1
# An algorithm has to be so much faster than the one that is taken by default, or noise decides.
MIN_GAIN = 1.05
# One that takes so many times the best so far is not called again.
HOPELESS = 3.0


def tune(model: Layer, input_shape: Shape, passes: Sequence[str] = get_args(ConvPass)) -> Summary:
    """Measure the algorithms of each convolution in ``model`` whose ``algorithm`` is ``"auto"``, remember the best.

    What is found is taken for ``"auto"`` from then on, by this process and those after it, for convolutions of the same
    sizes on the same kind of machine with as many threads; it lies in the user's cache, and is forgotten when the
    kernels change. Results may differ in the last bits from those of another choice. It takes some tenths of a second
    for each layer, pass and algorithm.

    Args:
        model: On the backend that is tuned.
        input_shape: (n, c, h, w) or (n, c, l), with the batch that the model will be used with.
        passes: Of ``"forward"``, ``"backward_input"`` and ``"backward_weight"``.

    Returns:
        The :func:`summary`, which shows the algorithms.

    Raises:
        ValueError: For an unknown pass, or a shape that the model does not take.
    """
    of_lines = isinstance(input_shape, (tuple, list)) and len(input_shape) == 3
    shape = shape_of("input_shape", input_shape, "n, c, l" if of_lines else "n, c, h, w")
    chosen: list[ConvPass] = [one_of("passes", pass_, get_args(ConvPass)) for pass_ in passes]  # type: ignore[misc]
    done = set()
    for layer, geometry in _convolutions(model, shape):
        for pass_ in (layer.passes[each] for each in chosen):
            if layer.algorithm == "auto" and (geometry, pass_) not in done and geometry.n:
                done.add((geometry, pass_))
                _tune(layer.backend, geometry, pass_, layer.weight.dtype)
    return summary(model, input_shape)


def _convolutions(layer: Layer, shapes: Shapes) -> Iterator[tuple[Convolution, Conv2dGeometry]]:
    if isinstance(layer, Convolution):
        yield layer, layer.geometry(*as_shapes(shapes))
    for _, child, inner in layer.child_inputs(*as_shapes(shapes)):
        yield from _convolutions(child, inner)


def _tune(backend: Backend, geometry: Conv2dGeometry, pass_: ConvPass, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x, weight, dy = (
        backend.asarray(rng.standard_normal(shape), dtype)
        for shape in (geometry.x_shape, geometry.weight_shape, geometry.y_shape)
    )
    calls: dict[ConvPass, Callable[[str], Any]] = {
        "forward": lambda name: backend.conv2d(x, weight, None, geometry, name),
        "backward_input": lambda name: backend.conv2d_backward_input(dy, weight, geometry, name),
        "backward_weight": lambda name: backend.conv2d_backward_weight(dy, x, geometry, name),
    }
    default = backend.choose_conv2d_algorithm(geometry, pass_)
    best = dict.fromkeys((default, *backend.conv2d_algorithms()), float("inf"))
    for name in best:
        _seconds(backend, calls[pass_], name)  # compiles, and warms up
    end = time.perf_counter() + SECONDS * len(best)
    while True:
        for name in best:
            if best[name] == float("inf") or best[name] < HOPELESS * min(best.values()):
                best[name] = min(best[name], _seconds(backend, calls[pass_], name))
        if time.perf_counter() > end:
            break
    fastest = min(best, key=lambda name: best[name])
    gain = best[default] / best[fastest]
    autotune.remember(backend, geometry, pass_, fastest if gain >= MIN_GAIN else None)


def _seconds(backend: Backend, call: Callable[[str], Any], name: str) -> float:
    start = time.perf_counter()
    call(name)
    backend.synchronize()
    return time.perf_counter() - start
