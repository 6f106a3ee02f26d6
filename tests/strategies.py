"""Hypothesis draws of convolution and pooling problems: ragged, lopsided, smaller than their window."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numba.core import config

from numbacnn.backends.geometry import AdaptivePool2dGeometry, Conv2dGeometry, Pool2dGeometry

SIMULATED = bool(config.ENABLE_CUDASIM)
"""Whether the cuda backend runs in the simulator, where a kernel takes a millisecond and more."""

IN_PYTHON = SIMULATED or bool(config.DISABLE_JIT)
"""Whether kernels run as the Python that they are written in."""

CHECKS = settings(max_examples=4 if IN_PYTHON else 30, deadline=None)

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from((np.float32, np.float64))
DTYPES = (np.float32,) if IN_PYTHON else (np.float32, np.float64)
"""Of the listed cases; Python takes the same way through a kernel for both, and drawn cases have either."""
channels = st.sampled_from((1, 2, 3, 5))


@st.composite
def _axis(draw: st.DrawFn, max_dilation: int, half_kernel: bool) -> dict[str, int]:
    """One axis of a window that fits: padding up to half the window or beyond it, then an image from 1 pixel up."""
    kernel = draw(st.integers(1, 4))
    dilation = draw(st.integers(1, max_dilation))
    extent = dilation * (kernel - 1) + 1
    before, after = draw(st.tuples(*[st.integers(0, extent // 2 if half_kernel else 3)] * 2))
    smallest = max(1, extent - before - after)
    return {
        "size": draw(st.integers(smallest, smallest + 4)),
        "kernel": kernel,
        "stride": draw(st.integers(1, 3)),
        "before": before,
        "after": after,
        "dilation": dilation,
    }


@st.composite
def conv2d_geometries(draw: st.DrawFn, min_batch: int = 1) -> Conv2dGeometry:
    """Any convolution: plain, grouped or depthwise."""
    c, k, groups = draw(
        st.one_of(
            st.tuples(channels, channels, st.just(1)),
            st.tuples(st.integers(2, 3), st.integers(1, 2), st.integers(1, 2)).map(
                lambda g: (g[0] * g[1], g[0] * g[2], g[0])
            ),
            st.tuples(channels, st.integers(1, 2)).map(lambda d: (d[0], d[0] * d[1], d[0])),
        )
    )
    rows, columns = draw(_axis(max_dilation=2, half_kernel=False)), draw(_axis(max_dilation=2, half_kernel=False))
    return Conv2dGeometry(
        n=draw(st.integers(min_batch, 2)),
        c=c,
        h=rows["size"],
        w=columns["size"],
        k=k,
        kh=rows["kernel"],
        kw=columns["kernel"],
        sh=rows["stride"],
        sw=columns["stride"],
        pt=rows["before"],
        pb=rows["after"],
        pl=columns["before"],
        pr=columns["after"],
        dh=rows["dilation"],
        dw=columns["dilation"],
        groups=groups,
    )


@st.composite
def pool2d_geometries(draw: st.DrawFn, min_batch: int = 1, max_dilation: int = 1) -> Pool2dGeometry:
    """Any pooling; with dilation some windows see padding alone."""
    rows, columns = draw(st.tuples(*[_axis(max_dilation=max_dilation, half_kernel=True)] * 2))
    return Pool2dGeometry(
        n=draw(st.integers(min_batch, 2)),
        c=draw(channels),
        h=rows["size"],
        w=columns["size"],
        kh=rows["kernel"],
        kw=columns["kernel"],
        sh=rows["stride"],
        sw=columns["stride"],
        pt=rows["before"],
        pb=rows["after"],
        pl=columns["before"],
        pr=columns["after"],
        dh=rows["dilation"],
        dw=columns["dilation"],
        ceil_mode=draw(st.booleans()),
    )


@st.composite
def adaptive_pool2d_geometries(draw: st.DrawFn, min_batch: int = 1) -> AdaptivePool2dGeometry:
    """Any number of outputs, fewer than inputs or more."""
    h, w, oh, ow = draw(st.tuples(*[st.integers(1, 9)] * 4))
    return AdaptivePool2dGeometry(draw(st.integers(min_batch, 2)), draw(channels), h, w, oh, ow)
