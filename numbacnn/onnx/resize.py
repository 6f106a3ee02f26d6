"""Resize and Upsample of ONNX as layers: `nn.Upsample` where it does the same, else a fixed matrix for each axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn
from ..backends.shared.resampling import resampled_taps
from ..ops.spatial import resamplings
from .call import Call, Output, Tensor, UnsupportedError, plain_number, translates
from .folding import norm_axes
from .layers import Along

__all__ = ["resize_matrix"]

_ROUNDING: dict[str, Callable[[Any], Any]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
}
MOST_OF_A_MATRIX = 1 << 24
_CORNERS = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}


@translates("Upsample")
def _upsample(call: Call) -> Output:
    x = call.tensor()
    scales = call.attribute("scales") if call.opset < 9 else call.array(1, "scales")
    mode = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}.get(call.attribute("mode", "nearest"))
    if mode is None or scales is None or len(scales) != x.rank:
        raise UnsupportedError(f"mode {call.attribute('mode')!r} with the scales {scales}")
    return _resized(call, x, [_scale(s) for s in scales], None, mode, {"point": "asymmetric", "nearest": "floor"})


@translates("Resize")
def _resize(call: Call) -> Output:
    x, scales_at = call.tensor(), 1 if call.opset < 11 else 2
    rule = {
        "point": call.attribute("coordinate_transformation_mode", "half_pixel"),
        "nearest": call.attribute("nearest_mode", "round_prefer_floor"),
        "cubic": plain_number(np.float32(call.attribute("cubic_coeff_a", -0.75))),
        "outside": bool(call.attribute("exclude_outside", 0)),
        "antialias": bool(call.attribute("antialias", 0)),
    }
    if call.opset < 11:
        rule |= {"point": "asymmetric", "nearest": "floor"}
    call.ignore("extrapolation_value")
    mode = call.attribute("mode", "nearest")
    axes = call.attribute("axes")
    axes = list(range(x.rank)) if axes is None else norm_axes(axes, x.rank)
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedError(f"keep_aspect_ratio_policy {call.attribute('keep_aspect_ratio_policy')!r}")
    if rule["point"] == "tf_crop_and_resize":
        raise UnsupportedError("coordinate_transformation_mode 'tf_crop_and_resize'")
    scales: list[float] | None = None
    if call.has(scales_at) and len(call.several(scales_at)[0]):
        found = call.array(scales_at, "scales")
        scales = [1.0] * x.rank
        for axis, value in zip(axes, found, strict=True):
            scales[axis] = _scale(value)
        return _resized(call, x, scales, None, mode, rule)
    sizes = []
    for shape, target in zip(x.shapes, call.several(3), strict=True):
        wanted = list(shape)
        for axis, value in zip(axes, target, strict=True):
            wanted[axis] = int(value)
        sizes.append(wanted)
    return _resized(call, x, None, sizes, mode, rule)


def _scale(value: Any) -> float:
    """What a float32 stands for: 4/3 and not 1.33333337."""
    found = plain_number(np.float32(value))
    for divisor in range(1, 65):
        near = round(found * divisor) / divisor
        if np.float32(near) == np.float32(value):
            return near
    return found


def _resized(
    call: Call, x: Tensor, scales: list[float] | None, sizes: list[list[int]] | None, mode: str, rule: dict[str, Any]
) -> Tensor:
    if sizes is None:
        assert scales is not None
        sizes = [[math.floor(size * s) for size, s in zip(shape, scales, strict=True)] for shape in x.shapes]
    changed = [axis for axis in range(x.rank) if any(a[axis] != b[axis] for a, b in zip(x.shapes, sizes, strict=True))]
    if not changed:
        return x
    if min(size for of_one in sizes for size in of_one) < 1:
        raise UnsupportedError(f"nothing is left of {x.shape}")
    if x.rank == 4 and set(changed) <= {2, 3}:
        layer = _upsampling(x, scales, sizes, mode, rule)
        if layer is not None:
            return call.emit(layer, x)
    for axis in changed:
        if len({(shape[axis], size[axis]) for shape, size in zip(x.shapes, sizes, strict=True)}) > 1:
            raise UnsupportedError(f"mode {mode!r} with these settings needs a fixed size of axis {axis}")
        scale = sizes[0][axis] / x.shape[axis] if scales is None else scales[axis]
        matrix = resize_matrix(x.shape[axis], sizes[0][axis], scale, mode, **rule)
        x = call.emit(Along(axis, matrix.astype(np.float32)), x, part=f"axis{axis}")
    return x


def _upsampling(
    x: Tensor, scales: list[float] | None, sizes: list[list[int]], mode: str, rule: dict[str, Any]
) -> nn.Upsample | None:
    """The layer that does it, if there is one."""
    of_images = {tuple(size[2:]) for size in sizes}
    if scales is not None:
        options: dict[str, Any] = {"scale_factor": _both(scales[2:])}
    elif len(of_images) == 1:
        options = {"size": _both(list(of_images.pop()))}
    else:
        ratios = {(s[2] / shape[2], s[3] / shape[3]) for shape, s in zip(x.shapes, sizes, strict=True)}
        if len(ratios) > 1:
            raise UnsupportedError("its sizes depend on the size of the model's input")
        options = {"scale_factor": _both(list(ratios.pop()))}
    if mode == "linear" and rule["point"] in _CORNERS and not rule.get("antialias"):
        short = any(1 in size[2:] for size in sizes)
        # Of a single point the rules differ.
        if short and rule["point"] == "pytorch_half_pixel":
            return None
        options |= {"mode": "bilinear", "align_corners": _CORNERS[rule["point"]]}
    elif mode != "nearest" or rule.get("antialias"):
        return None
    for shape, size in zip(x.shapes, sizes, strict=True):
        for axis, ours in zip((2, 3), resamplings(shape, **_full(options)), strict=True):
            scale = size[axis] / shape[axis] if scales is None else scales[axis]
            if ours.outputs != size[axis]:
                return None
            # A few bytes ask for large matrices, and so the difference is taken in place.
            difference = resize_matrix(shape[axis], size[axis], scale, mode, **rule)
            difference -= _matrix_of(ours)
            if not max(difference.max(), -difference.min()) <= 1e-6:
                return None
    return nn.Upsample(**options)


def _full(options: dict[str, Any]) -> dict[str, Any]:
    return {"size": None, "scale_factor": None, **options}


def _both(values: list[Any]) -> Any:
    return values[0] if values[0] == values[1] else tuple(values)


def _matrix_of(axis: Any) -> np.ndarray[Any, Any]:
    """What `nn.Upsample` does along an axis."""
    matrix = np.zeros((axis.outputs, axis.size))
    for tap in resampled_taps(axis.size, axis.outputs, axis.mode, axis.align_corners, axis.scale):
        np.add.at(matrix, (tap.outputs, tap.sources), tap.weights)
    return matrix


def resize_matrix(
    size: int,
    outputs: int,
    scale: float,
    mode: str,
    point: str = "half_pixel",
    nearest: str = "round_prefer_floor",
    cubic: float = -0.75,
    outside: bool = False,
    antialias: bool = False,
) -> np.ndarray[Any, Any]:
    """The matrix (outputs, size) by which Resize makes ``outputs`` points of ``size``, as ONNX defines them.

    >>> resize_matrix(2, 4, 2.0, "nearest", point="asymmetric", nearest="floor").astype(int).tolist()
    [[1, 0], [1, 0], [0, 1], [0, 1]]
    """
    if size * outputs > MOST_OF_A_MATRIX:
        raise UnsupportedError(f"{outputs} points of {size} are too many")
    i = np.arange(outputs, dtype=np.float64)
    if point == "half_pixel" or (point == "pytorch_half_pixel" and outputs > 1):
        at = (i + 0.5) / scale - 0.5
    elif point == "half_pixel_symmetric":
        adjusted = outputs / (scale * size)
        at = size / 2 * (1 - adjusted) + (i + 0.5) / scale - 0.5
    elif point == "align_corners":
        # The last corner is that of the length before it is rounded down.
        at = i * (size - 1) / (scale * size - 1) if outputs > 1 else np.zeros(1)
    elif point == "asymmetric":
        at = i / scale
    elif point == "pytorch_half_pixel":
        at = np.zeros(1)
    else:
        raise UnsupportedError(f"coordinate_transformation_mode {point!r} is unknown")
    matrix = np.zeros((outputs, size))
    if mode == "nearest":
        rounding = _ROUNDING.get(nearest)
        if rounding is None:
            raise UnsupportedError(f"nearest_mode {nearest!r} is unknown")
        matrix[np.arange(outputs), np.clip(rounding(at), 0, size - 1).astype(int)] = 1
        return matrix
    if mode not in ("linear", "cubic"):
        raise UnsupportedError(f"mode {mode!r} is unknown")
    # With antialiasing an image that shrinks is smoothed by a wider kernel.
    wide = min(scale, 1.0) if antialias else 1.0
    reach = math.ceil((1 if mode == "linear" else 2) / wide)
    first = np.floor(at).astype(int)
    for offset in range(1 - reach, reach + 1):
        source = first + offset
        distance = np.abs(at - source) * wide
        weight = np.maximum(1 - distance, 0) if mode == "linear" else _cubic(distance, cubic)
        if outside:
            weight = np.where((source >= 0) & (source < size), weight, 0)
        np.add.at(matrix, (np.arange(outputs), np.clip(source, 0, size - 1)), weight)
    if outside or antialias:
        matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix


def _cubic(x: np.ndarray[Any, Any], a: float) -> np.ndarray[Any, Any]:
    """Keys' kernel."""
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
