"""Arguments that a layer refuses when it is made, and inputs that it refuses when it runs."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn import nn
from numbacnn.backends import Backend


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(0, 1, 3), ValueError, "`in_channels` 0 must be at least 1"),
        (lambda: nn.Conv2d(1, 1.0, 3), TypeError, "`out_channels` 1.0 must be an int"),
        (lambda: nn.Conv2d(1, 1, 0), ValueError, "`kernel_size` 0 must be at least 1"),
        (lambda: nn.Conv2d(1, 1, (3, 3, 3)), ValueError, r"`kernel_size` \(3, 3, 3\) must be an int or a pair"),
        (lambda: nn.Conv2d(1, 1, 3, stride=0), ValueError, "`stride` 0 must be at least 1"),
        (lambda: nn.Conv2d(1, 1, 3, dilation=-1), ValueError, "`dilation` -1 must be at least 1"),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), ValueError, "`padding` -1 must be "),
        (lambda: nn.Conv2d(1, 1, 3, padding="SAME"), ValueError, "`padding` 'SAME' must be one of 'valid', 'same'"),
        (lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"), ValueError, "`padding` 'same' needs `stride` 1"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "`groups` 2 must divide `in_channels` 3"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "`groups` 2 must divide `out_channels` 3"),
        (lambda: nn.Conv2d(1, 1, 3, groups=0), ValueError, "`groups` 0 must be at least 1"),
        (lambda: nn.Conv2d(1, 1, 3, bias="yes"), TypeError, "`bias` 'yes' must be True or False"),
        (lambda: nn.Conv2d(1, 1, 3, algorithm="fft"), ValueError, "`algorithm` 'fft' must be one of 'auto', 'loops'"),
        (lambda: nn.Conv2d(1, 1, 3, dtype=np.float16), ValueError, "`dtype` float16 must be float32 or float64"),
        (lambda: nn.Conv1d(1, 1, (3, 3)), ValueError, r"`kernel_size` \(3, 3\) must be an int, not 2 entries"),
        (lambda: nn.Conv1d(1, 1, 3, stride=1.5), TypeError, "`stride` 1.5 must be an int"),
        (lambda: nn.Conv1d(1, 1, 3, padding=(1, 2)), ValueError, r"`padding` \(1, 2\) must be an int, \(\(before"),
        (lambda: nn.Conv1d(1, 1, 3, padding=-1), ValueError, "`padding` -1 must be an int, .* at least 0"),
        (lambda: nn.Conv1d(1, 1, 3, 2, padding="same"), ValueError, "`padding` 'same' needs `stride` 1"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, padding="same"), ValueError, "`padding` 'same' must be an int"),
        (lambda: nn.ConvTranspose1d(1, 1, 3, padding="valid"), ValueError, "`padding` 'valid' must be an int"),
        (lambda: nn.ConvTranspose2d(4, 3, 3, groups=2), ValueError, "`groups` 2 must divide `out_channels` 3"),
        (
            lambda: nn.ConvTranspose2d(1, 1, 3, stride=2, output_padding=(1, 2)),
            ValueError,
            r"`output_padding` \(1, 2\) must be smaller than `stride` \(2, 2\) or `dilation` \(1, 1\)",
        ),
        (lambda: nn.ConvTranspose1d(1, 1, 3, output_padding=1), ValueError, "`output_padding` .* must be smaller than"),
        (lambda: nn.Linear(1, 1, dtype=int), ValueError, "`dtype` int64 must be float32 or float64"),
        (lambda: nn.Linear(0, 1), ValueError, "`in_features` 0 must be at least 1"),
        (lambda: nn.Linear(1, True), TypeError, "`out_features` True must be an int"),
        (lambda: nn.BatchNorm2d(0), ValueError, "`num_features` 0 must be at least 1"),
        (lambda: nn.BatchNorm2d(1, eps=-1), ValueError, "`eps` -1 must be at least 0"),
        (lambda: nn.BatchNorm1d(1, momentum=1.5), ValueError, r"`momentum` 1.5 must be in 0\.\.1"),
        (lambda: nn.BatchNorm1d(1, momentum=None), TypeError, "`momentum` None must be a number"),
        (lambda: nn.BatchNorm1d(1, affine=1), TypeError, "`affine` 1 must be True or False"),
        (lambda: nn.GroupNorm(2, 3), ValueError, "`num_groups` 2 must divide `num_channels` 3"),
        (lambda: nn.GroupNorm(0, 3), ValueError, "`num_groups` 0 must be at least 1"),
        (lambda: nn.GroupNorm(1, 3, dtype=int), ValueError, "`dtype` int64 must be float32 or float64"),
        (lambda: nn.InstanceNorm2d(1, track_running_stats=None), TypeError, "`track_running_stats` None must be True"),
        (lambda: nn.LayerNorm((2, 0)), ValueError, r"`normalized_shape` \(2, 0\) must be one int or more, each at lea"),
        (lambda: nn.LayerNorm(2.5), TypeError, "`normalized_shape` 2.5 must be an int or a tuple of ints"),
        (lambda: nn.LocalResponseNorm(0), ValueError, "`size` 0 must be at least 1"),
        (lambda: nn.LocalResponseNorm(3, beta=-1), ValueError, "`beta` -1 must be at least 0"),
        (lambda: nn.MaxPool2d(0), ValueError, "`kernel_size` 0 must be at least 1"),
        (lambda: nn.MaxPool2d(2, stride=0), ValueError, "`stride` 0 must be at least 1"),
        (lambda: nn.MaxPool2d(5, padding=3), ValueError, r"`padding` \(3, 3\) must be at most half of `kernel_size`"),
        (lambda: nn.AvgPool2d((2, 3), padding=(1, 2)), ValueError, r"`padding` \(1, 2\) must be at most half"),
        (lambda: nn.AvgPool2d(2, ceil_mode=1), TypeError, "`ceil_mode` 1 must be True or False"),
        (lambda: nn.AvgPool2d(2, count_include_pad=None), TypeError, "`count_include_pad` None must be True or False"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), ValueError, "`divisor_override` 0 must be in 1\\.\\."),
        (lambda: nn.MaxPool1d((2, 2)), ValueError, r"`kernel_size` \(2, 2\) must be an int, not 2 entries"),
        (lambda: nn.MaxPool1d(3, padding=2), ValueError, "`padding` .* must be at most half of `kernel_size`"),
        (lambda: nn.AvgPool1d(2, stride=0.5), TypeError, "`stride` 0.5 must be an int"),
        (lambda: nn.AdaptiveAvgPool2d(0), ValueError, r"`output_size` .* must be at least 1"),
        (lambda: nn.AdaptiveMaxPool2d((1, 2, 3)), TypeError, r"`output_size` \(1, 2, 3\) must be an int, None or"),
        (lambda: nn.AdaptiveAvgPool2d((2, 1.5)), TypeError, r"`output_size` \(2, 1.5\) must be an int or a pair"),
        (lambda: nn.LPPool2d(0, 2), ValueError, "`norm_type` 0 must be above 0"),
        (lambda: nn.LPPool2d("2", 2), TypeError, "`norm_type` '2' must be a number"),
        (lambda: nn.Softmax(None), TypeError, "`dim` None must be an int"),
        (lambda: nn.LogSoftmax(True), TypeError, "`dim` True must be an int"),
        (lambda: nn.Dropout2d(1.5), ValueError, r"`p` 1.5 must be in 0\.\.1"),
        (lambda: nn.LeakyReLU(float("nan")), ValueError, "`negative_slope` nan must be finite"),
        (lambda: nn.ELU("1"), TypeError, "`alpha` '1' must be a number"),
        (lambda: nn.CELU(0), ValueError, "`alpha` 0 must be finite, and not 0"),
        (lambda: nn.GELU("erf"), ValueError, "`approximate` 'erf' must be one of 'none', 'tanh'"),
        (lambda: nn.Softplus(beta=0), ValueError, "`beta` 0 must be finite, and not 0"),
        (lambda: nn.Softplus(threshold=np.inf), ValueError, "`threshold` inf must be finite"),
        (lambda: nn.Hardtanh(1, 1), ValueError, "`min_val` 1.0 must be below `max_val` 1.0"),
        (lambda: nn.PReLU(0), ValueError, "`num_parameters` 0 must be at least 1"),
        (lambda: nn.PReLU(init=np.inf), ValueError, "`init` inf must be finite"),
        (lambda: nn.PReLU(dtype=int), ValueError, "`dtype` int64 must be float32 or float64"),
        (
            lambda: nn.CrossEntropyLoss(reduction="max"),
            ValueError,
            "`reduction` 'max' must be one of 'mean', 'sum', 'none'",
        ),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2), ValueError, r"`label_smoothing` 2 must be in 0\.\.1"),
        (lambda: nn.MSELoss(None), ValueError, "`reduction` None must be one of"),
        (lambda: nn.Parameter(["a"]), TypeError, "`value` of dtype <U1 must be real"),
        (lambda: nn.init.manual_seed(-1), ValueError, "`seed` -1 must be at least 0"),
        (lambda: nn.init.manual_seed(0.5), TypeError, "`seed` 0.5 must be an int"),
        (lambda: nn.init.xavier_uniform(np.ones((2, 2))), TypeError, "`target` of type ndarray must be a Layer"),
        (
            lambda: nn.init.xavier_uniform(nn.Parameter([1])),
            ValueError,
            r"`target` of shape \(1,\) must have at least 2",
        ),
        (lambda: nn.CrossEntropyLoss("sum"), TypeError, r"`weight` 'sum' must be \(classes,\).*`reduction=`$"),
        (lambda: nn.CrossEntropyLoss(None, "sum"), TypeError, "`ignore_index` 'sum' must be an int.*`reduction=`$"),
        (lambda: nn.NLLLoss("none"), TypeError, "`weight` 'none' must be .* or None; .*`reduction=`$"),
        (lambda: nn.BCEWithLogitsLoss("mean"), TypeError, "`weight` 'mean' must be an array .*`reduction=`$"),
        (lambda: nn.BCEWithLogitsLoss(None, "sum", "sum"), TypeError, "`pos_weight` 'sum' must be .*`reduction=`$"),
        (lambda: nn.HuberLoss(1.5), ValueError, "`reduction` 1.5 must be one of 'mean', 'sum', 'none'"),
        (lambda: nn.SmoothL1Loss(0.5), ValueError, "`reduction` 0.5 must be one of 'mean', 'sum', 'none'"),
        (
            lambda: nn.receptive_field(nn.ReLU(), (1, 2)),
            ValueError,
            r"`input_shape` \(1, 2\) must have 4 axes",
        ),
    ],
)
def test_refused_when_made(backend: Backend, make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: nn.Conv2d(3, 1, 3), (1, 1, 8, 8), r"`x` \(1, 1, 8, 8\) has 1 channels"),
        (lambda: nn.Conv2d(1, 1, 3), (1, 8, 8), r"`x` \(1, 8, 8\) must have 4 axes"),
        (lambda: nn.Conv2d(1, 1, 5), (1, 1, 4, 4), "does not fit the padded input 4x4"),
        (lambda: nn.Conv1d(3, 1, 3), (1, 3, 1, 8), r"`x` \(1, 3, 1, 8\) must have 3 axes \(n, c, l\)"),
        (lambda: nn.Conv1d(1, 1, 5), (1, 1, 4), "does not fit the padded input 1x4"),
        (lambda: nn.ConvTranspose2d(3, 1, 3), (1, 1, 8, 8), r"`x` \(1, 1, 8, 8\) has 1 channels .* takes 3"),
        (lambda: nn.ConvTranspose2d(1, 1, 2, padding=2), (1, 1, 2, 3), "output would be 0x0: `padding` .* takes away"),
        (lambda: nn.ConvTranspose1d(1, 1, 2), (1, 2), r"`x` \(1, 2\) must have 3 axes \(n, c, l\)"),
        (lambda: nn.MaxPool2d(5), (1, 1, 4, 4), "does not fit the padded input 4x4"),
        (lambda: nn.AvgPool2d(2), (4, 4), r"\(4, 4\) must "),
        (lambda: nn.MaxPool1d(2), (1, 1, 4, 4), r"`x` \(1, 1, 4, 4\) must have 3 axes \(n, c, l\)"),
        (lambda: nn.AvgPool1d(5), (1, 1, 4), "does not fit the padded input 1x4"),
        (lambda: nn.AdaptiveMaxPool2d(2), (1, 4, 4), r"\(1, 4, 4\) must have 4 axes"),
        (lambda: nn.AdaptiveAvgPool2d(2), (1, 1, 0, 4), r"`x` \(1, 1, 0, 4\) must not be empty"),
        (lambda: nn.GlobalAvgPool2d(), (4, 4), r"\(4, 4\), must have|\(4, 4\) must have 4 axes"),
        (lambda: nn.GroupNorm(2, 4), (2, 3, 4), r"\(2, 3, 4\), must have 2 to 4 axes \(n, c, \.\.\.\) with c = 4"),
        (lambda: nn.InstanceNorm1d(4), (2, 4), r"\(2, 4\), must have \(n, c, l\) with c = 4"),
        (lambda: nn.InstanceNorm2d(4), (2, 3, 4, 4), r"must have \(n, c, h, w\) with c = 4"),
        (lambda: nn.LayerNorm((3, 4)), (2, 4, 3), r"\(2, 4, 3\), must end in \(3, 4\)"),
        (lambda: nn.LayerNorm((3, 4)), (4,), r"\(4,\), must end in \(3, 4\)"),
        (lambda: nn.LocalResponseNorm(3), (2, 4), r"\(2, 4\),? must have at least 3 axes"),
        (lambda: nn.Softmax(2), (2, 4), r"`dim` 2 must be in -2\.\.1|\(2, 4\), must have the axis 2"),
        (lambda: nn.Dropout2d(), (2, 4), r"\(2, 4\), must have 4 axes"),
        (lambda: nn.PReLU(3), (2, 4), r"for `x` \(2, 4\)|\(2, 4\), must have \(n, c, ...\) with c = 3"),
        (lambda: nn.Linear(5, 1), (2, 4), r"\(2, 4\) must have 5 features|\(2, 4\), must end in 5 features"),
    ],
)
def test_refused_when_run_and_when_asked_for_the_shape(
    backend: Backend, make, shape: tuple[int, ...], message: str
) -> None:
    layer = make()
    with pytest.raises(ValueError, match=message):
        layer(np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=message):
        layer.output_shape(shape)


def test_inputs_that_are_not_real(backend: Backend) -> None:
    for layer in (nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.MaxPool2d(1), nn.Dropout()):
        with pytest.raises(TypeError, match="`x` of dtype complex128 must be real"):
            layer(np.ones((1, 1, 2, 2), complex))
