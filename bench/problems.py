"""The convolutions that are measured, one line each; the tests check the same lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from numbacnn import nn, ops
from numbacnn.backends import Array, Backend, use_backend
from numbacnn.backends.geometry import Conv2dGeometry

from .train_contenders import MODELS

__all__ = ["CONV2D", "OF_MODELS", "convolutions", "flops", "laid_out", "lists_for", "of_models", "parse"]

# n c h [w] k r [rw] s [sw] p [pb pw pr] [d dw] [g]: see Conv2dGeometry.descriptor.
CONV2D: dict[str, tuple[str, ...]] = {
    # LeNet's two layers at the batch size it is trained with
    "lenet": (
        "n256c1h28k6r5s1p2",
        "n256c6h14k16r5s1p0",
    ),
    # one of each kind, in the sizes of small networks
    "kinds": (
        "n8c64h28k128r1s1p0",  # 1x1
        "n4c64h24k64r3s1p1",  # 3x3
        "n8c64h28k64r3s2p1",  # 3x3, stride 2
        "n8c32h20k32r5s1p2",  # 5x5
        "n16c64h28k64r3s1p1g64",  # depthwise
        "n8c64h28k64r3s1p1g4",  # grouped
        "n16c17h27k17r3s1p1",  # channels that fill no vector
        "n8c32h28k32r3s1p2d2",  # dilated
        "n4c1h224k96r11s4p0",  # a first layer: few channels, a large kernel, a long stride
    ),
    # depthwise from few channels of large maps to many of small ones
    "depthwise": (
        "n8c8h112k8r3s1p1g8",
        "n8c32h112k32r3s1p1g32",
        "n8c64h56k64r3s2p1g64",
        "n8c128h28k128r5s1p2g128",
        "n16c256h14k256r3s1p1g256",
        "n16c512h7k512r3s1p1g512",
        "n16c512h3k512r3s1p1g512",
        "n1c96h56k96r3s1p1g96",
    ),
    # the 3x3 layers of deep networks at a batch that fills a GPU, with as many products in each
    "wide": (
        "n32c64h56k64r3s1p1",
        "n32c128h28k128r3s1p1",
        "n32c256h14k256r3s1p1",
        "n32c512h7k512r3s1p1",
    ),
    # the layers of ResNet-18 and VGG-11 as they were published, but for the first ones, with 128 images; of the largest
    # maps with as many as have 13 million outputs, since all results are compared on the host
    "deep": (
        "n128c64h56k64r3s1p1",
        "n128c128h28k128r3s1p1",
        "n128c256h14k256r3s1p1",
        "n128c512h7k512r3s1p1",
        "n128c64h56k128r3s2p1",
        "n128c256h14k512r3s2p1",
        "n128c64h56k128r1s2p0",
        "n128c512h14k512r3s1p1",
        "n32c512h28k512r3s1p1",
        "n16c256h56k256r3s1p1",
        "n8c64h112k128r3s1p1",
    ),
}
"""Lists of descriptors by name."""

OF_GPU = ("wide", "deep")
"""Lists that would take a CPU minutes."""

OF_MODELS = "models"
"""The name of the list that :func:`of_models` makes."""


def lists_for(backend: str) -> list[str]:
    """The lists that are measured on a backend when none is asked for."""
    return [name for name in CONV2D if name not in OF_GPU or backend == "cuda"]


def parse(descriptor: str) -> Conv2dGeometry:
    """The geometry of a descriptor that can be measured.

    Raises ValueError, with the descriptor, for one that is malformed, contradicts itself or has nothing to compute.

    >>> parse("n256c1h28k6r5s1p2").y_shape
    (256, 6, 28, 28)
    """
    try:
        g = Conv2dGeometry.parse(descriptor)
        if g.groups < 1 or g.n < 1:
            raise ValueError("the batch `n` and the groups `g` must be at least 1")
        if max(dataclasses.astuple(g)) >= 1 << 31:
            raise ValueError("every number must be below 2**31")
        ops.conv2d_geometry(
            g.x_shape, g.weight_shape, (g.sh, g.sw), ((g.pt, g.pb), (g.pl, g.pr)), (g.dh, g.dw), g.groups
        )
    except ValueError as error:
        raise ValueError(f"problem {descriptor!r}: {error}") from error
    return g


def flops(g: Conv2dGeometry) -> int:
    """Operations of a pass, two for each product with an element of the image; padding takes none.

    >>> flops(parse("n1c1h3k1r3s1p1")), 2 * parse("n1c1h3k1r3s1p1").macs
    (98, 162)
    """
    rows = _inside(g.h, g.oh, g.kh, g.sh, g.dh, g.pt)
    columns = _inside(g.w, g.ow, g.kw, g.sw, g.dw, g.pl)
    return 2 * g.n * g.k * (g.c // g.groups) * rows * columns


def _inside(size: int, outputs: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Along one direction, pairs of an output and a tap that meet an element of the image."""
    places = (output * stride + tap * dilation - padding for output in range(outputs) for tap in range(kernel))
    return sum(0 <= place < size for place in places)


def of_models(batch_size: int) -> list[str]:
    """The convolutions of all models on so many of the images that they are trained on, each geometry once."""
    found: dict[str, None] = {}
    for model in MODELS.values():
        with use_backend("reference"):
            network = model.ours()
        found.update(dict.fromkeys(g.descriptor for g in convolutions(network, (batch_size, *model.image_shape))))
    return list(found)


def convolutions(layer: nn.Layer, shape: tuple[int, ...]) -> Iterator[Conv2dGeometry]:
    """The convolutions within a layer for an input of ``shape``, in the layers' order.

    >>> model = nn.Sequential(nn.Conv2d(1, 6, 5), nn.Concat(nn.Identity(), nn.Conv2d(6, 2, 3, padding=1)))
    >>> [g.descriptor for g in convolutions(model, (4, 1, 12, 12))]
    ['n4c1h12k6r5s1p0', 'n4c6h8k2r3s1p1']
    """
    if isinstance(layer, nn.Conv2d):
        yield layer.geometry(shape)
    for _, child, child_shape in layer.child_inputs(shape):
        yield from convolutions(child, child_shape)


def laid_out(backend: Backend, images: Any) -> Array:
    """Images of NumPy as the backend lays those that it makes: what its kernels get between the layers of a model."""
    laid = backend.empty(images.shape, images.dtype)
    backend.assign(laid, backend.asarray(images))
    return laid
