"""What every backend provides: names, shapes and dtypes of its functions.

A backend is a package whose module-level functions are those of :class:`Backend`, in files named alike in every
backend (``conv.py``, ``pooling.py``, ...). The ops check arguments and work out sizes before they call, so here

- arrays live on the backend, are C-contiguous, and share one floating dtype (float32 or float64) unless said otherwise;
- inputs are only read; what is returned is newly allocated; functions that update in place say so;
- any size may be zero, and reductions over nothing give zero;
- a scalar result is an array of shape () on the backend, so that nothing has to wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from .geometry import Conv2dGeometry, Pool2dGeometry

__all__ = ["Array", "Backend", "ConvPass"]

Array = Any
"""An array of the backend: ``numpy.ndarray`` for ``reference`` and ``cpu``."""

ConvPass = Literal["forward", "backward_input", "backward_weight"]


class Backend(Protocol):
    """The functions of one backend. ``name`` is its key in ``backends.available()``."""

    name: str

    # memory.py
    def device_name(self) -> str:
        """The device as users know it: ``cpu``, ``cuda:0``."""

    def is_array(self, x: Any) -> bool:
        """Whether ``x`` already lives on this backend."""

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """``x``, of this backend or anything NumPy takes: C-contiguous, of ``dtype``, copied only if needed."""

    def to_numpy(self, x: Array) -> Any:
        """``x`` as a NumPy array, which may share memory with ``x``."""

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """A new uninitialised array."""

    def zeros(self, shape: Sequence[int], dtype: Any) -> Array:
        """A new array of zeros."""

    def copy(self, x: Array) -> Array:
        """A new array with the values of ``x``."""

    def assign(self, target: Array, source: Array) -> None:
        """Overwrite ``target`` with the values of ``source``, same shape and dtype."""

    def synchronize(self) -> None:
        """Wait until everything that was asked for is done."""

    # conv.py
    def conv2d_algorithms(self) -> tuple[str, ...]:
        """Names that ``algorithm`` takes besides ``auto``."""

    def choose_conv2d_algorithm(self, geometry: Conv2dGeometry, pass_: ConvPass) -> str:
        """What ``auto`` stands for in one pass of one problem."""

    def conv2d_workspace(self, geometry: Conv2dGeometry, pass_: ConvPass, algorithm: str, itemsize: int) -> int:
        """Bytes that one pass needs besides its arguments and result; ``algorithm`` is a name, not ``auto``."""

    def conv2d(self, x: Array, weight: Array, bias: Array | None, geometry: Conv2dGeometry, algorithm: str) -> Array:
        """y (n, k, oh, ow) of x (n, c, h, w), weight (k, c/groups, kh, kw), bias (k,) or None."""

    def conv2d_backward_input(self, dy: Array, weight: Array, geometry: Conv2dGeometry, algorithm: str) -> Array:
        """dx (n, c, h, w)."""

    def conv2d_backward_weight(self, dy: Array, x: Array, geometry: Conv2dGeometry, algorithm: str) -> Array:
        """dweight (k, c/groups, kh, kw)."""

    def conv2d_backward_bias(self, dy: Array) -> Array:
        """dbias (k,): the sum of dy (n, k, oh, ow) over all but channels."""

    # pooling.py
    def max_pool2d(self, x: Array, geometry: Pool2dGeometry) -> tuple[Array, Array]:
        """y and, int32 of the same shape, where in its h*w plane each maximum was first found; -1 in pure padding.

        A NaN in the window is its maximum; a window of padding alone gives minus infinity.
        """

    def max_pool2d_backward(self, dy: Array, indices: Array, geometry: Pool2dGeometry) -> Array:
        """dx (n, c, h, w): each dy goes to the element that was the maximum."""

    def avg_pool2d(self, x: Array, geometry: Pool2dGeometry, count_include_pad: bool) -> Array:
        """y: window sums over the window's size; see ops.avg_pool2d for what counts as its size at the border."""

    def avg_pool2d_backward(self, dy: Array, geometry: Pool2dGeometry, count_include_pad: bool) -> Array:
        """dx (n, c, h, w)."""

    # normalization.py: x is (n, c, l), everything per channel is (c,)
    def batch_norm_train(self, x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array, Array]:
        """y, batch mean, biased batch variance, 1/sqrt(variance + eps)."""

    def batch_norm_train_backward(
        self, dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
    ) -> tuple[Array, Array, Array]:
        """dx, dweight, dbias, through the batch statistics."""

    def batch_norm_eval(
        self, x: Array, weight: Array, bias: Array, mean: Array, variance: Array, eps: float
    ) -> tuple[Array, Array]:
        """y with given statistics, 1/sqrt(variance + eps)."""

    def batch_norm_eval_backward(
        self, dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
    ) -> tuple[Array, Array, Array]:
        """dx, dweight, dbias, the statistics being constants."""

    def update_running_average(self, average: Array, value: Array, momentum: float, correction: float) -> None:
        """In place: ``average = (1 - momentum) * average + momentum * correction * value``."""

    # linear.py: x (n, i), weight (o, i), bias (o,) or None, dy (n, o)
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """y (n, o) = x weight^T + bias."""

    def linear_backward_input(self, dy: Array, weight: Array) -> Array:
        """dx (n, i) = dy weight."""

    def linear_backward_weight(self, dy: Array, x: Array) -> Array:
        """dweight (o, i) = dy^T x."""

    def linear_backward_bias(self, dy: Array) -> Array:
        """dbias (o,): the sum of dy over the batch."""

    # elementwise.py: any shape
    def relu(self, x: Array) -> Array:
        """max(x, 0); NaN stays."""

    def relu_backward(self, dy: Array, y: Array) -> Array:
        """dy where y is above 0, else 0; NaN in y lets dy through."""

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), without overflow."""

    def sigmoid_backward(self, dy: Array, y: Array) -> Array:
        """dy y (1 - y)."""

    def tanh(self, x: Array) -> Array:
        """The hyperbolic tangent."""

    def tanh_backward(self, dy: Array, y: Array) -> Array:
        """dy (1 - y^2)."""

    def dropout(self, x: Array, p: float, seed: int, offset: int) -> Array:
        """x / (1 - p) where the mask of (seed, offset) keeps, else 0: shared/philox.py. Its own backward pass."""

    def add(self, arrays: Sequence[Array]) -> Array:
        """The sum of one or more arrays of one shape, added left to right."""

    def concat(self, arrays: Sequence[Array]) -> Array:
        """Arrays (n, c_i, ...) joined along axis 1."""

    def split(self, x: Array, sizes: Sequence[int]) -> list[Array]:
        """The inverse of concat: new arrays of ``sizes`` channels each."""

    def accumulate(self, target: Array, value: Array) -> None:
        """In place: ``target += value``."""

    # loss.py: logits (n, classes), labels (n,) int64 in 0..classes-1
    def softmax(self, x: Array) -> Array:
        """exp(x - max) over its sum, along the last axis of x (n, classes)."""

    def softmax_cross_entropy(
        self, logits: Array, labels: Array, label_smoothing: float, scale: float = 1.0
    ) -> tuple[Array, Array]:
        """scale times the summed loss (shape (), float64) and the probabilities (n, classes)."""

    def softmax_cross_entropy_backward(
        self, probabilities: Array, labels: Array, label_smoothing: float, scale: float
    ) -> Array:
        """scale * (probabilities - smoothed one-hot labels)."""

    def squared_error(self, prediction: Array, target: Array, scale: float = 1.0) -> Array:
        """scale times the summed squared difference (shape (), float64)."""

    def squared_error_backward(self, prediction: Array, target: Array, scale: float) -> Array:
        """2 scale (prediction - target)."""

    def count_correct(self, logits: Array, labels: Array) -> Array:
        """How many rows have their first maximum at the label (shape (), int64)."""

    # optim.py: everything in place, `gradient` is only read
    def sgd_step(
        self,
        parameter: Array,
        gradient: Array,
        velocity: Array | None,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        """With g = gradient + weight_decay * parameter and velocity = momentum * velocity + g: parameter -= lr * step.

        The step is g without a velocity, velocity with one, g + momentum * velocity with ``nesterov``.
        """

    def adam_step(
        self,
        parameter: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        step: int,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        """Adam of step 1, 2, ...; weight decay joins the gradient or, ``decoupled``, shrinks the parameter (AdamW)."""
