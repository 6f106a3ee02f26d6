"""Where in an image a model sees a class, by Grad-CAM (Selvaraju et al. 2017, "Visual explanations")."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn import nn, ops
from numbacnn.files import replacing

__all__ = ["blended", "grad_cam", "save_picture", "split"]

COLOURS = np.array([[0, 0, 128], [0, 128, 255], [255, 255, 0], [255, 0, 0], [128, 0, 0]], np.float32)
"""Of heat 0, 1/4, 1/2, 3/4 and 1: red, green, blue in 0..255."""
OPACITY = 0.7
"""Of the colour where the heat is 1; the picture is clear where it is 0."""


def grad_cam(model: nn.Sequential, x: Any, target: int) -> np.ndarray:
    """Heat in 0..1 of each pixel of one image: how much what is seen there speaks for the class ``target``.

    The feature maps of the last convolution are added up, each times the mean of the gradient that the score of the
    class has in it; what is below 0 speaks for other classes. The sum is brought to the size of the image, and its
    largest number to 1. Afterwards the model is in evaluation mode.

    Args:
        model: gives scores (1, classes), before any softmax.
        x: (1, c, h, w).
        target: the number of the class.

    Returns:
        (h, w) float32; zeros where nothing speaks for the class.

    Raises:
        ValueError: the model is no chain of layers with a `Conv2d` in it.
    """
    body, head = split(model.eval(), x.shape)
    features = body.predict(x)
    with nn.enable_grad():
        scores = head(features)
        gradient = np.zeros(scores.shape, np.float32)
        gradient[0, target] = 1
        gradient = np.asarray(head.backward(gradient))
    model.drop_saved()
    model.zero_grad()
    weights = gradient.mean(axis=(2, 3), keepdims=True)
    heat = np.maximum((weights * np.asarray(features)).sum(axis=1, keepdims=True), 0)
    heat = np.asarray(ops.interpolate2d(heat, x.shape[2:], mode="bilinear", backend="reference"))[0, 0]
    return (heat / (heat.max() or 1)).astype(np.float32)


def split(model: nn.Sequential, shape: tuple[int, ...]) -> tuple[nn.Sequential, nn.Sequential]:
    """What makes the feature maps of the last convolution of images of ``shape``, and what makes the scores of them.

    The norm and the activation after the convolution belong to the first. The layers are those of ``model``.
    """
    chain = list(_chain(model))
    end = max((i + 1 for i, layer in enumerate(chain) if _has_convolution(layer)), default=0)
    if not end:
        raise ValueError(f"the model must be a Sequential with a Conv2d in it, not {type(model).__name__}")
    for layer in chain[:end]:
        shape = layer.output_shape(shape)
    while end < len(chain) and not list(chain[end].children()) and chain[end].window() is None:
        if chain[end].output_shape(shape) != shape:
            break
        end += 1
    return nn.Sequential(*chain[:end]), nn.Sequential(*chain[end:])


def _chain(layer: nn.Layer) -> Iterator[nn.Layer]:
    """The layers that run one after the other."""
    if type(layer) is nn.Sequential:
        for child in layer:
            yield from _chain(child)
    else:
        yield layer


def _has_convolution(layer: nn.Layer) -> bool:
    return any(isinstance(inner, nn.Conv2d) for inner in layer.layers())


def blended(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture (3, h, w) uint8 under its heat (h, w) in 0..1, from clear over blue and yellow to red."""
    steps = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(heat, steps, COLOURS[:, i]) for i in range(3)])
    opacity = OPACITY * heat
    return np.rint(picture * (1 - opacity) + colours * opacity).astype(np.uint8)


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write (3, h, w) uint8 as a PNG file, whole or not at all."""
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(temporary, format="PNG")
