"""Bands: the padded rows of images, or whole padded images, that one core works on while they lie in its cache."""

from __future__ import annotations

from ...geometry import Conv2dGeometry
from ..runtime.kernel import compiled_microkernel, inlined
from ..runtime.microkernel import ELEMENTS, INTEGER, calling
from ..vector.simd import clear, copy_run, flattened

__all__ = ["extent", "lay_band", "lay_positions", "laying", "unevenness"]


@compiled_microkernel(ELEMENTS, *(INTEGER,) * 10, ELEMENTS)
def laying(x, start, h, w, distance, images, channels, pitch, top, rows, left, width, band, at):
    """What :func:`lay_band` does: on its own, not as a part of each kernel that calls it, of which it would be most."""
    begin = min(max(0, -left), width)
    end = max(begin, min(width, w - left))
    for n in range(images):
        for row in range(top, top + rows):
            if row < 0 or row >= h or end == begin:
                clear(band, at, at + width * pitch)
            else:
                clear(band, at, at + begin * pitch)
                source, target = start + ((n * h + row) * w + left + begin) * distance, at + begin * pitch
                if channels == distance and channels == pitch:
                    copy_run(band, target, x, source, (end - begin) * pitch)
                else:
                    for _ in range(begin, end):
                        copy_run(band, target, x, source, channels)
                        clear(band, target + channels, target + pitch)
                        source += distance
                        target += pitch
                clear(band, at + end * pitch, at + width * pitch)
            at += width * pitch


_lay = calling(laying.kinds)


@inlined
def lay_band(microkernel, x, image, images, first_channel, channels, pitch, top, rows, left, width, band):
    """band[image, row, column, c] = x[.., top + row, left + column, first_channel + c], zero outside of the image.

    x is (n, h, w, c); columns are ``pitch`` apart in the band, zeros behind their ``channels``. ``microkernel`` is
    :data:`laying`.
    """
    h, w, distance = x.shape[1], x.shape[2], x.shape[3]
    _lay(
        microkernel, flattened(x), image * h * w * distance + first_channel, h, w, distance, images, channels, pitch,
        top, rows, left, width, band, 0,
    )  # fmt: skip


@inlined
def lay_positions(places, images, rows, columns, image_step, row_step, column_step, padded):
    """places[(image, row, column)] = where that output's window begins; the last one again up to ``padded``."""
    at = 0
    for image in range(images):
        for row in range(rows):
            for column in range(columns):
                places[at] = image * image_step + row * row_step + column * column_step
                at += 1
    for i in range(at, padded):
        places[i] = places[at - 1]


# Plans are made for so many cores, whatever there are: a result is the same bits for any number of threads.
CORES = 2


def unevenness(*chunks: tuple[int, float]) -> float:
    """How much longer chunks, (number, size) of each kind, take than if all cores shared them evenly; 1 for none."""
    loads = [0.0] * CORES
    for number, size in sorted(chunks, key=lambda kind: -kind[1]):
        each, more = divmod(number, CORES)
        loads = sorted(load + each * size for load in loads)
        loads = [load + size * (core < more) for core, load in enumerate(loads)]
    return max(loads) * CORES / sum(loads) if any(loads) else 1.0


def extent(g: Conv2dGeometry, rows: int) -> tuple[int, int]:
    """Rows and columns of padded x under so many output rows."""
    return (rows - 1) * g.sh + (g.kh - 1) * g.dh + 1, (g.ow - 1) * g.sw + (g.kw - 1) * g.dw + 1
