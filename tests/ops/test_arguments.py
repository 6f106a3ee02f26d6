"""Every error: its type, and a message that names the argument, its value and the rule."""

from __future__ import annotations

import re

import numpy as np
import pytest

from numbacnn import backends, ops
from numbacnn.ops import arguments

X = np.zeros((2, 3, 8, 8), np.float32)
W = np.zeros((4, 3, 3, 3), np.float32)
DY = np.zeros((2, 4, 6, 6), np.float32)
POOLED = np.zeros((2, 3, 4, 4), np.float32)
C = np.ones(3, np.float32)
LOGITS = np.zeros((4, 10), np.float32)
LABELS = np.zeros(4, np.int64)


def bn(x=X, weight=C, bias=C, mean=C, variance=C, **options):
    return ops.batch_norm(x, weight, bias, mean, variance, **options)


CONV_VALUE_ERRORS = [
    (lambda: ops.conv2d(X[0], W), "`x` (3, 8, 8) must have 4 axes (n, c, h, w); a single image goes in as `x[None]`"),
    (lambda: ops.conv2d(X[0, 0], W), "`x` (8, 8) must have 4 axes (n, c, h, w)"),
    (lambda: ops.conv2d(X, W[0]), "`weight` (3, 3, 3) must have 4 axes"),
    (
        lambda: ops.conv2d(X.transpose(0, 2, 3, 1), W),
        "`x` (2, 8, 8, 3) has 8 channels (axis 1), but `weight` (4, 3, 3, 3) takes 3; "
        "channels-last images go in as `x.transpose(0, 3, 1, 2)`",
    ),
    (lambda: ops.conv2d(X, W[:, :2]), "`x` (2, 3, 8, 8) has 3 channels (axis 1), but `weight` (4, 2, 3, 3) takes 2"),
    (lambda: ops.conv2d(np.zeros((1, 6, 8, 8)), W, groups=1), "has 6 channels (axis 1), but `weight` (4, 3, 3, 3)"),
    (lambda: ops.conv2d(np.zeros((1, 8, 8, 8)), W, groups=2), "`weight` (4, 3, 3, 3) takes 3 * groups"),
    (lambda: ops.conv2d(X, W[:0]), "`weight` (0, 3, 3, 3) must not be empty"),
    (lambda: ops.conv2d(X, W[..., :0]), "`weight` (4, 3, 3, 0) must not be empty"),
    (lambda: ops.conv2d(X[:, :, :0], W, padding=2), "`x` (2, 3, 0, 8) must not be empty: only the batch"),
    (lambda: ops.conv2d(X, W, C), "`bias` (3,) must have the shape (4,) for `weight` (4, 3, 3, 3)"),
    (lambda: ops.conv2d(X, W, np.zeros((4, 1))), "`bias` (4, 1) must have the shape (4,)"),
    (lambda: ops.conv2d(X, W, True), "`bias` () must have the shape (4,)"),
    (lambda: ops.conv2d(X, np.zeros((4, 3, 9, 3))), "output would be 0x6: the kernel (9, 3) of `weight` (4, 3, 9, 3)"),
    (
        lambda: ops.conv2d(X, W, padding=(1, 0), dilation=5),
        "output would be 0x0: the kernel (3, 3) of `weight` (4, 3, 3, 3) with `dilation` (5, 5) "
        "does not fit the padded input 10x8",
    ),
    (lambda: ops.conv2d_backward(DY[1:], X, W), "`dy` (1, 4, 6, 6) must have the shape (2, 4, 6, 6) of the result for"),
    (lambda: ops.conv2d_backward(DY, X, W, padding=1), "`dy` (2, 4, 6, 6) must have the shape (2, 4, 8, 8)"),
    (lambda: ops.conv2d(X, W, stride=0), "`stride` 0 must be at least 1"),
    (lambda: ops.conv2d(X, W, stride=(1, -1)), "`stride` (1, -1) must be at least 1"),
    (lambda: ops.conv2d(X, W, stride=(1, 1, 1)), "`stride` (1, 1, 1) must be an int or a pair of ints, not 3 entries"),
    (lambda: ops.conv2d(X, W, dilation=0), "`dilation` 0 must be at least 1"),
    (lambda: ops.conv2d(X, W, groups=0), "`groups` 0 must be at least 1"),
    (lambda: ops.conv2d(X, W, groups=2), "`groups` 2 must divide the 3 channels of `x` (2, 3, 8, 8)"),
    (lambda: ops.conv2d(X, W[:, :1], groups=3), "`groups` 3 must divide the 4 output channels of `weight`"),
    (lambda: ops.conv2d(X, W, padding="SAME"), "`padding` 'SAME' must be one of 'valid', 'same', 'same_lower'"),
    (lambda: ops.conv2d(X, W, padding="same", stride=2), "`padding` 'same' needs `stride` 1, not (2, 2)"),
    (
        lambda: ops.conv2d(X, W, padding=-1),
        "`padding` -1 must be an int, (h, w), ((top, bottom), (left, right)), "
        "'valid', 'same' or 'same_lower', at least 0 everywhere",
    ),
    (lambda: ops.conv2d(X, W, padding=((0, 1), (0, -1))), "`padding` ((0, 1), (0, -1)) must be"),
    (
        lambda: ops.conv2d(X, W, padding=(1, 1, 1, 1)),
        "`padding` (1, 1, 1, 1) must be an int, (h, w), ((top, bottom), (left, right)), "
        "'valid', 'same' or 'same_lower', not 4 entries",
    ),
    (lambda: ops.conv2d(X, W, padding=((1, 1, 1), (1, 1, 1))), "`padding` ((1, 1, 1), (1, 1, 1)) must be"),
    (lambda: ops.conv2d(X, W, algorithm="fastest"), "`algorithm` 'fastest' must be one of 'auto', "),
    (lambda: ops.conv2d(X, W, algorithm=None), "`algorithm` None must be one of 'auto', "),
    (lambda: ops.conv2d_backward(DY, X, W, algorithm="im2row"), "`algorithm` 'im2row' must be one of"),
    (lambda: ops.conv2d(X, W, backend="torch"), "`backend` 'torch' must be one of"),
    (lambda: ops.conv2d([[[[1, 2], [3]]]], W), "`x` must be an array or evenly nested lists of numbers"),
    (lambda: ops.corr2d(X, W[0, 0]), "`X` (2, 3, 8, 8) must have 2 axes (h, w)"),
    (lambda: ops.corr2d(X[0, 0], W[0]), "`K` (3, 3, 3) must have 2 axes (kh, kw)"),
    (lambda: ops.corr2d(W[0, 0], X[0, 0]), "`K` (8, 8) must not be empty, and nowhere larger than `X` (3, 3)"),
    (lambda: ops.corr2d(X[0, 0], np.zeros((0, 2))), "`K` (0, 2) must not be empty"),
    (lambda: ops.conv2d_geometry((-1, 3, 8, 8), (4, 3, 3, 3)), "`x` (-1, 3, 8, 8) must hold no negative size"),
]

POOLING_VALUE_ERRORS = [
    (
        lambda: ops.max_pool2d(X[0], 2),
        "`x` (3, 8, 8) must have 4 axes (n, c, h, w); a single image goes in as `x[None]`",
    ),
    (lambda: ops.avg_pool2d(X[0, 0], 2), "`x` (8, 8) must have 4 axes (n, c, h, w)"),
    (lambda: ops.global_avg_pool2d(X[0]), "`x` (3, 8, 8) must have 4 axes"),
    (lambda: ops.max_pool2d(X, 0), "`kernel_size` 0 must be at least 1"),
    (lambda: ops.max_pool2d(X, (2, 2, 2)), "`kernel_size` (2, 2, 2) must be an int or a pair of ints, not 3 entries"),
    (lambda: ops.max_pool2d(X, 2, 0), "`stride` 0 must be at least 1"),
    (lambda: ops.max_pool2d(X, 2, dilation=(0, 1)), "`dilation` (0, 1) must be at least 1"),
    (lambda: ops.max_pool2d(X, 5, padding=3), "`padding` (3, 3) must be at most half of `kernel_size` (5, 5)"),
    (lambda: ops.avg_pool2d(X, 3, padding=((2, 1), (0, 0))), "`padding` ((2, 1), (0, 0)) must be at most half of"),
    (lambda: ops.max_pool2d(X, 2, padding=3, dilation=3), "`padding` (3, 3) must be at most half of `kernel_size` (2,"),
    (lambda: ops.max_pool2d(X, 3, padding="same"), "`padding` 'same' needs `stride` 1, not (3, 3)"),
    (lambda: ops.max_pool2d(X, 3, padding="full"), "`padding` 'full' must be one of 'valid', 'same', 'same_lower'"),
    (lambda: ops.max_pool2d(X, 9), "output would be 0x0: `kernel_size` (9, 9) does not fit the padded input 8x8"),
    (lambda: ops.max_pool2d(X, 4, dilation=3), "output would be 0x0: `kernel_size` (4, 4) with `dilation` (3, 3) does"),
    (lambda: ops.avg_pool2d(X, (2, 11), 1, (0, 1)), "output would be 7x0: `kernel_size` (2, 11) does not fit the"),
    (lambda: ops.max_pool2d(X[:, :0], 2), "`x` (2, 0, 8, 8) must not be empty: only the batch"),
    (lambda: ops.global_avg_pool2d(X[..., :0]), "`x` (2, 3, 8, 0) must not be empty: only the batch"),
    (lambda: ops.max_pool2d_backward(X, POOLED.astype(int), X.shape, 2), "`dy` (2, 3, 8, 8) must have the shape (2,"),
    (lambda: ops.max_pool2d_backward(POOLED, X.astype(int), X.shape, 2), "`indices` (2, 3, 8, 8) must have the shape"),
    (lambda: ops.max_pool2d_backward(POOLED, POOLED.astype(int) + 64, X.shape, 2), "`indices` must be in -1..63, but"),
    (lambda: ops.max_pool2d_backward(POOLED, POOLED.astype(int) - 2, X.shape, 2), "`indices` must be in -1..63, but"),
    (lambda: ops.max_pool2d_backward(POOLED, POOLED.astype(int), (3, 8, 8), 2), "`x_shape` (3, 8, 8) must have 4 axes"),
    (lambda: ops.avg_pool2d_backward(X, X.shape, 2), "`dy` (2, 3, 8, 8) must have the shape (2, 3, 4, 4)"),
    (lambda: ops.global_avg_pool2d_backward(POOLED, X.shape), "`dy` (2, 3, 4, 4) must have the shape (2, 3, 1, 1)"),
]

NORMALIZATION_VALUE_ERRORS = [
    (lambda: bn(C), "`x` (3,) must have 2 axes (n, c), 3 axes (n, c, l) or 4 axes (n, c, h, w)"),
    (lambda: ops.batch_norm(X, C, C, None, None), "`running_mean` and `running_var` must be given where `training` is"),
    (lambda: ops.group_norm(X, 2), "`num_groups` 2 must divide the 3 channels of `x` (2, 3, 8, 8)"),
    (lambda: ops.group_norm(X, 0), "`num_groups` 0 must be at least 1"),
    (lambda: ops.group_norm(C, 1), "`x` (3,) must have at least 2 axes (n, c, ...)"),
    (lambda: ops.group_norm(X, 1, C, C[:2]), "`bias` (2,) must have the shape (3,)"),
    (lambda: ops.group_norm(X, 1, eps=-1), "`eps` -1 must be at least 0"),
    (lambda: ops.group_norm_backward(X, X, 1, C, C, C), "`mean` (3,) must have the shape (2, 1) for `x` (2, 3, 8, 8)"),
    (lambda: ops.instance_norm(X[..., :1, :1]), "`x` (2, 3, 1, 1) must hold more than one value per channel and sam"),
    (lambda: ops.instance_norm(X, C), "`running_mean` and `running_var` must both be given, or both be None"),
    (lambda: ops.instance_norm(X, weight=C), "`weight` and `bias` must both be given, or both be None"),
    (lambda: ops.instance_norm(X, use_input_stats=False), "`running_mean` and `running_var` must be given without"),
    (lambda: ops.instance_norm(X[0, 0]), "`x` (8, 8) must have at least 3 axes"),
    (lambda: ops.instance_norm_backward(X, X, C[:2], C, C, False), "`weight` (2,) must have the shape (3,)"),
    (lambda: ops.layer_norm(X, 7), "`x` (2, 3, 8, 8) must end in the axes (7,) of `normalized_shape`"),
    (lambda: ops.layer_norm(X, ()), "`normalized_shape` () must be one int or more, each at least 1"),
    (lambda: ops.layer_norm(X, (8, 8), C), "`weight` (3,) must have the shape (8, 8)"),
    (lambda: ops.layer_norm_backward(X, X, 8, None, C, C), "`mean` (3,) must have the shape (48, 1)"),
    (lambda: ops.local_response_norm(X, 0), "`size` 0 must be at least 1"),
    (lambda: ops.local_response_norm(X, 3, alpha=-1), "`alpha` -1 must be at least 0"),
    (lambda: ops.local_response_norm(X[0, 0], 3), "`x` (8, 8) must have at least 3 axes (n, c, ...)"),
    (lambda: ops.local_response_norm_backward(X, X, X[1:], 3), "`scale` (1, 3, 8, 8) must have the shape (2, 3, 8, 8)"),
    (lambda: bn(weight=np.ones(8)), "`weight` (8,) must have the shape (3,) for `x` (2, 3, 8, 8)"),
    (lambda: bn(bias=np.ones((3, 1))), "`bias` (3, 1) must have the shape (3,)"),
    (lambda: bn(mean=1.0), "`running_mean` () must have the shape (3,)"),
    (lambda: bn(variance=np.ones(2)), "`running_var` (2,) must have the shape (3,)"),
    (lambda: bn(X.transpose(0, 2, 3, 1)), "`weight` (3,) must have the shape (8,) for `x` (2, 8, 8, 3)"),
    (
        lambda: bn(X[:1, :, :1, :1], training=True),
        "`x` (1, 3, 1, 1) must hold more than one value per channel in training",
    ),
    (lambda: bn(X[:1, :, 0, 0], training=True), "`x` (1, 3) must hold more than one value per channel in training"),
    (lambda: bn(eps=-1e-5), "`eps` -1e-05 must be at least 0"),
    (lambda: bn(eps=float("nan")), "`eps` nan must be at least 0"),
    (lambda: bn(eps=float("inf")), "`eps` inf must be"),
    (lambda: bn(momentum=1.5), "`momentum` 1.5 must be in 0..1"),
    (lambda: bn(momentum=-0.1), "`momentum` -0.1 must be in 0..1"),
    (lambda: ops.batch_norm_backward(X[1:], X, C, C, C), "`dy` (1, 3, 8, 8) must have the shape (2, 3, 8, 8) of `x`"),
    (lambda: ops.batch_norm_backward(X, X, C, C, C, channels=4), "`channels` 4 must be in 0..3"),
    (lambda: ops.batch_norm_backward(X, X, C, C, C, channels=2), "`dy` (2, 3, 8, 8) must have the shape (2, 2, 8, 8)"),
    (lambda: ops.batch_norm_backward(X, X, C, C[:2], C), "`mean` (2,) must have the shape (3,)"),
    (lambda: ops.batch_norm_backward(X, X, C, C, C[:2]), "`inverse_std` (2,) must have the shape (3,)"),
]

LINEAR_VALUE_ERRORS = [
    (
        lambda: ops.linear(X, np.zeros((10, 192))),
        "`x` (2, 3, 8, 8) must have 192 features in its last axis for `weight` (10, 192); flatten the images first",
    ),
    (lambda: ops.linear(LOGITS, np.zeros((10, 4))), "`x` (4, 10) must have 4 features in its last axis for `weight`"),
    (lambda: ops.linear(1.0, np.zeros((2, 1))), "`x` () must have 1 features"),
    (lambda: ops.linear(LOGITS, np.zeros(10)), "`weight` (10,) must have 2 axes (out_features, in_features)"),
    (lambda: ops.linear(LOGITS, np.zeros((3, 10)), np.zeros(10)), "`bias` (10,) must have the shape (3,) for `weight`"),
    (lambda: ops.linear_backward(LOGITS, LOGITS, np.zeros((3, 10))), "`dy` (4, 10) must have the shape (4, 3) of the"),
]

ELEMENTWISE_VALUE_ERRORS = [
    (lambda: ops.tanh([1, [2]]), "`x` must be an array or evenly nested lists of numbers"),
    (lambda: ops.relu_backward(X, DY), "`dy` (2, 3, 8, 8) must have the shape (2, 4, 6, 6) of `y`"),
    (lambda: ops.sigmoid_backward(1.0, LOGITS), "`dy` () must have the shape (4, 10) of `y`"),
    (lambda: ops.tanh_backward(LOGITS, LOGITS[0]), "`dy` (4, 10) must have the shape (10,) of `y`"),
    (lambda: ops.softmax(X, 4), "`dim` 4 must be in -4..3"),
    (lambda: ops.log_softmax_backward(X, X, -5), "`dim` -5 must be in -4..3"),
    (lambda: ops.softmax(1.0), "`x` () must have one axis at least"),
    (lambda: ops.softmax_backward(X, LOGITS), "`dy` (2, 3, 8, 8) must have the shape"),
    (lambda: ops.dropout2d(LOGITS, 0.5, 1, 2), "must have 4 axes (n, c, h, w)"),
    (lambda: ops.dropout(X, 1.5, 0, 0), "`p` 1.5 must be in 0..1"),
    (lambda: ops.dropout(X, -0.5, 0, 0), "`p` -0.5 must be in 0..1"),
    (lambda: ops.dropout(X, float("nan"), 0, 0), "`p` nan must be in 0..1"),
    (lambda: ops.dropout(X, 0.5, -1, 0), "`seed` -1 must be in 0..18446744073709551615"),
    (lambda: ops.dropout(X, 0.5, 2**64, 0), "`seed` 18446744073709551616 must be in"),
    (lambda: ops.dropout(X, 0.5, 0, 2**63), "`offset` 9223372036854775808 must be in 0..9223372036854775807"),
    (
        lambda: ops.linear(LOGITS, LOGITS, activation="gelu"),
        "`activation` 'gelu' must be one of 'relu', 'sigmoid', 'tanh'",
    ),
    (lambda: ops.conv2d(X, X, activation=3), "`activation` 3 must be one of"),
    (lambda: ops.batch_norm(X, *[np.ones(3)] * 4, activation="gelu"), "`activation` 'gelu' must be one of 'relu'"),
    (lambda: ops.add([]), "`arrays` must hold at least one array"),
    (lambda: ops.add([X, DY]), "`arrays[1]` (2, 4, 6, 6) must have the shape (2, 3, 8, 8) of `arrays[0]`"),
    (lambda: ops.add([X, X[:, :1]]), "`arrays[1]` (2, 1, 8, 8) must have the shape (2, 3, 8, 8)"),
    (lambda: ops.concat(()), "`arrays` must hold at least one array"),
    (lambda: ops.concat([X, X[0]]), "`arrays[1]` (3, 8, 8) must equal `arrays[0]` (2, 3, 8, 8) in all axes but"),
    (lambda: ops.concat([X, X[..., 1:]]), "`arrays[1]` (2, 3, 8, 7) must equal `arrays[0]` (2, 3, 8, 8)"),
    (lambda: ops.concat([C, C]), "`arrays[0]` (3,) must have 2 or more axes (n, c, ...)"),
    (lambda: ops.concat_backward(X, [1, 1]), "`sizes` (1, 1) must add up to the 3 channels of `dy` (2, 3, 8, 8)"),
    (lambda: ops.concat_backward(X, []), "`sizes` [] must be a sequence of one or more ints"),
    (lambda: ops.concat_backward(X, [4, -1]), "`sizes` -1 must be at least 0"),
    (lambda: ops.concat_backward(C, [3]), "`dy` (3,) must have 2 or more axes (n, c, ...)"),
    (lambda: ops.flatten(X, 5), "`start_dim` 5 must be in 0..4"),
    (lambda: ops.flatten(X, -1), "`start_dim` -1 must be in 0..4"),
]

LOSS_VALUE_ERRORS = [
    (lambda: ops.softmax_cross_entropy(C, LABELS), "`logits` (3,) must have 2 axes or more (n, classes, ...)"),
    (lambda: ops.softmax_cross_entropy(X, LABELS), "`labels` (4,) must have the shape (2, 8, 8) for `logits` (2, 3, 8"),
    (
        lambda: ops.softmax_cross_entropy(LOGITS, np.eye(10, dtype=int)[LABELS]),
        "`labels` (4, 10) must be class numbers of shape (4,); one-hot rows become them by `labels.argmax(axis=1)`",
    ),
    (lambda: ops.softmax_cross_entropy(LOGITS, LABELS[:, None]), "`labels` (4, 1) must have the shape (4,) for"),
    (lambda: ops.softmax_cross_entropy(LOGITS, LABELS[:3]), "`labels` (3,) must have the shape (4,) for `logits` (4,"),
    (lambda: ops.softmax_cross_entropy(LOGITS, 3), "`labels` () must have the shape (4,)"),
    (
        lambda: ops.softmax_cross_entropy(LOGITS, [0, 1, 2, 10]),
        "`labels` must be in 0..9 or -100, which is ignored, but hold 10",
    ),
    (lambda: ops.softmax_cross_entropy(LOGITS, [0, -100, 2, -1]), "or -100, which is ignored, but hold -1"),
    (lambda: ops.softmax_cross_entropy(LOGITS, [0, 1, 2, -100], None, 7), "or 7, which is ignored, but hold -100"),
    (
        lambda: ops.softmax_cross_entropy(LOGITS, np.full(4, 2**64 - 1, np.uint64)),
        "`labels` must be in 0..9 or -100, which",
    ),
    (
        lambda: ops.softmax_cross_entropy(LOGITS[:, :0], LABELS),
        "`labels` must be in 0..-1 or -100, which is ignored, but hold 0",
    ),
    (lambda: ops.softmax_cross_entropy(LOGITS, [0, [1], 2, 3]), "`labels` must be an array or evenly nested lists"),
    (
        lambda: ops.softmax_cross_entropy(LOGITS, LABELS, reduction="max"),
        "`reduction` 'max' must be one of 'mean', 'sum', 'none'",
    ),
    (
        lambda: ops.softmax_cross_entropy(LOGITS, LABELS, reduction=None),
        "`reduction` None must be one of 'mean', 'sum'",
    ),
    (lambda: ops.softmax_cross_entropy(LOGITS, LABELS, label_smoothing=1.1), "`label_smoothing` 1.1 must be in 0..1"),
    (lambda: ops.softmax_cross_entropy(LOGITS, LABELS, label_smoothing=-0.1), "`label_smoothing` -0.1 must be in 0..1"),
    (
        lambda: ops.softmax_cross_entropy(LOGITS, LABELS, C),
        "`weight` (3,) must have the shape (10,) for `logits` (4, 10)",
    ),
    (lambda: ops.softmax_cross_entropy_backward(1, LOGITS, LABELS[:3]), "`labels` (3,) must have the shape (4,) for"),
    (lambda: ops.softmax_cross_entropy_backward(C, LOGITS, LABELS), "`scale` (3,) must have the shape (4,) for"),
    (lambda: ops.nll_loss(LOGITS, LABELS + 10), "`labels` must be in 0..9 or -100, which is ignored, but hold 10"),
    (lambda: ops.nll_loss(LOGITS, LABELS, C), "`weight` (3,) must have the shape (10,) for `x` (4, 10)"),
    (lambda: ops.nll_loss_backward(C, LOGITS, LABELS), "`scale` (3,) must have the shape (4,) for `x` (4, 10), or ()"),
    (lambda: ops.pointwise_loss(LOGITS, LOGITS[:, 0]), "`target` (4,) must have the shape (4, 10) of `prediction`"),
    (lambda: ops.pointwise_loss(LOGITS[:, :1], LOGITS[:, 0]), "`target` (4,) must have the shape (4, 1) of"),
    (lambda: ops.pointwise_loss(LOGITS, LOGITS, reduction="max"), "`reduction` 'max' must be one of 'mean', 'sum'"),
    (lambda: ops.pointwise_loss_backward(None, LOGITS, 0), "`target` () must have the shape (4, 10)"),
    (
        lambda: ops.pointwise_loss(LOGITS, LOGITS, "cubed"),
        "`kind` 'cubed' must be one of 'squared', 'smooth_l1', 'huber'",
    ),
    (lambda: ops.pointwise_loss(LOGITS, LOGITS, "huber", -1), "`parameter` -1 must be at least 0"),
    (lambda: ops.pointwise_loss(LOGITS, LOGITS, weight=C), "`weight` (3,) must be broadcast to the shape (4, 10) of"),
    (
        lambda: ops.pointwise_loss(LOGITS[:1], LOGITS[:1], weight=LOGITS),
        "`weight` (4, 10) must be broadcast to the shape (1, 10) of `prediction`",
    ),
    (
        lambda: ops.pointwise_loss(LOGITS, LOGITS, pos_weight=1.0),
        "`pos_weight` is of the kind 'logistic', not 'squared'",
    ),
    (lambda: ops.pointwise_loss_backward(LOGITS, LOGITS, LOGITS), "`dy` must be None where `reduction` is 'mean'"),
    (
        lambda: ops.pointwise_loss_backward(None, LOGITS, LOGITS, reduction="none"),
        "`dy` must be given where `reduction` is 'none'",
    ),
    (
        lambda: ops.pointwise_loss_backward(C, LOGITS, LOGITS, reduction="none"),
        "`dy` (3,) must have the shape (4, 10) of the losses",
    ),
    (lambda: ops.count_correct(LOGITS, LABELS + 10), "`labels` must be in 0..9, but hold 10"),
    (lambda: ops.count_correct(LOGITS, LABELS, 0), "`k` 0 must be at least 1"),
    (
        lambda: ops.count_classes(LOGITS, LABELS + 11, 10),
        "`labels` must be in 0..9 or 10, which is ignored, but hold 11",
    ),
    (lambda: ops.count_correct(LOGITS[0], LABELS), "`logits` (10,) must have 2 axes or more (n, classes, ...)"),
]

CONV_TYPE_ERRORS = [
    (lambda: ops.conv2d(X, W, stride=1.0), "`stride` 1.0 must be an int or a pair of ints"),
    (lambda: ops.conv2d(X, W, stride=True), "`stride` True must be an int or a pair of ints"),
    (lambda: ops.conv2d(X, W, stride=(1, 2.0)), "`stride` (1, 2.0) must be an int or a pair of ints"),
    (lambda: ops.conv2d(X, W, stride="2"), "`stride` '2' must be an int or a pair of ints"),
    (lambda: ops.conv2d(X, W, stride=None), "`stride` None must be an int or a pair of ints"),
    (lambda: ops.conv2d(X, W, groups=1.0), "`groups` 1.0 must be an int"),
    (lambda: ops.conv2d(X, W, groups=True), "`groups` True must be an int"),
    (lambda: ops.conv2d(X, W, padding=0.5), "`padding` 0.5 must be an int"),
    (lambda: ops.conv2d(X, W, padding=(1, 0.5)), "`padding` (1, 0.5) must be an int"),
    (lambda: ops.conv2d(X, W, padding=False), "`padding` False must be an int"),
    (lambda: ops.conv2d(X, W, padding=None), "`padding` None must be an int"),
    (lambda: ops.conv2d_backward(DY, X, W, input_gradient=None), "`input_gradient` None must be True or False"),
    (lambda: ops.conv2d(X.astype(np.complex64), W), "`x` of dtype complex64 must be real: bool, an integer, float16,"),
    (lambda: ops.conv2d(X, W.astype(object)), "`weight` of dtype object must be real"),
    (lambda: ops.conv2d("image", W), "`x` of dtype <U5 must be real"),
    (lambda: ops.conv2d(None, W), "`x` of dtype object must be real"),
    (lambda: ops.conv2d(X, W, ["a"] * 4), "`bias` of dtype <U1 must be real"),
    (lambda: ops.conv2d(X.astype("M8[s]"), W), "`x` of dtype datetime64[s] must be real"),
    (lambda: ops.conv2d_geometry(8, (4, 3, 3, 3)), "`x` 8 must be a shape (n, c, h, w)"),
    (lambda: ops.conv2d_geometry((1, 3, 8.0, 8), (4, 3, 3, 3)), "`x` (1, 3, 8.0, 8) must be a shape (n, c, h, w)"),
]

POOLING_TYPE_ERRORS = [
    (lambda: ops.max_pool2d(X, 2.0), "`kernel_size` 2.0 must be an int or a pair of ints"),
    (lambda: ops.max_pool2d(X, None), "`kernel_size` None must be an int"),
    (lambda: ops.avg_pool2d(X, 2, (True, 1)), "`stride` (True, 1) must be an int or a pair of ints"),
    (lambda: ops.avg_pool2d(X, 2, 2, 0, 1), "`ceil_mode` 1 must be True or False"),
    (lambda: ops.avg_pool2d(X, 2, count_include_pad="no"), "`count_include_pad` 'no' must be True or False"),
    (lambda: ops.max_pool2d(X, 2, return_indices=1), "`return_indices` 1 must be True or False"),
    (lambda: ops.max_pool2d(X * 1j, 2), "`x` of dtype complex64 must be real"),
    (lambda: ops.max_pool2d_backward(POOLED, POOLED, X.shape, 2), "`indices` of dtype float32 must be integers, as"),
    (lambda: ops.avg_pool2d_backward(POOLED, X, 2), "must be a shape (n, c, h, w)"),
]

NORMALIZATION_TYPE_ERRORS = [
    (lambda: bn(weight=None), "`weight` of dtype object must be real"),
    (lambda: bn(mean=C.astype(np.float64), training=True), "`running_mean` must be a contiguous, writable float32"),
    (lambda: bn(variance=[1.0, 1.0, 1.0], training=True), "` must be a contiguous, writable float32 array"),
    (lambda: bn(training=1), "`training` 1 must be True or False"),
    (lambda: bn(momentum=None), "`momentum` None must be a number"),
    (lambda: bn(momentum="0.1"), "`momentum` '0.1' must be a number"),
    (lambda: bn(return_statistics=0), "`return_statistics` 0 must be True or False"),
]

LINEAR_TYPE_ERRORS = [
    (lambda: ops.linear(LOGITS, np.zeros((3, 10), complex)), "`weight` of dtype complex128 must be real"),
]

ELEMENTWISE_TYPE_ERRORS = [
    (lambda: ops.relu(1j), "`x` of dtype complex128 must be real"),
    (lambda: ops.sigmoid("one"), "`x` of dtype <U3 must be real"),
    (lambda: ops.dropout(X, "0.5", 0, 0), "`p` '0.5' must be a number"),
    (lambda: ops.dropout(X, True, 0, 0), "`p` True must be a number"),
    (lambda: ops.dropout(X, 0.5, None, 0), "`seed` None must be an int"),
    (lambda: ops.dropout(X, 0.5, 0, 0.0), "`offset` 0.0 must be an int"),
    (lambda: ops.add(X), "`arrays` must be a list or tuple of arrays, not ndarray"),
    (lambda: ops.add([X, None]), "`arrays[1]` of dtype object must be real"),
    (lambda: ops.concat_backward(X, [1.0, 2.0]), "`sizes` 1.0 must be an int"),
    (lambda: ops.copy(object()), "`x` of dtype object must be real"),
]

LOSS_TYPE_ERRORS = [
    (lambda: ops.softmax_cross_entropy(LOGITS, LABELS.astype(np.float32)), "`labels` of dtype float32 must be"),
    (lambda: ops.softmax_cross_entropy(LOGITS, np.full(4, np.nan)), "`labels` of dtype float64 must be integers"),
    (lambda: ops.softmax_cross_entropy(LOGITS, LABELS > 0), "`labels` of dtype bool must be integers"),
    (lambda: ops.softmax_cross_entropy(LOGITS, ["cat"] * 4), "`labels` of dtype <U3 must be integers"),
    (lambda: ops.softmax_cross_entropy(LOGITS, LABELS, label_smoothing=None), "`label_smoothing` None must be a"),
    (lambda: ops.pointwise_loss(LOGITS, LOGITS * 1j), "`target` of dtype complex64 must be real"),
]

VALUE_ERRORS = [
    *CONV_VALUE_ERRORS,
    *POOLING_VALUE_ERRORS,
    *NORMALIZATION_VALUE_ERRORS,
    *LINEAR_VALUE_ERRORS,
    *ELEMENTWISE_VALUE_ERRORS,
    *LOSS_VALUE_ERRORS,
]
TYPE_ERRORS = [
    *CONV_TYPE_ERRORS,
    *POOLING_TYPE_ERRORS,
    *NORMALIZATION_TYPE_ERRORS,
    *LINEAR_TYPE_ERRORS,
    *ELEMENTWISE_TYPE_ERRORS,
    *LOSS_TYPE_ERRORS,
]


@pytest.mark.parametrize(("call", "message"), VALUE_ERRORS, ids=[message for _, message in VALUE_ERRORS])
def test_value_errors(backend, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(("call", "message"), TYPE_ERRORS, ids=[message for _, message in TYPE_ERRORS])
def test_type_errors(backend, call, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


def test_an_unknown_algorithm_lists_those_that_exist(backend):
    with pytest.raises(ValueError, match="one of 'auto'") as caught:
        ops.conv2d(X, W, algorithm="winograd9")
    assert all(repr(name) in str(caught.value) for name in backend.conv2d_algorithms())


def test_running_statistics_that_training_cannot_update():
    """Nothing is updated where one of the two is wrong."""
    mean, frozen = np.zeros(3, np.float32), np.ones(3, np.float32)
    frozen.flags.writeable = False
    strided = np.ones(6, np.float32)[::2]
    for variance in (frozen, strided, np.ones(3, ">f4")):
        with pytest.raises(TypeError, match="`running_var` must be a contiguous, writable float32 array"):
            bn(X + 1, mean=mean, variance=variance, training=True, backend="reference")
    np.testing.assert_array_equal(mean, 0)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize <= 8, reason="long double is double here")
def test_long_double_is_refused_rather_than_rounded():
    with pytest.raises(TypeError, match=r"`x` of dtype (float|longdouble)\d* must be real"):
        ops.relu(np.ones(2, np.longdouble))


def test_integers_by_index():
    class Two:
        def __index__(self) -> int:
            return 2

    for two in (2, np.int8(2), np.uint64(2), np.array(2), Two()):
        assert arguments.integer("groups", two) == 2
        assert arguments.pair("stride", two) == (2, 2)
    assert arguments.pair("stride", [np.int32(1), Two()]) == (1, 2)
    assert arguments.pair("stride", range(1, 3)) == (1, 2)


def test_numbers():
    for half in (0.5, np.float32(0.5), np.float16(0.5), np.array(0.5)):
        result = arguments.number("p", half, 0, 1)
        assert result == 0.5
        assert type(result) is float
    assert arguments.number("p", np.int64(1), 0, 1) == 1.0


def test_arrays_stay_where_they_are():
    """Nothing is copied that need not be."""
    backend = backends.get("reference")
    x = np.zeros((2, 3), np.float32)
    assert arguments.real_array("x", x, backend) is x
    (converted,) = arguments.convert(backend, np.dtype(np.float32), x)
    assert converted is x


def test_what_was_right_before_is_not_taken_for_what_looks_like_it() -> None:
    assert ops.conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), stride=(1, 1)).sh == 1
    for stride in ((True, True), (1.0, 1.0), (np.True_, 1)):
        with pytest.raises(TypeError, match="`stride`"):
            ops.conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), stride=stride)
    assert ops.conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), stride=[np.int64(1), 1]).sh == 1
    sizes = [1, 1]
    assert ops.conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), stride=sizes).sh == 1
    sizes[0] = 2
    assert ops.conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), stride=sizes).sh == 2

    class Size:
        """An int to NumPy and to us; where one was, the next one is."""

        def __init__(self, size: int) -> None:
            self.size = size

        def __index__(self) -> int:
            return self.size

    for size in (1, 2, 1):
        assert ops.conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), stride=Size(size)).sh == size
    assert ops.conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), stride=np.int8(1)).sh == 1
    with pytest.raises(TypeError, match="`stride`"):
        ops.conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), stride=np.bool_(True))
