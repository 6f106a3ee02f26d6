"""What the page asks for: what a model says of an image, what its layers give, what it looked at."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import explain, nn, ops
from ..classifier import Named
from ..data import ArrayDataset, Preprocessing
from ..drawing import draw
from ..nn.flow import flow
from ..nn.summary import Row, summary

__all__ = ["NoLongerKept", "Picture", "Session", "Subject", "as_maps", "part_of"]

KEPT_PICTURES = 16
KEPT_OUTPUTS = 8
MOST_SHOWN = 1 << 19
"""Numbers of feature maps, or of filters, that are sent at once."""
MOST_MAPS = 32


class NoLongerKept(LookupError):  # noqa: N818  a page that was left open, not a fault
    """A picture that gave way to later ones."""


@dataclass(frozen=True)
class Subject:
    """The model that is shown, and what has to be said of it.

    ``title`` names it; ``note`` says where its weights come from; ``is_trained`` whether what it says means anything.
    """

    title: str
    note: str
    is_trained: bool
    model: nn.Layer
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    samples: ArrayDataset | None

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the input, of one image."""
        return (1, *self.preprocessing.image_shape)


@dataclass(frozen=True)
class Picture:
    """An image as the model reads it: ``pixels`` (c, h, w) uint8, ``x`` (1, c, h, w) as they are normalised."""

    number: int
    pixels: np.ndarray[Any, Any]
    x: np.ndarray[Any, Any]


class Session:
    """A model, and the images that it was last shown. Threads may ask at once, and are answered one by one."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.model = subject.model.eval()
        self.layers = dict(reversed(self.model.named_layers()))
        self.computing = threading.Lock()
        """Held while something is computed: the kernels use all cores, and layers remember."""
        # What comes here was cut already where it was read, if it is to be.
        self._whole = replace(subject.preprocessing, crop_pct=1.0)
        self._numbers = itertools.count(1)
        self._pictures: OrderedDict[int, Picture] = OrderedDict()
        self._outputs: OrderedDict[tuple[int, str], np.ndarray[Any, Any]] = OrderedDict()
        self.graph = draw(self.model, subject.shape).svg
        nodes = flow(self.model, subject.shape)
        self.last_layer = nodes[nodes[-1].sources[0].node]
        self.rows = _named_rows(summary(self.model, subject.shape).rows)

    # Images.

    def show(self, pixels: np.ndarray[Any, Any]) -> Picture:
        """Keep an image (c, h, w) uint8, brought to the model's size; the oldest one is given up for it."""
        with self.computing:
            read = self._whole.read(pixels)
            picture = Picture(next(self._numbers), read[0], self._whole(read))
            self._pictures[picture.number] = picture
            while len(self._pictures) > KEPT_PICTURES:
                self._pictures.popitem(last=False)
            return picture

    def picture(self, number: int) -> Picture:
        """One of those that were shown last; NoLongerKept for others."""
        try:
            return self._pictures[number]
        except KeyError:
            raise NoLongerKept(f"picture {number} is no longer kept: show it again") from None

    # What is computed.

    def probabilities(self, picture: Picture) -> np.ndarray[Any, Any]:
        """(classes,) float32: the softmax of what the model gives, unless that is the output of one already."""
        with self.computing:
            scores = self.model.predict(picture.x)
            if self.last_layer.kind != "Softmax":
                scores = ops.softmax(scores, 1, backend=self.model.backend)
            return np.asarray(self.model.backend.to_numpy(scores))[0]

    def named(self, probabilities: np.ndarray[Any, Any]) -> Named:
        """All classes with their probabilities, in the order of the outputs."""
        return list(zip(self.subject.classes, map(float, probabilities), strict=True))

    def outputs(self, picture: Picture, layer: str) -> np.ndarray[Any, Any]:
        """What the layer gives for the image, without the axis of the batch.

        ValueError for a layer that the model does not have, or that gives several outputs.
        """
        key = picture.number, layer
        with self.computing:
            if key not in self._outputs:
                found = nn.outputs(self.model, picture.x, [layer])[layer]
                if isinstance(found, tuple):
                    raise ValueError(f"layer {layer!r} gives several outputs, and one can be shown")
                self._outputs[key] = np.asarray(self.model.backend.to_numpy(found))[0]
                while len(self._outputs) > KEPT_OUTPUTS:
                    self._outputs.popitem(last=False)
            self._outputs.move_to_end(key)
            return self._outputs[key]

    def heat(self, picture: Picture, target: int) -> np.ndarray[Any, Any]:
        """Grad-CAM: (h, w) in 0..1, where the model sees the class ``target``."""
        with self.computing:
            return explain.grad_cam(self.model, picture.x, target)

    def unit(self, picture: Picture, layer: str, position: Sequence[int]) -> explain.Unit:
        """How one number of what the layer gives comes about."""
        with self.computing:
            return explain.unit(self.model, picture.x, layer, tuple(position))

    def filters(self, layer: str, of_map: int) -> np.ndarray[Any, Any]:
        """The kernels (k, kh, kw) of a `Conv2d` for its output map ``of_map``, one for each map that it reads."""
        found = self.layers.get(layer)
        if not isinstance(found, nn.Conv2d):
            raise ValueError(f"layer {layer!r} must be a Conv2d to have filters")
        weight = np.asarray(found.backend.to_numpy(found.weight.value))
        if not 0 <= of_map < len(weight):
            raise ValueError(f"map {of_map} must be in 0..{len(weight) - 1}")
        return weight[of_map]


def as_maps(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a layer gives as maps (n, h, w): a vector is one map of a row, further axes are taken together."""
    if values.ndim < 2:
        return values.reshape(1, 1, -1)
    return values.reshape(-1, *values.shape[-2:])


def part_of(maps: np.ndarray[Any, Any], first: int) -> tuple[np.ndarray[Any, Any], int]:
    """Of maps (n, h, w) those from ``first`` on that are sent at once, and how many these are at most."""
    if not 0 <= first < len(maps):
        raise ValueError(f"first {first} must be in 0..{len(maps) - 1}")
    each = max(1, maps.shape[1] * maps.shape[2])
    most = max(1, min(MOST_MAPS, MOST_SHOWN // each))
    return maps[first : first + most], most


def _named_rows(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Each row with the dotted name of its layer."""
    path: list[str] = []
    found = []
    for row in rows:
        path[row.depth :] = [row.name]
        found.append((".".join(filter(None, path)), row))
    return found
