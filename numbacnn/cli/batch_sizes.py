"""Batches that a model cannot train on."""

from __future__ import annotations

import math

from .. import nn
from ..command_line import UserError
from ..nn.state import Shapes, as_shapes
from ..sharding import shard_of

__all__ = ["leaves_one_out"]


def leaves_one_out(
    model: nn.Layer,
    shape: tuple[int, ...],
    images: int,
    batch_size: int,
    micro_batch: int | None = None,
    shards: int | None = None,
) -> bool:
    """Whether a last batch of a single image of ``shape`` (1, c, h, w) is to be left out: the model cannot train on it.

    Batch normalisation needs more than one value per channel, in each shard, and in each piece of ``micro_batch``;
    where it is synchronised, there are none of these.
    """
    last = images % batch_size or batch_size
    sizes = {n for n in (batch_size, last) if n <= images}
    alone = {n: option for n in sizes if (option := _cut_to_one(n, micro_batch, shards)) is not None}
    if not alone or not _single_values(model, shape):
        return False
    if batch_size == 1 or images == 1:
        which = "--batch-size 1" if images > 1 else "a single training image"
        raise UserError(f"{which}: batch normalisation needs batches of at least two images")
    if set(alone) != {1}:
        largest = max(alone)
        raise UserError(
            f"{alone[largest]}: batch normalisation needs pieces of at least two images, and a batch of {largest} has "
            "one of a single image"
        )
    return True


def _cut_to_one(images: int, micro_batch: int | None, shards: int | None) -> str | None:
    """The option by which a batch has a piece of a single image; "" if it is one itself, None if there is none."""
    if images == 1:
        return ""
    cuts = [slice(0, images)] if shards is None else [shard_of(images, shards, number) for number in range(shards)]
    sizes = [cut.stop - cut.start for cut in cuts]
    if 1 in sizes:
        return f"--shards {shards}"
    if micro_batch is not None and any(size and (size % micro_batch or micro_batch) == 1 for size in sizes):
        return f"--micro-batch {micro_batch}"
    return None


def _single_values(layer: nn.Layer, shapes: Shapes) -> bool:
    """Whether batch normalisation gets one value per channel of inputs of ``shapes`` somewhere in ``layer``."""
    first, *others = as_shapes(shapes)
    if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)):
        return math.prod(first) == first[1]
    return any(_single_values(child, inner) for _, child, inner in layer.child_inputs(first, *others))
