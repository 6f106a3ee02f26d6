"""Convolution as it is defined: a thread for each element of the result, loops over what it sums.

There is nothing to set up and nothing shared, which suits layers where each output sums little: depthwise ones, and
tiny problems. Neighbouring threads read neighbouring pixels and the same weights, from the caches.

roofline: 2 n k oh ow taps operations, each with two loads; bound by the loads, whatever the caches give.
"""

from __future__ import annotations

from ...contract import Activation
from ...geometry import Conv2dGeometry
from ...shared.activations import ACTIVATIONS
from ..block.pointwise import activate
from ..runtime.device_array import DeviceArray, new
from ..runtime.kernel import kernel
from ..runtime.target import quotient, scalar

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]

RUN = 32


@kernel
def _forward_elements(i, x, weight, bias, y, sizes, window):
    channels, in_channels, out_channels, h, w, oh, ow, has_bias, activation = sizes
    kh, kw, sh, sw, pt, pl, dh, dw, groups = window
    line = quotient(i, ow)
    column = (i - line * ow) * sw - pl
    plane = quotient(line, oh)
    row = (line - plane * oh) * sh - pt
    n = quotient(plane, out_channels)
    k = plane - n * out_channels
    first = n * in_channels + quotient(k, quotient(out_channels, groups)) * channels
    total = scalar(y, 0)
    for c in range(channels):
        for u in range(kh):
            down = row + u * dh
            if down >= 0 and down < h:
                start = ((first + c) * h + down) * w + column
                place = ((k * channels + c) * kh + u) * kw
                for v in range(kw):
                    across = column + v * dw
                    if across >= 0 and across < w:
                        total += weight[place + v] * x[start + v * dw]
    if has_bias:
        total += bias[k]
    y[i] = activate(activation, total, y)


@kernel
def _backward_input_elements(i, dy, weight, dx, sizes, window):
    channels, in_channels, out_channels, h, w, oh, ow, _, _ = sizes
    kh, kw, sh, sw, pt, pl, dh, dw, groups = window
    line = quotient(i, w)
    column = i - line * w + pl
    plane = quotient(line, h)
    row = line - plane * h + pt
    n = quotient(plane, in_channels)
    channel = plane - n * in_channels
    group = quotient(channel, channels)
    c = channel - group * channels
    size = quotient(out_channels, groups)
    total = scalar(dx, 0)
    for k in range(group * size, (group + 1) * size):
        for u in range(kh):
            down = row - u * dh
            q = quotient(down, sh) if down >= 0 else oh
            if q < oh and q * sh == down:
                start = ((n * out_channels + k) * oh + q) * ow
                place = ((k * channels + c) * kh + u) * kw
                for v in range(kw):
                    across = column - v * dw
                    r = quotient(across, sw) if across >= 0 else ow
                    if r < ow and r * sw == across:
                        total += weight[place + v] * dy[start + r]
    dx[i] = total


@kernel
def _backward_weight_elements(i, dy, x, dweight, images, sizes, window):
    """RUN neighbours are summed in the dtype, their sums in float64: a weight may sum millions of products."""
    channels, in_channels, out_channels, h, w, oh, ow, _, _ = sizes
    kh, kw, sh, sw, pt, pl, dh, dw, groups = window
    line = quotient(i, kw)
    column = (i - line * kw) * dw - pl
    pair = quotient(line, kh)
    row = (line - pair * kh) * dh - pt
    k = quotient(pair, channels)
    channel = quotient(k, quotient(out_channels, groups)) * channels + pair - k * channels
    total = 0.0
    for n in range(images):
        for q in range(oh):
            down = row + q * sh
            if down >= 0 and down < h:
                start = ((n * in_channels + channel) * h + down) * w + column
                place = ((n * out_channels + k) * oh + q) * ow
                for run in range(0, ow, RUN):
                    run_sum = scalar(dweight, 0)
                    for r in range(run, min(run + RUN, ow)):
                        across = column + r * sw
                        if across >= 0 and across < w:
                            run_sum += dy[place + r] * x[start + r * sw]
                    total += run_sum
    dweight[i] = total


def forward(
    x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, g: Conv2dGeometry, activation: Activation
) -> DeviceArray:
    y = new(g.y_shape, x.dtype)
    sizes = (*_sizes(g), int(bias is not None), ACTIVATIONS[activation])
    _forward_elements(y.size, x, weight, y if bias is None else bias, y, sizes, _window(g))
    return y


def backward_input(dy: DeviceArray, weight: DeviceArray, g: Conv2dGeometry) -> DeviceArray:
    dx = new(g.x_shape, dy.dtype)
    _backward_input_elements(dx.size, dy, weight, dx, (*_sizes(g), 0, 0), _window(g))
    return dx


def backward_weight(dy: DeviceArray, x: DeviceArray, dweight: DeviceArray, g: Conv2dGeometry) -> None:
    _backward_weight_elements(dweight.size, dy, x, dweight, g.n, (*_sizes(g), 0, 0), _window(g))


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    return 0


def _sizes(g: Conv2dGeometry) -> tuple[int, ...]:
    return g.c // g.groups, g.c, g.k, g.h, g.w, g.oh, g.ow


def _window(g: Conv2dGeometry) -> tuple[int, ...]:
    return g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw, g.groups
