"""What holds for every operation: values and no views, arguments left alone, any layout, empty batches, NaN."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, ops

N = 7  # the batch: no other size here, so that results of one row per sample are known by it


@dataclass(frozen=True)
class Call:
    """One operation on small arrays of whole numbers, exact in every dtype.

    ``weight`` is the position of the array that sets the dtype, ``batched`` are those with one row per sample, and
    ``silent`` are those of which a NaN need not reach any result.
    """

    run: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]
    weight: int | None = None
    batched: tuple[int, ...] = (0,)
    silent: tuple[int, ...] = ()

    def __call__(self, arrays: Sequence[Any] | None = None) -> list[Any]:
        """All results, as arrays of the backend."""
        results = self.run(*(self.arrays if arrays is None else arrays))
        return [r for r in results if r is not None] if isinstance(results, (tuple, list)) else [results]


def whole(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.abs(whole(*shape)) + 1


def train(x, weight, bias):
    backend = backends.get()
    # x may be an array or a list, whatever a user gives.
    dtype = np.float64 if np.asarray(weight).dtype.newbyteorder("=") == np.float64 else np.float32
    running = backend.asarray(np.zeros(3, dtype)), backend.asarray(np.ones(3, dtype))
    return ops.batch_norm(x, weight, bias, *running, training=True, return_statistics=True)


def response_norm_backward(dy, x):
    scale = ops.local_response_norm(x, 3, 0.5, return_scale=True)[1]
    return ops.local_response_norm_backward(dy, x, scale, 3, 0.5)


def rows(x) -> int:
    return np.shape(x)[0]


def shares(logits) -> np.ndarray:
    """Targets of the logits' shape, whatever their batch; that they add up to one is nothing that the loss asks for."""
    return np.resize(LOGITS / 4 + 1, np.shape(logits))


X, Y = whole(N, 4, 5, 6), whole(N, 6, 3, 4)
KERNEL, LABELS = whole(6, 2, 3, 3), np.arange(N) % 3
LOGITS = whole(N, 3)
# Of straight pieces, whose gradients say nothing of a NaN in x.
BENT = ("hardsigmoid", "hardtanh", "leaky_relu", "relu6")
POINTWISE = (*BENT, "celu", "elu", "gelu", "hardswish", "mish", "selu", "silu", "softplus", "softsign")
PLANES = np.arange(N * 3 * 4).reshape(N, 3, 4) % 6
INDICES = ops.max_pool2d(X, 2, 1, return_indices=True, backend="reference")[1]
ADAPTIVE_INDICES = ops.adaptive_max_pool2d(X, (3, 4), return_indices=True, backend="reference")[1]
CALLS = {
    "corr2d": Call(ops.corr2d, (whole(5, 6), whole(2, 3)), weight=1, batched=()),
    "conv2d": Call(lambda x, w, b: ops.conv2d(x, w, b, groups=2), (X, KERNEL, whole(6)), weight=1),
    "conv2d, no bias": Call(lambda x, w: ops.conv2d(x, w, None, 2, "valid", 1, 2), (X, KERNEL), weight=1),
    "conv2d, tanh": Call(lambda *arrays: ops.conv2d(*arrays, groups=2, activation="tanh"), (X, KERNEL), weight=1),
    "conv2d, 1x1": Call(ops.conv2d, (X, whole(6, 4, 1, 1)), weight=1),
    "conv2d_backward": Call(
        lambda dy, x, w: ops.conv2d_backward(dy, x, w, groups=2), (Y, X, KERNEL), weight=2, batched=(0, 1)
    ),
    "conv_transpose2d": Call(
        lambda x, w, b: ops.conv_transpose2d(x, w, b, stride=2, padding=(1, 0), groups=2, activation="relu"),
        (Y, KERNEL, whole(4)),
        weight=1,
    ),
    "conv_transpose2d, no bias": Call(
        lambda x, w: ops.conv_transpose2d(x, w, None, 1, 0, 2, 2, 3, activation="tanh"), (Y, KERNEL), weight=1
    ),
    "conv_transpose2d_backward": Call(
        lambda dy, x, w: ops.conv_transpose2d_backward(dy, x, w, groups=2), (X, Y, KERNEL), weight=2, batched=(0, 1)
    ),
    "max_pool2d": Call(lambda x: ops.max_pool2d(x, 2, return_indices=True), (X,)),
    "max_pool2d, 1x1": Call(lambda x: ops.max_pool2d(x, 1), (X,)),
    "max_pool2d_backward": Call(
        lambda dy, indices: ops.max_pool2d_backward(dy, indices, (rows(dy), 4, 5, 6), 2, 1),
        (whole(N, 4, 4, 5), INDICES),
        batched=(0, 1),
    ),
    "avg_pool2d": Call(lambda x: ops.avg_pool2d(x, 2, padding=1, ceil_mode=True), (X,)),
    "avg_pool2d, 1x1": Call(lambda x: ops.avg_pool2d(x, 1), (X,)),
    "avg_pool2d_backward": Call(
        lambda dy: ops.avg_pool2d_backward(dy, (rows(dy), 4, 5, 6), 2, 1), (whole(N, 4, 4, 5),)
    ),
    "avg_pool2d, divisor": Call(lambda x: ops.avg_pool2d(x, 2, padding=1, divisor_override=3), (X,)),
    "adaptive_avg_pool2d": Call(lambda x: ops.adaptive_avg_pool2d(x, (3, 4)), (X,)),
    "adaptive_avg_pool2d, alike": Call(lambda x: ops.adaptive_avg_pool2d(x, (None, 2)), (X,)),
    "adaptive_avg_pool2d_backward": Call(
        lambda dy: ops.adaptive_avg_pool2d_backward(dy, (rows(dy), 4, 5, 6), (3, 4)), (whole(N, 4, 3, 4),)
    ),
    "adaptive_max_pool2d": Call(lambda x: ops.adaptive_max_pool2d(x, (3, 4), return_indices=True), (X,)),
    "adaptive_max_pool2d_backward": Call(
        lambda dy, indices: ops.adaptive_max_pool2d_backward(dy, indices, (rows(dy), 4, 5, 6), (3, 4)),
        (whole(N, 4, 3, 4), ADAPTIVE_INDICES),
        batched=(0, 1),
    ),
    "lp_pool2d": Call(lambda x: ops.lp_pool2d(x, 2, 3, 1, return_means=True), (X,)),
    "lp_pool2d, cubes": Call(lambda x: ops.lp_pool2d(x, 3, 2), (positive(N, 4, 5, 6),)),
    "lp_pool2d_backward, cubes": Call(
        lambda dy, x, means: ops.lp_pool2d_backward(dy, x, means, 3, 2, 1),
        (whole(N, 4, 4, 5), positive(N, 4, 5, 6), positive(N, 4, 4, 5)),
        batched=(0, 1, 2),
    ),
    "lp_pool2d_backward": Call(
        lambda dy, x, means: ops.lp_pool2d_backward(dy, x, means, 2, 2, 1),
        (whole(N, 4, 4, 5), X, positive(N, 4, 4, 5)),
        batched=(0, 1, 2),
    ),
    "global_avg_pool2d": Call(ops.global_avg_pool2d, (X,)),
    "global_avg_pool2d_backward": Call(
        lambda dy: ops.global_avg_pool2d_backward(dy, (rows(dy), 4, 5, 6)), (whole(N, 4, 1, 1),)
    ),
    "pad2d": Call(lambda x: ops.pad2d(x, (1, 2, -1, 1), value=3), (X,), silent=(0,)),
    "pad2d, reflect": Call(lambda x: ops.pad2d(x, 2, "reflect"), (X,)),
    "pad2d_backward": Call(
        lambda dy: ops.pad2d_backward(dy, (rows(dy), 4, 5, 6), (2, 1, 1, 0)), (whole(N, 4, 6, 9),), silent=(0,)
    ),
    "pad2d_backward, circular": Call(
        lambda dy: ops.pad2d_backward(dy, (rows(dy), 4, 5, 6), (2, 1, 1, 0), "circular"), (whole(N, 4, 6, 9),)
    ),
    "interpolate2d": Call(lambda x: ops.interpolate2d(x, scale_factor=2), (X,)),
    "interpolate2d, bilinear": Call(lambda x: ops.interpolate2d(x, (3, 8), mode="bilinear"), (X,)),
    "interpolate2d_backward": Call(
        lambda dy: ops.interpolate2d_backward(dy, (rows(dy), 4, 5, 6), scale_factor=0.5), (whole(N, 4, 2, 3),)
    ),
    "interpolate2d_backward, bilinear": Call(
        lambda dy: ops.interpolate2d_backward(dy, (rows(dy), 4, 5, 6), (9, 4), mode="bilinear"), (whole(N, 4, 9, 4),)
    ),
    "pixel_shuffle": Call(lambda x: ops.pixel_shuffle(x, 2), (X,)),
    "pixel_unshuffle": Call(lambda x: ops.pixel_unshuffle(x, 2), (whole(N, 3, 4, 6),)),
    "pad_channels": Call(lambda x: ops.pad_channels(x, (1, -1)), (X,)),
    "channel_shuffle": Call(lambda x: ops.channel_shuffle(x, 2), (X,)),
    "channel_shuffle, sequences": Call(lambda x: ops.channel_shuffle(x, 3), (whole(N, 6, 5),)),
    "batch_norm, training": Call(train, (whole(N, 3, 4, 5), positive(3), whole(3)), weight=1),
    "batch_norm": Call(
        lambda x, *rest: ops.batch_norm(x, *rest, return_statistics=True),
        (whole(N, 3), positive(3), whole(3), whole(3), positive(3)),
        weight=1,
    ),
    "batch_norm_backward, training": Call(
        ops.batch_norm_backward,
        (whole(N, 3, 4, 5), whole(N, 3, 4, 5), positive(3), whole(3), positive(3)),
        weight=2,
        batched=(0, 1),
    ),
    "batch_norm_backward": Call(
        lambda *arrays: ops.batch_norm_backward(*arrays, training=False),
        (whole(N, 3), whole(N, 3), positive(3), whole(3), positive(3)),
        weight=2,
        batched=(0, 1),
    ),
    "batch_norm, channels": Call(
        lambda x, *rest: ops.batch_norm(x, *rest, channels=2),
        (whole(N, 3, 4, 5), positive(2), whole(2), whole(2), positive(2)),
        weight=1,
    ),
    "batch_norm_backward, channels": Call(
        lambda *arrays: ops.batch_norm_backward(*arrays, channels=2),
        (whole(N, 2, 4, 5), whole(N, 3, 4, 5), positive(2), whole(2), positive(2)),
        weight=2,
        batched=(0, 1),
    ),
    "batch_norm, sequences": Call(
        lambda x, *rest: ops.batch_norm(x, *rest, None, None, training=True, return_statistics=True),
        (whole(N, 3, 4), positive(3), whole(3)),
        weight=1,
    ),
    "group_norm": Call(
        lambda x, *rest: ops.group_norm(x, 2, *rest, return_statistics=True),
        (whole(N, 4, 5, 6), positive(4), whole(4)),
        weight=1,
    ),
    "group_norm, features": Call(lambda x, *rest: ops.group_norm(x, 2, *rest), (whole(N, 4), positive(4)), weight=1),
    "group_norm, no weight": Call(lambda x: ops.group_norm(x, 1), (X,)),
    "group_norm, large": Call(lambda x: ops.group_norm(x, 1), (whole(N, 33, 29, 31),)),
    "group_norm_backward": Call(
        lambda dy, x, *rest: ops.group_norm_backward(dy, x, 2, *rest),
        (X + 1, X, positive(4), whole(N, 2), positive(N, 2)),
        weight=2,
        batched=(0, 1, 3, 4),
    ),
    "group_norm_backward, sequences": Call(
        lambda dy, x, *rest: ops.group_norm_backward(dy, x, 2, *rest),
        (whole(N, 4, 5), whole(N, 4, 5), positive(4), whole(N, 2), positive(N, 2)),
        weight=2,
        batched=(0, 1, 3, 4),
    ),
    "group_norm_backward, large": Call(
        lambda dy, x, *rest: ops.group_norm_backward(dy, x, 1, None, *rest),
        (whole(N, 33, 29, 31), whole(N, 33, 29, 31), whole(N, 1), positive(N, 1)),
        batched=(0, 1, 2, 3),
    ),
    "instance_norm": Call(lambda x: ops.instance_norm(x, return_statistics=True), (whole(N, 3, 4, 5),)),
    "instance_norm, running": Call(
        lambda x, *rest: ops.instance_norm(x, *rest, use_input_stats=False, return_statistics=True),
        (whole(N, 3, 4), whole(3), positive(3), positive(3), whole(3)),
        weight=3,
    ),
    "instance_norm_backward": Call(
        lambda dy, x, *rest: ops.instance_norm_backward(dy, x, None, *rest),
        (whole(N, 3, 4), whole(N, 3, 4), whole(N, 3), positive(N, 3)),
        batched=(0, 1, 2, 3),
    ),
    "instance_norm_backward, running": Call(
        lambda *arrays: ops.instance_norm_backward(*arrays, use_input_stats=False),
        (whole(N, 3, 4), whole(N, 3, 4), positive(3), whole(3), positive(3)),
        weight=2,
        batched=(0, 1),
    ),
    "layer_norm": Call(lambda x, *rest: ops.layer_norm(x, (5, 6), *rest), (X, positive(5, 6), whole(5, 6)), weight=1),
    "layer_norm, whole": Call(lambda x: ops.layer_norm(x, (4, 5, 6)), (X,)),
    "layer_norm_backward": Call(
        lambda dy, x, *rest: ops.layer_norm_backward(dy, x, 6, *rest),
        (whole(N, 6), whole(N, 6), positive(6), whole(N, 1), positive(N, 1)),
        weight=2,
        batched=(0, 1, 3, 4),
    ),
    "local_response_norm": Call(lambda x: ops.local_response_norm(x, 3, 0.5, return_scale=True), (X,)),
    "local_response_norm, power": Call(lambda x: ops.local_response_norm(x, 2, 0.5, 0.6), (whole(N, 4, 5),)),
    "local_response_norm_backward": Call(response_norm_backward, (X + 1, X), batched=(0, 1)),
    "linear": Call(ops.linear, (whole(N, 4), whole(5, 4), whole(5)), weight=1),
    "linear, relu": Call(
        lambda *arrays: ops.linear(*arrays, activation="relu"), (whole(N, 4), whole(5, 4), whole(5)), weight=1
    ),
    "linear_backward": Call(ops.linear_backward, (whole(N, 5), whole(N, 4), whole(5, 4)), weight=2, batched=(0, 1)),
    "relu": Call(ops.relu, (X,)),
    "relu_backward": Call(ops.relu_backward, (X, positive(N, 4, 5, 6)), batched=(0, 1), silent=(1,)),
    "sigmoid": Call(ops.sigmoid, (X,)),
    "sigmoid_backward": Call(ops.sigmoid_backward, (X, X + 1), batched=(0, 1)),
    "tanh": Call(ops.tanh, (X,)),
    "tanh_backward": Call(ops.tanh_backward, (X, X + 1), batched=(0, 1)),
    **{name: Call(getattr(ops, name), (X,)) for name in POINTWISE},
    **{
        f"{name}_backward": Call(
            getattr(ops, f"{name}_backward"), (X, X + 1), batched=(0, 1), silent=(1,) if name in BENT else ()
        )
        for name in POINTWISE
    },
    "gelu, tanh": Call(lambda x: ops.gelu(x, "tanh"), (X,)),
    "gelu_backward, tanh": Call(lambda dy, x: ops.gelu_backward(dy, x, "tanh"), (X, X + 1), batched=(0, 1)),
    "prelu": Call(ops.prelu, (X, whole(4)), weight=1),
    "prelu, one": Call(ops.prelu, (X, positive(1)), weight=1),
    "prelu_backward": Call(ops.prelu_backward, (X, X + 1, whole(4)), weight=2, batched=(0, 1)),
    "prelu_backward, one": Call(ops.prelu_backward, (X, X + 1, positive(1)), weight=2, batched=(0, 1)),
    "softmax": Call(ops.softmax, (LOGITS,)),
    "softmax, channels": Call(lambda x: ops.softmax(x, 1), (X,)),
    "softmax, columns": Call(lambda x: ops.softmax(x, 1), (whole(N, 4, 5),)),
    "softmax_backward": Call(ops.softmax_backward, (LOGITS, LOGITS + 1), batched=(0, 1)),
    "softmax_backward, columns": Call(
        lambda *arrays: ops.softmax_backward(*arrays, 1), (whole(N, 4, 5), whole(N, 4, 5) + 1), batched=(0, 1)
    ),
    "log_softmax": Call(lambda x: ops.log_softmax(x, 1), (X,)),
    "log_softmax_backward": Call(ops.log_softmax_backward, (LOGITS, LOGITS + 1), batched=(0, 1)),
    "dropout2d": Call(lambda x: ops.dropout2d(x, 0.5, 1, 2), (X,)),
    "dropout": Call(lambda x: ops.dropout(x, 0.5, 1, 2), (X,)),
    "dropout, p=0": Call(lambda x: ops.dropout(x, 0, 1, 2), (X,)),
    "add": Call(lambda *arrays: ops.add(arrays), (X, X + 1, X + 2), batched=(0, 1, 2)),
    "add, one": Call(lambda x: ops.add([x]), (X,)),
    "multiply": Call(ops.multiply, (X, X + 1), batched=(0, 1)),
    "multiply, by channel": Call(ops.multiply, (X, whole(N, 4, 1, 1)), batched=(0, 1)),
    "multiply_backward": Call(ops.multiply_backward, (X, X + 1, X + 2), batched=(0, 1, 2)),
    "multiply_backward, by channel": Call(ops.multiply_backward, (X, X + 1, whole(N, 4, 1, 1)), batched=(0, 1, 2)),
    "concat": Call(lambda *arrays: ops.concat(arrays), (X, whole(N, 2, 5, 6)), batched=(0, 1)),
    "concat, one": Call(lambda x: ops.concat([x]), (X,)),
    "concat_backward": Call(lambda dy: ops.concat_backward(dy, (1, 3)), (X,)),
    "concat_backward, one": Call(lambda dy: ops.concat_backward(dy, (4,)), (X,)),
    "flatten": Call(ops.flatten, (X,)),
    "copy": Call(ops.copy, (X,)),
    "softmax_cross_entropy": Call(
        lambda logits, labels: ops.softmax_cross_entropy(logits, labels, None, -100, "sum", 0.25),
        (LOGITS, LABELS),
        batched=(0, 1),
    ),
    "softmax_cross_entropy, weighted": Call(
        lambda *arrays: ops.softmax_cross_entropy(*arrays, 1, "none"), (LOGITS, LABELS, positive(3)), batched=(0, 1)
    ),
    "softmax_cross_entropy, probabilities": Call(
        lambda logits: ops.softmax_cross_entropy(logits, shares(logits), reduction="sum"), (LOGITS,)
    ),
    "softmax_cross_entropy, images": Call(
        lambda *arrays: ops.softmax_cross_entropy(*arrays, reduction="sum"), (Y, PLANES), batched=(0, 1)
    ),
    "softmax_cross_entropy_backward": Call(
        lambda *arrays: ops.softmax_cross_entropy_backward(*arrays, None, -100, 0.25),
        (positive(N), LOGITS, LABELS),
        batched=(0, 1, 2),
    ),
    "softmax_cross_entropy_backward, probabilities": Call(
        lambda p, weight: ops.softmax_cross_entropy_backward(1.0, p, shares(p), weight), (LOGITS, positive(3))
    ),
    "softmax_cross_entropy_backward, images": Call(
        lambda *arrays: ops.softmax_cross_entropy_backward(1.0, *arrays), (Y, PLANES), batched=(0, 1)
    ),
    "nll_loss": Call(
        lambda *arrays: ops.nll_loss(*arrays, -100, "none"), (LOGITS, LABELS, positive(3)), batched=(0, 1), silent=(0,)
    ),
    "nll_loss, images": Call(
        lambda *arrays: ops.nll_loss(*arrays, reduction="sum"), (Y, PLANES), batched=(0, 1), silent=(0,)
    ),
    "nll_loss_backward": Call(
        ops.nll_loss_backward, (positive(N), LOGITS, LABELS, positive(3)), batched=(0, 1, 2), silent=(1,)
    ),
    "pointwise_loss": Call(
        lambda *arrays: ops.pointwise_loss(*arrays, "squared", reduction="sum"), (LOGITS, LOGITS * 2), batched=(0, 1)
    ),
    "pointwise_loss, none": Call(
        lambda x, target, weight: ops.pointwise_loss(x, target, "smooth_l1", 1.0, "none", weight),
        (X, X * 2, positive(4, 1, 1)),
        batched=(0, 1),
    ),
    "pointwise_loss_backward": Call(
        lambda *arrays: ops.pointwise_loss_backward(None, *arrays, reduction="sum"),
        (LOGITS, LOGITS * 2),
        batched=(0, 1),
    ),
    "pointwise_loss_backward, logistic": Call(
        lambda dy, x, target, more: ops.pointwise_loss_backward(
            dy, x, target, "logistic", reduction="none", pos_weight=more
        ),
        (LOGITS, LOGITS, LOGITS / 8 + 0.5, positive(3)),
        batched=(0, 1, 2),
    ),
    "count_correct": Call(ops.count_correct, (LOGITS, LABELS), batched=(0, 1), silent=(0,)),
    "count_classes": Call(ops.count_classes, (Y, PLANES), batched=(0, 1), silent=(0,)),
}


def calls(wanted: Callable[[Call], bool]) -> pytest.MarkDecorator:
    chosen = {name: call for name, call in CALLS.items() if wanted(call)}
    return pytest.mark.parametrize("call", chosen.values(), ids=chosen)


every_call = calls(lambda call: True)


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "read-only": read_only,
    "non-contiguous": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: x[::-1].copy()[::-1],
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
}


def is_real(x: np.ndarray) -> bool:
    """False for labels and indices."""
    return x.dtype.kind == "f"


def nan_for_infinity(x: np.ndarray) -> np.ndarray:
    """Sums in another order may meet opposite infinities and turn one into NaN, but nothing finite."""
    return np.where(np.isfinite(x), x, np.nan)


def equal(backend, ours: Sequence[Any], expected: Sequence[Any]) -> None:
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(b))


def test_every_operation_is_here():
    without_arrays = {
        "conv2d_choice",
        "conv2d_geometry",
        "conv_transpose2d_geometry",
        "adaptive_pool2d_geometry",
        "pool2d_geometry",
    }
    public = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    assert {name.split(",")[0] for name in CALLS} == public - without_arrays


@every_call
def test_results_are_new_arrays(backend, call):
    results = call()
    for i, result in enumerate(results):
        assert backend.is_array(result)
        if isinstance(result, np.ndarray):
            assert result.flags.writeable
            assert not any(np.shares_memory(result, other) for other in (*call.arrays, *results[:i]))


@every_call
def test_later_calls_leave_earlier_results_alone(backend, call):
    results = call()
    kept = [np.array(backend.to_numpy(result)) for result in results]
    call([x + 1 if is_real(x) else x for x in call.arrays])
    for result, copy in zip(results, kept, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(result), copy)


@every_call
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_memory_layout(backend, call, layout):
    arrays = [layout(x) for x in call.arrays]
    plain = [np.array(x, x.dtype.newbyteorder("="), order="C") for x in arrays]
    before = [x.tobytes() for x in arrays]
    equal(backend, call(arrays), call(plain))
    assert [x.tobytes() for x in arrays] == before


@every_call
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.bool_, np.float16, ">f2"])
def test_other_real_dtypes_count_as_float32(backend, call, dtype):
    arrays = [x.astype(dtype) if is_real(x) else x for x in call.arrays]
    before = [x.tobytes() for x in arrays]
    singles = [x.astype(np.float32) if is_real(y) else x for x, y in zip(arrays, call.arrays, strict=True)]
    equal(backend, call(arrays), call(singles))
    assert [x.tobytes() for x in arrays] == before


@every_call
@pytest.mark.parametrize("dtype", [np.float64, ">f8"])
def test_float64_stays(backend, call, dtype):
    """Losses are float64 and counts int64 in any case."""
    singles = call()
    doubles = call([x.astype(dtype) if is_real(x) else x for x in call.arrays])
    for single, double in zip(singles, doubles, strict=True):
        if single.dtype == np.float32:
            assert double.dtype == np.float64
        np.testing.assert_allclose(backend.to_numpy(single), backend.to_numpy(double), rtol=1e-5, atol=1e-5)


@calls(lambda call: call.weight is not None)
def test_the_weight_sets_the_dtype(backend, call):
    others = [x if i == call.weight else x.astype(np.float64) for i, x in enumerate(call.arrays)]
    equal(backend, call(others), call())
    double = [x.astype(np.float64) if i == call.weight else x for i, x in enumerate(call.arrays)]
    assert all(result.dtype == np.float64 for result in call(double))


@every_call
def test_nested_lists(backend, call):
    lists = call([x.tolist() for x in call.arrays])
    equal(backend, lists, call([x.astype(np.float64) if is_real(x) else x for x in call.arrays]))


@calls(lambda call: bool(call.batched))
def test_empty_batches(backend, call):
    results = call([x[:0] if i in call.batched else x for i, x in enumerate(call.arrays)])
    for result, full in zip(results, call(), strict=True):
        expected = tuple(0 if size == N else size for size in full.shape)
        assert tuple(result.shape) == expected
        assert np.isfinite(backend.to_numpy(result)).all()


@every_call
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_go_through(backend, call, special):
    for position, array in enumerate(call.arrays):
        if not is_real(array):
            continue
        arrays = [x.copy() for x in call.arrays]
        arrays[position][0] = special
        # The reference tells of them by NumPy's warnings.
        with np.errstate(all="ignore"):
            results = [backend.to_numpy(result) for result in call(arrays)]
            with backends.use_backend("reference"):
                expected = call(arrays)
        if np.isnan(special) and position not in call.silent:
            assert any(np.isnan(result).any() for result in results)
        # Where a kernel meets the border, a weight times nothing may count as a product with zero or not at all.
        if position != call.weight:
            for result, wanted in zip(results, expected, strict=True):
                np.testing.assert_allclose(nan_for_infinity(result), nan_for_infinity(wanted), rtol=1e-4, atol=1e-4)
