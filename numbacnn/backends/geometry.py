"""The sizes of one windowed operation, worked out once and handed to every backend.

A geometry is also a problem descriptor: ``n16c64h24k64r3s1p1`` is batch 16, 64 channels, a 24x24 image, 64 output
channels, a 3x3 kernel, stride 1, padding 1. Tests and benchmarks share these lines.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, fields
from typing import NamedTuple

__all__ = [
    "AdaptivePool2dGeometry",
    "Conv2dGeometry",
    "Pool2dGeometry",
    "Resampling",
    "round_up",
    "window_output_size",
]


def round_up(count: int, multiple: int) -> int:
    """The least multiple that is not below ``count``."""
    return -(-count // multiple) * multiple


def window_output_size(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """Number of window positions along one axis: ``floor((size + before + after - extent) / stride) + 1``.

    ``extent`` is ``dilation * (kernel - 1) + 1``. With ``ceil_mode`` the division rounds up, but a last window that
    would start in the padding after the image is dropped. The result is at most 0 where the window does not fit.
    """
    room = size + before + after - (dilation * (kernel - 1) + 1)
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    if (count - 1) * stride >= size + before:
        count -= 1
    return count


class _HashedOnce:
    """Of a frozen dataclass of integers, by which what is known of a layer is looked up at each call."""

    @functools.cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in fields(self)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Conv2dGeometry(_HashedOnce):
    """Two-dimensional convolution: x (n, c, h, w), weight (k, c // groups, kh, kw), y (n, k, oh, ow).

    ``pt, pb, pl, pr`` are the rows of zeros above and below and the columns left and right.
    """

    n: int
    c: int
    h: int
    w: int
    k: int
    kh: int
    kw: int
    sh: int = 1
    sw: int = 1
    pt: int = 0
    pb: int = 0
    pl: int = 0
    pr: int = 0
    dh: int = 1
    dw: int = 1
    groups: int = 1

    def __hash__(self) -> int:
        return self._hash

    @property
    def oh(self) -> int:
        return window_output_size(self.h, self.kh, self.sh, self.pt, self.pb, self.dh)

    @property
    def ow(self) -> int:
        return window_output_size(self.w, self.kw, self.sw, self.pl, self.pr, self.dw)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.h, self.w)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return (self.k, self.c // self.groups, self.kh, self.kw)

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.k, self.oh, self.ow)

    @property
    def taps(self) -> int:
        """Products summed into one output: the reduction length of the forward pass."""
        return self.c // self.groups * self.kh * self.kw

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass, padding counted as data; each gradient costs the same."""
        return self.n * self.k * self.oh * self.ow * self.taps

    @property
    def is_pointwise(self) -> bool:
        """True for a 1x1 kernel with stride 1 and no padding: the image is its own column matrix."""
        return (self.kh, self.kw, self.sh, self.sw) == (1, 1, 1, 1) and (self.pt, self.pb, self.pl, self.pr) == (
            0,
            0,
            0,
            0,
        )

    @classmethod
    def parse(cls, descriptor: str) -> Conv2dGeometry:
        """The geometry of a one-line descriptor; see :attr:`descriptor` for the letters."""
        fields = dict(re.findall(r"([a-z]+)(\d+)", descriptor))
        if "".join(f"{name}{value}" for name, value in fields.items()) != descriptor or not set(fields) <= set(
            _LETTERS
        ):
            raise ValueError(
                f"`descriptor` {descriptor!r} must be letter-number fields, each once, out of {', '.join(_LETTERS)}"
            )
        missing = [name for name in ("n", "c", "h", "k", "r") if name not in fields]
        if missing:
            raise ValueError(f"`descriptor` {descriptor!r} lacks the fields {', '.join(missing)}")
        value = {name: int(text) for name, text in fields.items()}
        stride, padding, dilation = value.get("s", 1), value.get("p", 0), value.get("d", 1)
        across = value.get("pw", padding)
        return cls(
            n=value["n"],
            c=value["c"],
            h=value["h"],
            w=value.get("w", value["h"]),
            k=value["k"],
            kh=value["r"],
            kw=value.get("rw", value["r"]),
            sh=stride,
            sw=value.get("sw", stride),
            pt=padding,
            pb=value.get("pb", padding),
            pl=across,
            pr=value.get("pr", across),
            dh=dilation,
            dw=value.get("dw", dilation),
            groups=value.get("g", 1),
        )

    @property
    def descriptor(self) -> str:
        """One line that names the problem: n c h [w] k r [rw] s [sw] p [pb pw pr] [d dw] [g], defaults left out."""
        parts = [f"n{self.n}c{self.c}h{self.h}"]
        parts += [f"w{self.w}"] * (self.w != self.h)
        parts += [f"k{self.k}r{self.kh}"]
        parts += [f"rw{self.kw}"] * (self.kw != self.kh)
        parts += [f"s{self.sh}"]
        parts += [f"sw{self.sw}"] * (self.sw != self.sh)
        parts += [f"p{self.pt}"]
        parts += [f"pb{self.pb}"] * (self.pb != self.pt)
        parts += [f"pw{self.pl}"] * (self.pl != self.pt)
        parts += [f"pr{self.pr}"] * (self.pr != self.pl)
        parts += [f"d{self.dh}"] * ((self.dh, self.dw) != (1, 1))
        parts += [f"dw{self.dw}"] * (self.dw != self.dh)
        parts += [f"g{self.groups}"] * (self.groups != 1)
        return "".join(parts)


_LETTERS = ("n", "c", "h", "w", "k", "r", "rw", "s", "sw", "p", "pb", "pw", "pr", "d", "dw", "g")


@dataclass(frozen=True)
class Pool2dGeometry(_HashedOnce):
    """Two-dimensional pooling: x (n, c, h, w), y (n, c, oh, ow); the letters of :class:`Conv2dGeometry`."""

    n: int
    c: int
    h: int
    w: int
    kh: int
    kw: int
    sh: int
    sw: int
    pt: int = 0
    pb: int = 0
    pl: int = 0
    pr: int = 0
    dh: int = 1
    dw: int = 1
    ceil_mode: bool = False

    def __hash__(self) -> int:
        return self._hash

    @property
    def oh(self) -> int:
        return window_output_size(self.h, self.kh, self.sh, self.pt, self.pb, self.dh, self.ceil_mode)

    @property
    def ow(self) -> int:
        return window_output_size(self.w, self.kw, self.sw, self.pl, self.pr, self.dw, self.ceil_mode)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.h, self.w)

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.oh, self.ow)


@dataclass(frozen=True)
class AdaptivePool2dGeometry(_HashedOnce):
    """Pooling to an image of oh x ow whatever x is: the windows are those of ``shared.windows.adaptive_window``."""

    n: int
    c: int
    h: int
    w: int
    oh: int
    ow: int

    def __hash__(self) -> int:
        return self._hash

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.h, self.w)

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.oh, self.ow)


class Resampling(NamedTuple):
    """How one axis of images is resampled: ``outputs`` points along ``size`` pixels, of which there is at least one.

    ``mode`` is ``"nearest"`` or ``"linear"``; with ``align_corners``, which is for the latter, the outer points are at
    the centres of the outer pixels. ``scale`` is how many points there are to a pixel, where that is not
    ``outputs / size``, and 0 where it is. ``shared/resampling.py`` has the rules.
    """

    size: int
    outputs: int
    mode: str
    align_corners: bool = False
    scale: float = 0.0
