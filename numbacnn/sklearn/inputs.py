"""What scikit-learn hands over as X and as weights, as what a network and a loss take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from ..ops.arguments import axis_sizes

__all__ = ["Shape", "checked_inputs", "checked_weights", "converted"]

Shape = tuple[int, ...]
"""Of one sample: (features,), or (c, h, w) of images."""
_Array = np.ndarray[Any, Any]


def checked_inputs(estimator: Any, x: Any, *y: Any, reset: bool) -> _Array:
    """``x`` as rows (n, features) of float32 or float64, or as images (n, c, h, w) of these or of uint8.

    With ``reset`` the estimator learns the shape, the number of features and their names, and is given ``y`` as well,
    which may not be None; otherwise they must be as they were.
    """
    array = check_array(x, dtype=[np.float64, np.float32, np.uint8], allow_nd=True, estimator=estimator, input_name="X")
    is_table = array.ndim == 2
    if array.ndim > 4 or not array.size:
        raise ValueError(f"`X` of shape {array.shape} must be (n, features), (n, h, w) or (n, c, h, w), none of them 0")
    flat = array.reshape(len(array), -1)
    validate_data(estimator, x if is_table else flat, *y, skip_check_array=True, reset=reset)
    if reset:
        estimator.image_shape_ = _learned_shape(estimator.image_shape, array.shape[1:])
    shape = estimator.image_shape_
    if not is_table and shape != (1, *array.shape[1:])[-3:]:
        wanted = "(n, features)" if shape is None else f"(n, {', '.join(map(str, shape))})"
        raise ValueError(f"`X` of shape {array.shape} must be {wanted}, as in fit")
    if shape is not None:
        return flat.reshape(-1, *shape)
    return flat if flat.dtype.kind == "f" else flat.astype(np.float64)


def _learned_shape(image_shape: Any, sample: Shape) -> tuple[int, int, int] | None:
    """That of the images that samples are, by the argument ``image_shape``; None for rows of numbers."""
    own = None if len(sample) == 1 else (1, *sample)[-3:]
    if image_shape is None:
        return own  # type: ignore[return-value]
    sizes = axis_sizes("image_shape", image_shape)
    if len(sizes) not in (2, 3):
        raise ValueError(f"`image_shape` {image_shape!r} must be (h, w) or (c, h, w)")
    c, h, w = (1, *sizes)[-3:]
    if own is None and math.prod(sizes) != sample[0]:
        raise ValueError(f"`image_shape` {image_shape!r} is of {c * h * w} numbers, but a row of `X` has {sample[0]}")
    if own is not None and own != (c, h, w):
        raise ValueError(f"`image_shape` {image_shape!r} must be that of the images in `X`, {own}")
    return c, h, w


def converted(name: str, array: _Array, dtype: np.dtype[Any]) -> _Array:
    """The argument ``name`` in the dtype that a model computes in; pixels of uint8 stay."""
    if array.dtype in (dtype, np.uint8):
        return array
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    if dtype.itemsize < array.dtype.itemsize and not np.isfinite(result).all():
        raise ValueError(f"`{name}` holds {np.abs(array).max():.3g}, a value too large for {dtype}")
    return result


def checked_weights(sample_weight: Any, n: int) -> _Array:
    """``sample_weight`` (n,) in float64; None is 1 for each sample."""
    if sample_weight is None:
        return np.ones(n)
    weights = np.asarray(sample_weight, np.float64)
    if weights.shape != (n,):
        raise ValueError(f"`sample_weight` of shape {weights.shape} must be ({n},), a number for each sample")
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if wrong.size:
        raise ValueError(f"`sample_weight` must be finite numbers, 0 or more, but holds {wrong[0]}")
    return weights
