"""Sliding windows, one kernel tap at a time: what convolution and pooling share."""

from __future__ import annotations

from ..contract import Array
from ..geometry import Conv2dGeometry, Pool2dGeometry

__all__ = ["tap_view"]


def tap_view(padded: Array, i: int, j: int, geometry: Conv2dGeometry | Pool2dGeometry) -> Array:
    """What tap (i, j) of the window meets at every output position: a view (..., oh, ow) of the padded image."""
    g = geometry
    top, left = i * g.dh, j * g.dw
    return padded[..., top : top + (g.oh - 1) * g.sh + 1 : g.sh, left : left + (g.ow - 1) * g.sw + 1 : g.sw]
