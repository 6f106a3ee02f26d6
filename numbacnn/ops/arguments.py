"""The one place where arguments are checked and arrays converted, before any backend sees them.

The dtype rule: every real array is taken (bool, integers, float16, float32, float64, any byte order); complex numbers,
objects, strings and dates are refused. An operation with a ``weight`` computes in the weight's dtype, an operation
without one in float64 if any of its arrays is float64, and everything that is neither float32 nor float64 counts as
float32.
"""

from __future__ import annotations

import functools
import marshal
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any, TypeVar, cast, get_args

import numpy as np

from ..backends import Array, Backend
from ..backends.capture import before_launch
from ..backends.contract import Activation

__all__ = [
    "LARGEST_SIZE",
    "LAST_COUNT",
    "activation_name",
    "array_list",
    "axis_number",
    "axis_sizes",
    "both_axes",
    "check_shape",
    "class_labels",
    "class_targets",
    "common_dtype",
    "convert",
    "entries_of",
    "finite",
    "flag",
    "index_of",
    "integer",
    "memoized",
    "number",
    "one_of",
    "output_sizes",
    "pair",
    "parameter_dtype",
    "part_sizes",
    "plane_indices",
    "real_array",
    "real_number",
    "shape_of",
    "single",
]

_T = TypeVar("_T", bound=Callable[..., Any])

# Of a window: kernels work in 32 bits where they can.
LARGEST_SIZE = 2**31 - 1
ACTIVATION_NAMES: tuple[str, ...] = get_args(get_args(Activation)[0])
LAST_COUNT = 2**53
"""As far as steps, passes and epochs are counted: exact as float64, and far from where int64 ends."""


MAX_REMEMBERED = 1024


def memoized(function: _T) -> _T:
    """Decorator of a function of numbers, names and tuples of these: what it found for the same ones before.

    A layer asks for its sizes at every call, and checking them takes longer than many a kernel.
    """
    found: dict[str, Any] = {}

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        try:
            marshal.dumps((arguments, named))
        except ValueError:  # objects of other kinds, whose text need not tell what they are
            return function(*arguments, **named)
        key = repr((arguments, named))  # which tells True from 1, as a hash does not
        if key not in found:
            if len(found) >= MAX_REMEMBERED:
                found.clear()
            found[key] = function(*arguments, **named)
        return found[key]

    return cast(_T, run)


def integer(name: str, value: Any, minimum: int = 0, maximum: int | None = None) -> int:
    """``value`` as an int within the limits; TypeError for bools, floats and whatever else is no integer.

    >>> integer("groups", 2, 1)
    2
    """
    result = index_of(value)
    if result is None:
        raise TypeError(f"`{name}` {value!r} must be an int")
    if result < minimum or (maximum is not None and result > maximum):
        limits = f"at least {minimum}" if maximum is None else f"in {minimum}..{maximum}"
        raise ValueError(f"`{name}` {value!r} must be {limits}")
    return result


def pair(name: str, value: Any, minimum: int = 1) -> tuple[int, int]:
    """``value``, an int for both axes or a pair (vertical, horizontal), as a pair of ints of at least ``minimum``.

    One int in a tuple or list is for both axes too, as in PyTorch.

    >>> pair("kernel_size", 3), pair("stride", (2, 1)), pair("dilation", (2,))
    ((3, 3), (2, 1), (2, 2))
    """
    entries = both_axes(value)
    if entries is None:
        raise TypeError(f"`{name}` {value!r} must be an int or a pair of ints")
    if len(entries) != 2:
        raise ValueError(f"`{name}` {value!r} must be an int or a pair of ints, not {len(entries)} entries")
    first, second = index_of(entries[0]), index_of(entries[1])
    if first is None or second is None:
        raise TypeError(f"`{name}` {value!r} must be an int or a pair of ints")
    if min(first, second) < minimum:
        raise ValueError(f"`{name}` {value!r} must be at least {minimum}")
    if max(first, second) > LARGEST_SIZE:
        raise ValueError(f"`{name}` {value!r} must be at most {LARGEST_SIZE}")
    return first, second


def single(name: str, value: Any, minimum: int = 1) -> tuple[int]:
    """``value``, an int or one in a tuple or list, as a tuple of one int of at least ``minimum``.

    >>> single("kernel_size", 3), single("stride", (2,))
    ((3,), (2,))
    """
    entries = entries_of(value)
    if entries is not None and len(entries) != 1:
        raise ValueError(f"`{name}` {value!r} must be an int, not {len(entries)} entries")
    result = index_of(value if entries is None else entries[0])
    if result is None:
        raise TypeError(f"`{name}` {value!r} must be an int")
    return pair(name, result, minimum)[:1]


def axis_sizes(name: str, value: Any, minimum: int = 1) -> tuple[int, ...]:
    """``value``, an int for one axis or one or more ints, as a tuple of ints of at least ``minimum``.

    >>> axis_sizes("normalized_shape", 3), axis_sizes("normalized_shape", [4, 5])
    ((3,), (4, 5))
    """
    entries = (value,) if index_of(value) is not None else entries_of(value)
    sizes = [index_of(entry) for entry in entries or ()]
    if entries is None or None in sizes:
        raise TypeError(f"`{name}` {value!r} must be an int or a tuple of ints")
    found = tuple(size for size in sizes if size is not None)
    if not found or min(found) < minimum:
        raise ValueError(f"`{name}` {value!r} must be one int or more, each at least {minimum}")
    return found


def output_sizes(name: str, value: Any) -> tuple[int | None, int | None]:
    """``value``, an int or None for both axes or a pair of these, as a pair of ints of at least 1 and None.

    >>> output_sizes("output_size", 3), output_sizes("output_size", (None, 2))
    ((3, 3), (None, 2))
    """
    entries = (value, value) if value is None else both_axes(value)
    if entries is None or len(entries) != 2:
        raise TypeError(f"`{name}` {value!r} must be an int, None or a pair of these")
    rows, columns = pair(name, tuple(1 if size is None else size for size in entries))
    return None if entries[0] is None else rows, None if entries[1] is None else columns


def number(name: str, value: Any, low: float, high: float = float("inf")) -> float:
    """``value`` as a finite float in ``low..high``.

    >>> number("momentum", 1, 0, 1)
    1.0
    """
    # Most are floats, and to ask what else one is takes long.
    result: float = value if type(value) is float else _as_float(name, value)
    if not (low <= result <= high and result < float("inf")):
        limits = f"at least {low}" if high == float("inf") else f"in {low}..{high}"
        raise ValueError(f"`{name}` {value!r} must be {limits}")
    return result


def real_number(name: str, value: Any) -> float:
    """``value`` as a float, which may be infinite or NaN."""
    return value if type(value) is float else _as_float(name, value)


def axis_number(name: str, value: Any) -> int:
    """``value`` as the number of an axis after the batch: 1, 2, ..., or counted from the end, -1, -2, ..."""
    found = index_of(value)
    if found is None:
        raise TypeError(f"`{name}` {value!r} must be an int")
    if found == 0:
        raise ValueError(f"`{name}` {value!r} must be an axis after the batch, 1 or more, or below 0 from the end")
    return found


def part_sizes(name: str, value: Any) -> tuple[int, ...]:
    """``value`` as the sizes of one or more axes, each at least 1, but one that may be -1 for what the others leave.

    >>> part_sizes("shape", [3, -1])
    (3, -1)
    """
    found = [index_of(entry) for entry in entries_of(value) or ()]
    if not found or None in found:
        raise TypeError(f"`{name}` {value!r} must be one or more ints")
    sizes = tuple(cast(list[int], found))
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"`{name}` {value!r} must hold sizes of at least 1, and at most one -1")
    return sizes


def finite(name: str, value: Any, zero: bool = True) -> float:
    """``value`` as a finite float, other than 0 unless ``zero``.

    >>> finite("negative_slope", 1)
    1.0
    """
    result = real_number(name, value)
    if not math.isfinite(result) or (result == 0 and not zero):
        raise ValueError(f"`{name}` {value!r} must be finite{'' if zero else ', and not 0'}")
    return result


def _as_float(name: str, value: Any) -> float:
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"`{name}` {value!r} must be a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"`{name}` is too large: it must be a float") from None


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool; TypeError for anything else, so that a misplaced argument does not pass for True."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` {value!r} must be True or False")
    return bool(value)


def one_of(name: str, value: Any, names: Iterable[str]) -> str:
    """``value`` if it is one of ``names``, else ValueError with all of them."""
    names = tuple(names)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"`{name}` {value!r} must be one of {', '.join(map(repr, names))}")
    return value


def activation_name(value: Any) -> Activation:
    """The argument ``activation``: one of ACTIVATION_NAMES or None."""
    return None if value is None else cast(Activation, one_of("activation", value, ACTIVATION_NAMES))


def shape_of(name: str, value: Any, axes: str) -> tuple[int, ...]:
    """A shape given as an argument, with one int for each of ``axes``, as in ``"n, c, h, w"``."""
    entries = entries_of(value)
    sizes = [index_of(entry) for entry in entries or ()]
    if entries is None or None in sizes:
        raise TypeError(f"`{name}` {value!r} must be a shape ({axes})")
    shape = tuple(size for size in sizes if size is not None)
    _check_axes(name, shape, axes)
    if shape and min(shape) < 0:
        raise ValueError(f"`{name}` {shape} must hold no negative size")
    return shape


def real_array(name: str, x: Any, backend: Backend, axes: str | None = None) -> Array:
    """``x`` with ``shape`` and ``dtype``, not yet converted: as it is if it lives on ``backend``, else through NumPy.

    ``axes``, as in ``"n, c, h, w"``, says how many axes there must be. TypeError for what is not real, ValueError for
    the wrong number of axes.
    """
    if type(x) is not np.ndarray:
        x = _array(name, x, backend)
    dtype = np.dtype(x.dtype)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise TypeError(f"`{name}` of dtype {dtype} must be real: bool, an integer, float16, float32 or float64")
    if axes is not None:
        _check_axes(name, x.shape, axes)
    return x


def array_list(name: str, arrays: Any, backend: Backend) -> list[Array]:
    """A sequence of one or more real arrays, not yet converted."""
    if not isinstance(arrays, Sequence) or isinstance(arrays, (str, bytes)):
        raise TypeError(f"`{name}` must be a list or tuple of arrays, not {type(arrays).__name__}")
    if not arrays:
        raise ValueError(f"`{name}` must hold at least one array")
    return [real_array(f"{name}[{i}]", x, backend) for i, x in enumerate(arrays)]


def check_shape(name: str, x: Array, shape: Sequence[int], reason: str = "") -> None:
    """ValueError unless ``x`` has ``shape``; ``reason`` says where the shape comes from."""
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"`{name}` {tuple(x.shape)} must have the shape {tuple(shape)}{reason and ' '}{reason}")


def output_array(name: str, x: Any, shape: Sequence[int], dtype: np.dtype[Any], backend: Backend) -> Array | None:
    """``x``, which something is to be written to: an array of ``backend``, or None.

    TypeError for anything else; ValueError for another shape or dtype, and for what cannot be written to in one go.
    """
    if x is None:
        return None
    if not backend.is_array(x):
        raise TypeError(
            f"`{name}` of type {type(x).__name__} must be an array of the backend {backend.name!r}, or None"
        )
    check_shape(name, x, shape)
    if x.dtype != dtype:
        raise ValueError(f"`{name}` of dtype {x.dtype} must have {dtype}")
    if type(x) is np.ndarray and not (x.flags.c_contiguous and x.flags.writeable and x.flags.aligned):
        raise ValueError(f"`{name}` must be C-contiguous, aligned and writeable")
    return x


def common_dtype(*arrays: Array) -> np.dtype[Any]:
    """What an operation without parameters computes in: float64 if any array is float64, else float32."""
    wide = any(parameter_dtype(x) == np.float64 for x in arrays)
    return np.dtype(np.float64 if wide else np.float32)


def parameter_dtype(weight: Array) -> np.dtype[Any]:
    """What an operation with a weight computes in: the weight's own dtype if it is float32 or float64, else float32."""
    dtype = np.dtype(weight.dtype)
    return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize == 8 else np.float32)


def convert(backend: Backend, dtype: np.dtype[Any], *arrays: Array) -> tuple[Array, ...]:
    """The arrays on ``backend``, C-contiguous, of ``dtype``, copied only where they must be."""
    return tuple([backend.asarray(x, dtype) for x in arrays])


def class_labels(
    owner: str,
    logits: Array,
    labels: Any,
    backend: Backend,
    ignore_index: int | None = None,
    check_range: bool = True,
) -> Array:
    """``labels`` of the positions of ``logits`` (n, classes, ...), the argument ``owner``, as int64.

    Those that are still in NumPy are checked to be in 0..classes-1 or ``ignore_index``, unless a forward pass has done
    so with ``check_range``.
    """
    n, classes, *sizes = logits.shape
    positions = (n, *sizes)
    labels = _array("labels", labels, backend)
    if len(labels.shape) > 1 and tuple(labels.shape) == (n, classes, *sizes):
        raise ValueError(
            f"`labels` {tuple(labels.shape)} must be class numbers of shape {positions}; "
            "one-hot rows become them by `labels.argmax(axis=1)`"
        )
    check_shape("labels", labels, positions, f"for `{owner}` {tuple(logits.shape)}")
    # An empty list is float64 to NumPy.
    if np.dtype(labels.dtype).kind not in "iu" and math.prod(positions):
        raise TypeError(f"`labels` of dtype {labels.dtype} must be integers, class numbers in 0..{classes - 1}")
    if check_range:
        before_launch(lambda: _check_range("labels", labels, 0, classes - 1, ignore_index))
    return backend.asarray(labels, np.int64)


def class_targets(
    owner: str, logits: Array, target: Any, backend: Backend, ignore_index: int, check_range: bool = True
) -> tuple[Array, np.dtype[Any]]:
    """:func:`class_labels`, or floating numbers of the logits' shape, and the dtype to compute in, which these have."""
    target = _array("labels", target, backend)
    if tuple(target.shape) == tuple(logits.shape) and np.dtype(target.dtype).kind == "f":
        dtype = common_dtype(logits, target)
        return backend.asarray(target, dtype), dtype
    return class_labels(owner, logits, target, backend, ignore_index, check_range), common_dtype(logits)


def plane_indices(indices: Any, shape: Sequence[int], plane: int, backend: Backend) -> Array:
    """The ``indices`` of max pooling, int32; those that are in NumPy are checked to be in -1..plane-1."""
    indices = _array("indices", indices, backend)
    check_shape("indices", indices, shape, "of `dy`")
    if np.dtype(indices.dtype).kind not in "iu" and 0 not in shape:
        raise TypeError(f"`indices` of dtype {indices.dtype} must be integers, as `max_pool2d` returns them")
    _check_range("indices", indices, -1, plane - 1)
    return backend.asarray(indices, np.int32)


def _array(name: str, x: Any, backend: Backend) -> Array:
    if backend.is_array(x):
        return x
    adopted = backend.adopt(x)
    if adopted is not None:
        return adopted
    try:
        return np.asarray(x)
    except ValueError as error:
        raise ValueError(f"`{name}` must be an array or evenly nested lists of numbers: {error}") from None


def _check_axes(name: str, shape: Sequence[int], axes: str) -> None:
    count = axes.count(",") + 1
    if len(shape) != count:
        hint = "; a single image goes in as `x[None]`" if (axes, len(shape)) == ("n, c, h, w", 3) else ""
        raise ValueError(f"`{name}` {tuple(shape)} must have {count} axes ({axes}){hint}")


def _check_range(name: str, values: Array, low: int, high: int, other: int | None = None) -> None:
    if isinstance(values, np.ndarray) and values.size and (values.min() < low or values.max() > high):
        wrong = values[((values < low) | (values > high)) & (True if other is None else values != other)]
        if wrong.size:
            also = "" if other is None else f" or {other}, which is ignored"
            raise ValueError(f"`{name}` must be in {low}..{high}{also}, but hold {wrong[0]}")


def index_of(value: Any) -> int | None:
    """``operator.index`` without bools; None for what is no integer."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def entries_of(value: Any) -> tuple[Any, ...] | None:
    """What a sequence or an array holds; None for what is neither, and for text."""
    if isinstance(value, (str, bytes)):
        return None
    if isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim):
        return tuple(value)
    return None


def both_axes(value: Any) -> tuple[Any, ...] | None:
    """``value`` twice if it is an int or holds one int, else its entries; None for what has none."""
    if index_of(value) is not None:
        return value, value
    entries = entries_of(value)
    return entries * 2 if entries is not None and len(entries) == 1 and index_of(entries[0]) is not None else entries
