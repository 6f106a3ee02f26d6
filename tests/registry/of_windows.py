"""Convolutions of lines and transposed ones, pooling of lines, adaptive pooling, power-average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbacnn import nn

from . import Case, Entry
from .drawing import flip, one_of

__all__ = ["ENTRIES"]


def _convolution(name: str) -> Entry:
    """With ``output_padding`` where it is a transposed one, which is smaller than the stride or the dilation."""
    axes, transposed = int(name[-2]), "Transpose" in name

    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        def each(*values: int) -> Any:
            """For one axis or both, often alike for both."""
            drawn = tuple(one_of(rng, *values) for _ in range(axes))
            return one_of(rng, drawn[0], drawn)

        groups = one_of(rng, 1, 1, 2, 3)
        settings: dict[str, Any] = {
            "in_channels": groups * one_of(rng, 1, 2),
            "out_channels": groups * one_of(rng, 1, 2, 5),
            "kernel_size": each(2, 3, 4),
            "stride": each(1, 2, 3),
            "padding": each(0, 1),
            "dilation": each(1, 2),
            "groups": groups,
            "bias": flip(rng),
        }
        if transposed:
            stride, dilation = (np.broadcast_to(settings[each], axes) for each in ("stride", "dilation"))
            most = np.maximum(stride, dilation)
            settings["output_padding"] = tuple(int(rng.integers(0, size)) for size in most)
        else:
            settings["padding_mode"] = one_of(rng, "zeros", "reflect", "replicate", "circular")
        sizes = (one_of(rng, 1, 2, 4), 3)[-axes:] if transposed else (9, 10)[-axes:]
        x = rng.standard_normal((one_of(rng, 1, 3), settings["in_channels"], *sizes)).astype(dtype)
        return Case(
            lambda: getattr(nn, name)(**settings, dtype=dtype),
            (x,),
            lambda torch: getattr(torch.nn, name)(**settings),
        )

    return Entry(name, draw)


ENTRIES = [*map(_convolution, ("Conv1d", "ConvTranspose1d", "ConvTranspose2d"))]
