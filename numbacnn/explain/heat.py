"""Where in an image a model sees a class, by Grad-CAM (Selvaraju et al. 2017, "Visual explanations")."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import nn, ops
from ..backends import Array
from ..nn.feature_extraction import layer_named
from ..nn.grad_mode import evaluating
from ..nn.watching import Forward, passes_as_before, watched
from ..ops.arguments import integer
from .passes import Pass, one_sample, passes_of

__all__ = ["blended", "grad_cam"]

COLOURS = np.array([[0, 0, 128], [0, 128, 255], [255, 255, 0], [255, 0, 0], [128, 0, 0]], np.float32)
"""Of heat 0, 1/4, 1/2, 3/4 and 1: red, green, blue in 0..255."""
OPACITY = 0.7
"""Of the colour where the heat is 1; the picture is clear where it is 0."""


class _Reached(Exception):  # noqa: N818
    """Ends the backward pass, for nobody needs the gradients of the layers before."""


def grad_cam(model: nn.Layer, x: Any, target: int, layer: str | None = None) -> np.ndarray:
    """Heat in 0..1 of each pixel of one image: how much what is seen there speaks for the class ``target``.

    The feature maps that ``layer`` gives are added up, each times the mean of the gradient that the score of the class
    has in it; what is below 0 speaks for other classes. The sum is brought to the size of the image, and its largest
    number to 1. The model computes as in evaluation mode, and afterwards is as before: its modes, its gradients and
    what it saved for ``backward``.

    Args:
        model: gives scores (1, classes), before any softmax.
        x: (1, c, h, w).
        target: the number of the class.
        layer: a name of ``model.named_layers()``, of a layer that gives feature maps. By default it is what has the
            last `Conv2d` in it, such as a residual block, or the norm or activation that follows.

    Returns:
        (h, w) float32; zeros where nothing speaks for the class.

    Raises:
        ValueError: for what is no image or no class; for a layer that there is not, that gives no feature maps or on
            which the scores do not depend; for a model without `Conv2d`, where no layer is named.

    >>> from numbacnn import nn, use_backend
    >>> with use_backend("reference"):
    ...     model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> grad_cam(model, np.ones((1, 1, 8, 8)), target=3).shape
    (8, 8)
    """
    named = None if layer is None else layer_named("layer", model, layer)
    (image,) = one_sample(model, x)
    if len(image.shape) != 4:
        raise ValueError(f"`x` {tuple(image.shape)} must be an image, (1, c, h, w)")
    with passes_as_before(model), evaluating(model), nn.enable_grad(), _without_own_gradients(model):
        passes = passes_of(model, [image])
        shown = _behind_the_last_convolution(passes) if named is None else _last_of(passes, named, str(layer))
        one_hot = _one_hot(passes[-1].output, target)
        gradient = _gradient(model, shown.layer, one_hot)
    to_numpy = shown.layer.backend.to_numpy
    maps, gradient = to_numpy(shown.output), to_numpy(gradient)
    heat = np.maximum((gradient.mean(axis=(2, 3), keepdims=True) * maps).sum(axis=1, keepdims=True), 0)
    heat = np.asarray(ops.interpolate2d(heat, image.shape[2:], mode="bilinear", backend="reference"))[0, 0]
    return (heat / (heat.max() or 1)).astype(np.float32)


def _one_hot(scores: Any, target: int) -> np.ndarray:
    shape = tuple(getattr(scores, "shape", ()))
    if len(shape) != 2:
        raise ValueError(f"the model must give scores of the shape (1, classes), not {shape}")
    gradient = np.zeros(shape, np.float32)
    gradient[0, integer("target", target, 0, shape[1] - 1)] = 1
    return gradient


def _gradient(model: nn.Layer, layer: nn.Layer, dy: np.ndarray) -> Array:
    """That of what ``layer`` gave last, for a cotangent of the output of ``model``."""

    def ending(_: str, other: nn.Layer, backward: Forward) -> Forward:
        def end(dy: Any, *rest: Any, **options: Any) -> Any:
            raise _Reached(other.backend.asarray(dy))

        return end if other is layer else backward

    with watched(model, ending, "backward"):
        try:
            model.backward(dy)
        except _Reached as reached:
            return reached.args[0]
    raise ValueError(f"the scores do not depend on `layer`, {layer!r}")


@contextmanager
def _without_own_gradients(model: nn.Layer) -> Iterator[None]:
    """Backward passes compute no gradients of parameters meanwhile."""
    training = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in training:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in training:
            parameter.requires_grad = True


def _last_of(passes: list[Pass], layer: nn.Layer, name: str) -> Pass:
    found = next((one for one in reversed(passes) if one.layer is layer), None)
    what = f"`layer` {name!r}, a {type(layer).__name__},"
    if found is None:
        raise ValueError(f"{what} is not run by the model's forward pass")
    if not _is_maps(found.output):
        raise ValueError(f"{what} must give feature maps (1, c, h, w), not {getattr(found.output, 'shape', 'several')}")
    return found


def _behind_the_last_convolution(passes: list[Pass]) -> Pass:
    """The outermost layer of feature maps that the last convolution is in, and what follows it pixel by pixel."""
    convolution = next((one.layer for one in reversed(passes) if isinstance(one.layer, nn.Conv2d)), None)
    if convolution is None:
        kind = type(passes[-1].layer).__name__
        raise ValueError(f"the model, a {kind}, must run a Conv2d, or `layer` must name what gives feature maps")
    around = [i for i, one in enumerate(passes[:-1]) if any(inner is convolution for inner in one.layer.layers())]
    if not around:  # the model is the convolution
        around = [len(passes) - 1]
    # A Sequential is only the layers in it, of which those after the convolution may give other maps.
    found = next(
        i for i in reversed(around) if _is_maps(passes[i].output) and type(passes[i].layer) is not nn.Sequential
    )
    shown = passes[found]
    for later in passes[found + 1 :]:
        if any(x is shown.output for x in later.inputs) and _is_pixel_by_pixel(later, shown.output.shape):
            shown = later
    return shown


def _is_maps(y: Any) -> bool:
    return len(getattr(y, "shape", ())) == 4


def _is_pixel_by_pixel(one: Pass, shape: tuple[int, ...]) -> bool:
    if next(one.layer.children(), None) is not None or getattr(one.output, "shape", None) != shape:
        return False
    try:
        return one.layer.window() is None
    except NotImplementedError:
        return False


def blended(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture (3, h, w) uint8 under its heat (h, w) in 0..1, from clear over blue and yellow to red.

    >>> blended(np.full((3, 1, 2), 200, np.uint8), np.array([[0, 1]]))[0]
    array([[200, 150]], dtype=uint8)
    """
    steps = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(heat, steps, COLOURS[:, i]) for i in range(3)])
    opacity = OPACITY * heat
    return np.rint(picture * (1 - opacity) + colours * opacity).astype(np.uint8)
