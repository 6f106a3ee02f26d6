"""Numbers, arrays, pictures and graphs as the messages that event files are made of."""

from __future__ import annotations

import io
import math
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...nn.flow import Node

__all__ = ["as_bytes", "graph_event", "histogram", "picture", "scalar", "start_event", "summary_event", "tiled"]

BUCKETS = 30
"""As many as TensorBoard's own writers make."""
MOST_TILES, TILE_SIZE = 64, 32
"""Pictures side by side, and the pixels that each has at least."""


def start_event(step: int) -> Any:
    """From here on, what came before and is of this step or a later one does not count."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    return Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))


def summary_event(step: int, values: Sequence[Any]) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Event(wall_time=time.time(), step=step, summary=Summary(value=values))


def scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary.Value(tag=tag, simple_value=value)


def histogram(tag: str, array: np.ndarray[Any, Any]) -> Any:
    """Of the numbers in an array that are finite."""
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    numbers = array[np.isfinite(array)].astype(np.float64)
    counts, edges = np.histogram(numbers, BUCKETS)
    proto = HistogramProto(
        min=numbers.min(initial=math.inf if numbers.size else 0),
        max=numbers.max(initial=-math.inf if numbers.size else 0),
        num=numbers.size,
        sum=numbers.sum(),
        sum_squares=np.square(numbers).sum(),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )
    return Summary.Value(tag=tag, histo=proto)


def tiled(name: str, images: Any) -> np.ndarray[Any, Any]:
    """Images (n, c, h, w) side by side in one (H, W, c) of bytes, with gaps, each pixel so large that they are seen.

    They are bytes as :func:`as_bytes` makes them.
    """
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not array.size or array.dtype.kind not in "fiub":
        raise ValueError(
            f"`{name}` of shape {array.shape}, {array.dtype}, must be pictures (n, c, h, w) of 1 or 3 channels"
        )
    array = as_bytes(array[:MOST_TILES])
    n, c, h, w = array.shape
    scale = max(1, math.ceil(TILE_SIZE / min(h, w)))
    array = array.repeat(scale, axis=2).repeat(scale, axis=3)
    across = math.ceil(math.sqrt(n))
    down = math.ceil(n / across)
    gap, height, width = 2, h * scale, w * scale
    canvas = np.full((down * (height + gap) - gap, across * (width + gap) - gap, c), 128, np.uint8)
    for i, image in enumerate(array):
        y, x = i // across * (height + gap), i % across * (width + gap)
        canvas[y : y + height, x : x + width] = image.transpose(1, 2, 0)
    return canvas


def as_bytes(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Images as uint8, 0..255: bytes as they are.

    Of others 0..1 becomes that or, where some are outside of it, their smallest number to their largest.
    """
    if images.dtype == np.uint8 or not images.size:
        return images.astype(np.uint8, copy=False)
    array = np.nan_to_num(images.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        array = (array - low) / ((high - low) or 1.0)
    return (array * 255).round().astype(np.uint8)


def picture(tag: str, pixels: np.ndarray[Any, Any]) -> Any:
    """Of (h, w, c) bytes, as a PNG file."""
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    height, width, channels = pixels.shape
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(file, "png")
    image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=file.getvalue())
    return Summary.Value(tag=tag, image=image)


def graph_event(nodes: Sequence[Node]) -> Any:
    """The nodes of a model in the folders that their dotted names tell, with the shapes of what they give."""
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    graph = GraphDef(versions=VersionDef(producer=22))
    names = _unique(map(_path, nodes))
    for name, node in zip(names, nodes, strict=True):
        shapes = [TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape]) for shape in node.shapes]
        attributes = {"_output_shapes": AttrValue(list=AttrValue.ListValue(shape=shapes))}
        if node.detail:
            attributes["arguments"] = AttrValue(s=node.detail.encode())
        sources = [f"{names[end.node]}:{end.output}" if end.output else names[end.node] for end in node.sources]
        kind = node.kind or ("Output" if node.sources else "Input")
        graph.node.append(NodeDef(name=name, op=kind, input=sources, attr=attributes))
    return Event(wall_time=time.time(), graph_def=graph.SerializeToString())


def _path(node: Node) -> str:
    """The layer "features.3" of class ReLU is "features/3_ReLU"; what joins the branches in "block" is "block/Add"."""
    parts = node.name.split(".") if node.name else []
    if node.joins:
        parts.append(node.kind)
    elif node.kind:
        parts = [*parts[:-1], "_".join([*parts[-1:], node.kind])]
    return "/".join(re.sub(r"[^\w.-]", "_", part, flags=re.ASCII) for part in parts)


def _unique(names: Any) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        while name in seen:
            seen[name] += 1
            name = f"{name}_{seen[name]}"
        seen[name] = 1
        found.append(name)
    return found
