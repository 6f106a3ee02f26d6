"""What the server answers with: plain values and arrays, of what the browser sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from .session import Picture, Session, as_maps, part_of
from .strokes import centred
from .tables import written_out
from .uploads import MOST_BYTES, UploadError, pixels_of

__all__ = ["Answers"]

MOST_CLASSES = 12
"""That are all listed, in their order; of more the likeliest are."""
LONGEST_SIDE = 1024
"""Of a drawing."""


class Answers:
    """The answers of a session."""

    def __init__(self, session: Session, watches_run: bool) -> None:
        self._session = session
        self._watches_run = watches_run

    def model(self) -> dict[str, Any]:
        """All that the page shows of the model without an image."""
        session, subject = self._session, self._session.subject
        channels, height, width = subject.preprocessing.image_shape
        layers = []
        for name, row in session.rows:
            layer = session.layers.get(name)
            field = row.receptive_field
            layers.append(
                {
                    "name": name,
                    "kind": row.layer,
                    "detail": row.detail,
                    "depth": row.depth,
                    "shape": row.output_shape,
                    "parameters": row.parameters,
                    "multiply_adds": row.flops // 2,
                    "field": None if field is None else [int(length) for length in field.size],
                    "filters": list(layer.weight.shape) if isinstance(layer, nn.Conv2d) else None,
                }
            )
        samples = subject.samples
        return {
            "title": subject.title,
            "note": subject.note,
            "is_trained": subject.is_trained,
            "backend": session.model.backend.device_name(),
            "input": [channels, height, width],
            "classes": subject.classes,
            "layers": layers,
            "last_layer": session.last_layer.name,
            "samples": [] if samples is None else [samples.classes[label] for label in samples.labels],
            "most_bytes": MOST_BYTES,
            # What is drawn is of one channel, and centred as the digits that such models read were.
            "centres": channels == 1 and height == width == 28,
            "watches_run": self._watches_run,
        }

    def file(self, content: bytes, name: str) -> dict[str, Any]:
        """What the model says of an image file."""
        return self._said(pixels_of(content, name, self._session.subject.preprocessing))

    def drawing(self, content: bytes, size: int, centre: bool) -> dict[str, Any]:
        """What it says of a drawing of ``size`` x ``size`` bytes, light on black."""
        if not 1 <= size <= LONGEST_SIDE or len(content) != size * size:
            raise UploadError(f"a drawing of {len(content)} bytes must have size x size, which is {size}", 400)
        channels, height, width = self._session.subject.preprocessing.image_shape
        grey = np.frombuffer(content, np.uint8).reshape(size, size)
        if centre:
            grey = centred(grey, max(height, width))
        return self._said(np.repeat(grey[None], channels, axis=0))

    def sample(self, number: int) -> dict[str, Any]:
        """What it says of an image of its data set, or of one like it."""
        return self._said(self.sample_pixels(number))

    def sample_pixels(self, number: int) -> np.ndarray[Any, Any]:
        """(c, h, w) uint8."""
        samples = self._session.subject.samples
        if samples is None or number >= len(samples):
            raise UploadError(f"there is no sample {number}", 404)
        return np.asarray(samples.images[number])

    def outputs(self, number: int, layer: str, first: int) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Feature maps (n, h, w) from ``first`` on, as many as are sent at once, and what all of them are."""
        values = self._session.outputs(self._session.picture(number), layer)
        maps = as_maps(values)
        part, most = part_of(maps, first)
        return part, {"of": values.shape, "count": len(maps), "first": first, "most": most, **_range(values)}

    def filters(self, layer: str, of_map: int, first: int) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Kernels (n, kh, kw) of a map from ``first`` on, as many as are sent at once."""
        kernels = self._session.filters(layer, of_map)
        part, most = part_of(kernels, first)
        return part, {"count": len(kernels), "first": first, "most": most, **_range(kernels)}

    def heat(self, number: int, target: int) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Grad-CAM for a class, by its number."""
        return self._session.heat(self._session.picture(number), target), {}

    def unit(self, number: int, layer: str, position: Sequence[int]) -> dict[str, Any]:
        """What a unit sees, and its sum as an equation and as tables."""
        found = self._session.unit(self._session.picture(number), layer, position)
        return {
            "value": found.value,
            "kind": found.kind,
            "field": found.field,
            "sum": None if found.sum is None else written_out(found.sum),
        }

    def _said(self, pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        picture: Picture = self._session.show(pixels)
        probabilities = self._session.probabilities(picture)
        named = self._session.named(probabilities)
        ranked = np.argsort(-probabilities, kind="stable").tolist()
        listed = range(len(named)) if len(named) <= MOST_CLASSES else ranked[:MOST_CLASSES]
        return {
            "picture": picture.number,
            "first": ranked[0],
            "classes": [{"index": i, "name": named[i][0], "probability": named[i][1]} for i in listed],
            "milliseconds": 1000 * (time.perf_counter() - started),
        }


def _range(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The smallest and the largest number that is finite."""
    finite = values[np.isfinite(values)]
    return {"low": finite.min() if finite.size else 0.0, "high": finite.max() if finite.size else 0.0}
