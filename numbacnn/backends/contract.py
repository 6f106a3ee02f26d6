"""What every backend provides: names, shapes and dtypes of its functions.

A backend is a package whose module-level functions are those of :class:`Backend`, in files named alike in every
backend (``conv.py``, ``pooling.py``, ...). The ops check arguments and work out sizes before they call, so here

- arrays live on the backend and share one floating dtype (float32 or float64) unless said otherwise; they are
  C-contiguous, but those of images, (n, c, h, w), lie as the backend likes them to, or as they came;
- inputs are only read; what is returned is newly allocated; functions that update in place say so;
- any size may be zero, and reductions over nothing give zero;
- sums over samples and positions (means of pooling windows, gradients of weights and biases, the statistics and
  gradients of batch normalisation, losses, norms) are sums of short sums or float64: of 10^7 equal numbers they are
  wrong by at most 1e-6 of the result (weight gradients by the matrix products of a GPU: by 1e-5 times the root of
  the number of terms). Their order depends on sizes alone, and those that are no products of two arrays overflow only
  where the result does;
- a scalar result is an array of shape () on the backend, so that nothing has to wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from .geometry import AdaptivePool2dGeometry, Conv2dGeometry, Pool2dGeometry, Resampling

__all__ = ["Activation", "AnyPool2dGeometry", "Array", "Backend", "ConvPass", "PointwiseLoss", "Reduction"]

Array = Any
"""An array of the backend: ``numpy.ndarray`` for ``reference`` and ``cpu``, ``DeviceArray`` for ``cuda``."""

ConvPass = Literal["forward", "backward_input", "backward_weight"]

Reduction = Literal["mean", "sum", "none"]

PointwiseLoss = Literal["squared", "smooth_l1", "huber", "logistic"]
"""The losses of :mod:`.shared.losses`."""

AnyPool2dGeometry = Pool2dGeometry | AdaptivePool2dGeometry
"""Windows that slide, or that share an image out among as many outputs as are asked for."""

Activation = Literal["relu", "sigmoid", "tanh"] | None
"""What a convolution or linear layer applies to its result before storing it; None for nothing."""


class Backend(Protocol):
    """The functions of one backend."""

    name: str
    """Its key in ``backends.available()``."""
    asynchronous: bool
    """Whether functions return before their work is done, so that reading a result may have to wait."""

    # memory.py
    def device_name(self) -> str:
        """The device as users know it: ``cpu``, ``cuda:0``."""

    def is_array(self, x: Any) -> bool:
        """Whether ``x`` already lives on this backend."""

    def adopt(self, x: Any) -> Array | None:
        """``x``, which another library has on this backend's device, as an array of the backend that shares its memory.

        None for what is not on a device of its own.
        """

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """``x``, of this backend or anything NumPy takes, as functions take it, of ``dtype``, copied only if needed."""

    def to_numpy(self, x: Array) -> Any:
        """``x`` as a NumPy array, which may share memory with ``x``."""

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """A new uninitialised array; of four axes one of images."""

    def zeros(self, shape: Sequence[int], dtype: Any) -> Array:
        """A new array of zeros."""

    def copy(self, x: Array) -> Array:
        """A new array with the values of ``x``."""

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        """The values of ``x``, the last axis first, in another shape: in the same memory, where it is C-contiguous.

        Of the shape that ``x`` has it may be ``x`` itself, however that lies.
        """

    def assign(self, target: Array, source: Array) -> None:
        """Overwrite ``target`` with the values of ``source``, same shape and dtype."""

    def synchronize(self) -> None:
        """Wait until everything that was asked for is done."""

    def free_memory(self) -> int | None:
        """Bytes that arrays may still take on a device of its own; None where they are in the host's memory."""

    # capture.py
    def capture(
        self, *functions: Callable[[], None], constant: Sequence[Array] = ()
    ) -> tuple[Callable[[], None], ...] | None:
        """Record what each function asks for: each of what is returned does all of that again, in one launch.

        The functions consist of those of the backend; what NumPy does in them is done at once. They may be called more
        than once, and what they make the last time counts. The arrays involved stay where they are for as long as what
        is returned is kept. ``constant`` are arrays that will never change, so that what is computed from one of them
        alone may be computed this once. None, and nothing is done, where a backend has nothing to record or the device
        refuses; what a function raises is raised. Only the calling thread is recorded, others compute meanwhile, and
        handlers of signals afterwards.
        """

    def call_host(self, work: Callable[[], None]) -> bool:
        """Call ``work()`` now or, while a step is captured, in its place at each launch.

        What was asked for before is done then. False, and nothing is called, where work goes on in the background.
        """

    def capture_in_parts(
        self, function: Callable[[Array], Array], x: Array, constant: Sequence[Array] = ()
    ) -> tuple[Callable[[], None], Array] | None:
        """Record ``y = function(x)`` in parts of the batch, each done by one thread from beginning to end.

        Rows of y are to follow from the same rows of x alone. What is returned does it again for what is in x then, and
        the y that it fills, to the bits of :meth:`capture`. The rest is as there. None, and nothing is done, where a
        backend does no such thing or the batch is too small.
        """

    # conv.py
    def conv2d_algorithms(self) -> tuple[str, ...]:
        """Names that ``algorithm`` takes; the ops take ``auto`` as well, and find out what it stands for."""

    def choose_conv2d_algorithm(self, geometry: Conv2dGeometry, pass_: ConvPass) -> str:
        """What ``auto`` stands for in one pass of one problem, of what ``precision.is_allowed``.

        Whatever it is, NaN and infinity reach the outputs that see them and no others, and float32 results are within
        1e-5 sqrt(K) of the largest result, K the number of terms of a sum. With an algorithm of another basis
        (``winograd``) the largest is that of its tile, whose numbers, as an output sees them, differ by 32 at most.
        Factors that ``numbacnn.precision`` has rounded on a GPU are off by what it says, on top of that.
        """

    def conv2d_workspace(self, geometry: Conv2dGeometry, pass_: ConvPass, algorithm: str, itemsize: int) -> int:
        """Bytes that one pass needs besides its arguments and result."""

    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Conv2dGeometry,
        algorithm: str,
        activation: Activation = None,
    ) -> Array:
        """y (n, k, oh, ow) of x (n, c, h, w), weight (k, c/groups, kh, kw), bias (k,) or None."""

    def conv2d_backward_input(self, dy: Array, weight: Array, geometry: Conv2dGeometry, algorithm: str) -> Array:
        """dx (n, c, h, w)."""

    def conv2d_backward_weight(
        self, dy: Array, x: Array, geometry: Conv2dGeometry, algorithm: str, out: Array | None = None
    ) -> Array:
        """dweight (k, c/groups, kh, kw), C-contiguous; with ``out``, such an array, it is written there."""

    def conv2d_backward_bias(self, dy: Array) -> Array:
        """dbias (k,): the sum of dy (n, k, oh, ow) over all but channels."""

    def add_bias(self, target: Array, bias: Array, activation: Activation = None) -> None:
        """In place: target (n, k, oh, ow) becomes activation(target + bias), bias (k,)."""

    # pooling.py
    def max_pool2d(self, x: Array, geometry: AnyPool2dGeometry) -> Array:
        """y of :meth:`max_pool2d_with_indices`."""

    def max_pool2d_with_indices(self, x: Array, geometry: AnyPool2dGeometry) -> tuple[Array, Array]:
        """y and, int32 of the same shape, where in its h*w plane each maximum was first found; -1 in pure padding.

        A NaN in the window is its maximum; a window of padding alone gives minus infinity.
        """

    def max_pool2d_backward(self, dy: Array, indices: Array, geometry: AnyPool2dGeometry) -> Array:
        """dx (n, c, h, w): each dy goes to the element that was the maximum."""

    def avg_pool2d(
        self, x: Array, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None
    ) -> Array:
        """y: window sums over ``divisor`` or else the window's size; ops.avg_pool2d says what that is at the border."""

    def avg_pool2d_backward(
        self, dy: Array, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None
    ) -> Array:
        """dx (n, c, h, w)."""

    # normalization.py: x is (n, c, ...), everything per channel is (c,). Where x has more channels than the weight, its
    # first ones count; y, dy and dx have c
    def batch_norm_train(
        self, x: Array, weight: Array, bias: Array, eps: float, activation: Activation = None
    ) -> tuple[Array, Array, Array, Array]:
        """y, activated, batch mean, biased batch variance, 1/sqrt(variance + eps)."""

    def batch_norm_train_backward(
        self, dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
    ) -> tuple[Array, Array, Array]:
        """dx, dweight, dbias, through the batch statistics."""

    def batch_norm_eval(
        self, x: Array, weight: Array, bias: Array, mean: Array, variance: Array, eps: float,
        activation: Activation = None,
    ) -> tuple[Array, Array]:  # fmt: skip
        """y with given statistics, activated, 1/sqrt(variance + eps)."""

    def batch_norm_eval_backward(
        self, dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
    ) -> tuple[Array, Array, Array]:
        """dx, dweight, dbias, the statistics being constants."""

    def update_running_average(self, average: Array, value: Array, momentum: float, correction: float) -> None:
        """In place: ``average = (1 - momentum) * average + momentum * correction * value``."""

    # group_normalization.py: x is (n, c, ...), c a multiple of `groups`, statistics are (n, groups), weight and bias
    # are (c,)
    def group_norm(
        self, x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float
    ) -> tuple[Array, Array, Array, Array]:
        """y, and of each group of channels of a sample mean, biased variance, 1/sqrt(variance + eps).

        No weight counts as ones, no bias as zeros.
        """

    def group_norm_backward(
        self, dy: Array, x: Array, weight: Array | None, mean: Array, inverse_std: Array, groups: int
    ) -> tuple[Array, Array | None, Array | None]:
        """dx, through the statistics, and where there is a weight dweight and dbias."""

    # response_norm.py: x is (n, c, ...), the window of a channel `size // 2` channels before it and `(size - 1) // 2`
    # after it, as far as there are so many: shared/response.py
    def local_response_norm(self, x: Array, size: int, alpha: float, beta: float, k: float) -> tuple[Array, Array]:
        """y = x / scale^beta, and scale = k + alpha/size times the sum of the squares in each element's window."""

    def local_response_norm_backward(
        self, dy: Array, x: Array, scale: Array, size: int, alpha: float, beta: float
    ) -> Array:
        """dx = dy / scale^beta - 2 alpha beta/size x times the sum of dy x / scale^(beta + 1) over what sees x."""

    # linear.py: x (n, i), weight (o, i), bias (o,) or None, dy (n, o)
    def linear(self, x: Array, weight: Array, bias: Array | None, activation: Activation = None) -> Array:
        """y (n, o) = activation(x weight^T + bias)."""

    def linear_backward_input(self, dy: Array, weight: Array) -> Array:
        """dx (n, i) = dy weight."""

    def linear_backward_weight(self, dy: Array, x: Array, out: Array | None = None) -> Array:
        """dweight (o, i) = dy^T x; ``out`` as of conv2d_backward_weight."""

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

    def dropout(self, x: Array, p: float, seed: int, offset: Array) -> Array:
        """x / (1 - p) where the mask of (seed, offset) keeps, else 0: shared/philox.py. Its own backward pass.

        ``offset`` is an array of the backend, int64 of shape (), so that a captured step can count it on.
        """

    def expand(self, x: Array, shape: Sequence[int]) -> Array:
        """``x`` repeated as NumPy broadcasts it to ``shape``, of which it has as many axes or fewer."""

    def add(self, arrays: Sequence[Array]) -> Array:
        """The sum of one or more arrays of one shape, added left to right."""

    def multiply(self, x: Array, y: Array) -> Array:
        """x times y: of the same shape or, where x is (n, c, h, w), a number for each channel, (n, c, 1, 1)."""

    def sum_of_products(self, a: Array, b: Array) -> Array:
        """(n, c, 1, 1): the sums over positions of a times b, both (n, c, h, w)."""

    def take_channels(self, x: Array, first: int, count: int) -> Array:
        """``count`` channels of x (n, c, ...), from ``first`` on."""

    def put_channels(self, target: Array, value: Array, first: int) -> None:
        """In place: the channels of target (n, c, ...) from ``first`` on become those of value (n, count, ...)."""

    def add_channels(self, target: Array, value: Array) -> None:
        """In place: the first channels of target (n, c, ...) ``+=`` those of value (n, count, ...)."""

    def accumulate(self, target: Array, value: Array, scale: float = 1.0) -> None:
        """In place: ``target += scale * value``; of floating or int64 arrays, the latter with scale 1."""

    def fill_zero(self, target: Array) -> None:
        """In place: ``target = 0``."""

    def increment(self, counter: Array) -> None:
        """In place: ``counter += 1``, int64 of shape ()."""

    # activation.py: any shape
    def pointwise(self, x: Array, kind: str, parameters: tuple[float, ...]) -> Array:
        """The function ``kind`` of shared/pointwise.py of each element."""

    def pointwise_backward(self, dy: Array, x: Array, kind: str, parameters: tuple[float, ...]) -> Array:
        """dx: its gradient."""

    def prelu(self, x: Array, weight: Array) -> Array:
        """x where it is above 0, else weight times x; weight is (c,) for x (n, c, ...), or (1,) for any x."""

    def prelu_backward(self, dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
        """dx, and dweight, the sums of dy x where x is not above 0."""

    # batch.py: images (samples, ...) uint8 or floating, samples (samples, ...) of any real dtype but float16, index of
    # shape (n,), int64 in 0..samples-1. Any other index is an IndexError where arrays are in the host's memory; on a
    # device, where nothing waits to look at them, and in what was captured, it gives NaN and, of integers, -1
    def gather_images(self, images: Array, index: Array) -> Array:
        """float32 (n, ...): the images of ``index``, uint8 divided by 255."""

    def gather_samples(self, samples: Array, index: Array) -> Array:
        """(n, ...): the samples of ``index``, float32 and float64 in their dtype, integers and bool as int64."""

    # augment.py: images x (n, c, h, w) of a floating dtype
    def flip_and_crop(self, x: Array, top: Array, left: Array, mirror: Array, oh: int, ow: int) -> Array:
        """y (n, c, oh, ow): a window of each image, reversed from left to right where ``mirror`` is not 0.

        top, left and mirror are (n,) int64; what the window has of the outside, to any side, is 0.
        """

    def normalize_images(self, x: Array, mean: Array, std: Array) -> Array:
        """y (n, c, h, w) = (x - mean) / std, both (c,)."""

    def jitter_colors(self, x: Array, brightness: Array, contrast: Array, saturation: Array, hue: Array) -> Array:
        """y (n, 3, h, w) of red, green and blue in 0..1, each step clipped to that; everything else is (n,).

        Brightness times x; contrast between the image and its mean gray (0.2989, 0.587, 0.114); saturation between
        each pixel and its gray; hue in -1/2..1/2 of the circle of HSV colours. As torchvision adjusts them.
        """

    def adjust_images(self, x: Array, kinds: Array, amounts: Array) -> Array:
        """y (n, c, h, w): to each image, of 1 or 3 channels in 0..1, is done what shared/adjustments.py says.

        kinds are (n,) int64, the numbers there, and amounts (n,). Where there is an order of values, in the smallest
        and largest of a channel and among levels, NaN is not in it, and what is NaN stays.
        """

    def affine_images(self, x: Array, places: Array, oh: int, ow: int, bilinear: bool, fill: Array) -> Array:
        """y (n, c, oh, ow): each point is what lies at its place in the image.

        places are (n, 2, 5) int64, the numbers of shared/sampling.py for the row and the column of each image. At a
        place lies the nearest pixel, of two the one after, or what is between four, of which those count that weigh
        more than nothing. Beyond the outer pixels lies ``fill`` (c,).
        """

    def mix_images(self, x: Array, source: Array, index: Array, boxes: Array, weight: Array) -> Array:
        """y (n, c, h, w): x, but in a box of each image weight x + (1 - weight) source[index], of the same pixel.

        source is (m, c, h, w) or, of one color, (m, c, 1, 1); index is (n,) int64 in 0..m-1, weight (n,) in 0..1, where
        x does not count if it is 0. boxes are (n, 4) int64: the first row and the row after the last, in 0..h, and
        likewise columns.
        """

    # spatial.py: images x (n, c, h, w); pads are (top, bottom, left, right), and cut off where they are negative. What
    # reads which pixel is in shared/resampling.py
    def pad2d(self, x: Array, pads: tuple[int, int, int, int], mode: str, value: float) -> Array:
        """y (n, c, h + top + bottom, w + left + right); mode is "constant", "reflect", "replicate" or "circular".

        ``value`` is that of the padding in mode "constant". Of the image something is left.
        """

    def pad2d_backward(self, dy: Array, x_shape: Sequence[int], pads: tuple[int, int, int, int], mode: str) -> Array:
        """dx (n, c, h, w): for each pixel the sum of the dy that are copies of it."""

    def resample2d(self, x: Array, rows: Resampling, columns: Resampling) -> Array:
        """y (n, c, rows.outputs, columns.outputs), not smoothed; both axes are of one mode."""

    def resample2d_backward(self, dy: Array, rows: Resampling, columns: Resampling) -> Array:
        """dx (n, c, rows.size, columns.size): for each pixel the sum of the dy that read it, by its weight in them."""

    def rearrange(self, x: Array, split: Sequence[Sequence[int]], joined: Sequence[Sequence[int]]) -> Array:
        """x with each axis split into parts of the sizes ``split`` says, and axes joined of these parts.

        ``joined`` has, for each axis of the result, the numbers of its parts, counted through; each part is in one of
        them. x may have any number of axes, split there are at most six.
        """

    # softmaxes.py: x of any shape but (), and one of its axes, 0..ndim-1
    def softmax(self, x: Array, axis: int, logarithm: bool = False) -> Array:
        """exp(x - max) over its sum along the axis, or the logarithm of that."""

    def softmax_backward(self, dy: Array, y: Array, axis: int, logarithm: bool = False) -> Array:
        """dx = y (dy - s), s being the sum of dy y; for the logarithm dy - exp(y) s, s being the sum of dy."""

    # loss.py: logits and x are (n, classes) or images (n, classes, h, w), which have a position for each row or pixel.
    # Labels are int64 (n,) or (n, h, w), each in 0..classes-1 or ``ignore_index``, which costs nothing; a weight of
    # classes is (classes,). ``reduction`` is "mean", "sum", or "none" for a loss of each position
    def softmax_cross_entropy(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> tuple[Array, Array, Array]:
        """The loss, the probabilities of the logits' shape, and the scale of the reduction (shape (), float64).

        ``target`` are labels or, of the logits' shape and dtype, probabilities of classes. A position's loss is the sum
        over classes of weight ((1 - label_smoothing) t + label_smoothing / classes) (-log softmax), t being its target;
        of labels, the first of the two terms has the weight of the label. The scale is 1, or for "mean" 1 over the
        weights of the labels that count, of probabilities 1 over the number of positions. The loss is the scale times
        the sum (shape (), float64), or for "none" (n, ...) of the logits' dtype. A class of probability 0 for which the
        target has 0 costs nothing.
        """

    def softmax_cross_entropy_backward(
        self,
        scale: Array,
        probabilities: Array,
        target: Array,
        weight: Array | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> Array:
        """dlogits for the summed losses times ``scale``: float64 of shape (), or for each position, of the dtype.

        Where a label is ignored it is 0.
        """

    def nll_loss(
        self,
        x: Array,
        labels: Array,
        weight: Array | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> tuple[Array, Array]:
        """The loss, -weight x at each label, and the scale, both as of :meth:`softmax_cross_entropy`."""

    def nll_loss_backward(
        self, scale: Array, x: Array, labels: Array, weight: Array | None = None, ignore_index: int = -100
    ) -> Array:
        """dx, as of :meth:`softmax_cross_entropy_backward`; of x only shape and dtype count."""

    def largest_classes(self, x: Array) -> Array:
        """int64 (n, ...): the class of the largest number of each position, as of :meth:`count_correct`."""

    def count_correct(self, logits: Array, labels: Array, k: int = 1, ignore_index: int = -100) -> Array:
        """How many labels, but ``ignore_index``, are among the k largest of their logits (shape (), int64).

        The first of equal logits is the larger, and NaN the largest.
        """

    def count_classes(self, logits: Array, labels: Array, ignore_index: int = -100) -> Array:
        """Of each class (3, classes) int64: positions with that label, with its logit the largest, and with both.

        Positions count whose label is in 0..classes-1 and not ``ignore_index``; the largest is as there.
        """

    # pointwise_losses.py: what is done for each element alone has the shape of the prediction, as its arguments have;
    # shared/losses.py has the kinds. Each loss is multiplied by ``weight``
    def pointwise_loss(
        self,
        prediction: Array,
        target: Array,
        kind: PointwiseLoss,
        parameter: float = 0.0,
        weight: Array | None = None,
        positive_weight: Array | None = None,
    ) -> Array:
        """The loss of each element, of the dtype."""

    def pointwise_loss_sum(
        self,
        prediction: Array,
        target: Array,
        kind: PointwiseLoss,
        parameter: float = 0.0,
        weight: Array | None = None,
        positive_weight: Array | None = None,
        scale: float = 1.0,
    ) -> Array:
        """scale times the sum of the losses (shape (), float64)."""

    def pointwise_loss_backward(
        self,
        dy: Array | None,
        prediction: Array,
        target: Array,
        kind: PointwiseLoss,
        parameter: float = 0.0,
        weight: Array | None = None,
        positive_weight: Array | None = None,
        scale: float = 1.0,
    ) -> Array:
        """dprediction = scale dy weight times the slope of the loss; None for a dy of ones."""

    # optim.py: steps in place, `gradient` is only read; `settings` is a float64 array of the backend, so that a
    # captured step follows its changes
    def global_norm(self, arrays: Sequence[Array]) -> Array:
        """The root of the sum of all squares in one or more floating arrays (shape (), float64)."""

    def clip_scale(self, target: Array, norm: Array, max_norm: float) -> None:
        """In place: ``target *= min(1, max_norm / (norm + 1e-6))``, norm float64 of shape (); NaN if norm is."""

    def divide(self, target: Array, divisor: Array) -> None:
        """In place: ``target /= divisor``, a float64 of shape () that is rounded to the target's dtype."""

    def sgd_step(
        self, parameter: Array, gradient: Array, velocity: Array | None, settings: Array, nesterov: bool
    ) -> None:
        """``settings`` are lr, momentum and weight_decay.

        With g = gradient + weight_decay * parameter and velocity = momentum * velocity + g: parameter -= lr * step.
        The step is g without a velocity, velocity with one, g + momentum * velocity with ``nesterov``.
        """

    def adam_step(
        self,
        parameter: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        step: Array,
        settings: Array,
        decoupled: bool,
    ) -> None:
        """Adam of ``step`` 1, 2, ..., int64 of shape (); ``settings`` are lr, beta1, beta2, eps and weight_decay.

        Weight decay joins the gradient or, ``decoupled``, shrinks the parameter (AdamW).
        """

    def nadam_step(
        self,
        parameter: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        mu_product: Array,
        step: Array,
        settings: Array,
        decoupled: bool,
    ) -> None:
        """NAdam, as :meth:`adam_step`; ``settings`` have momentum_decay as well.

        ``mu_product``, float64 of shape (), from 1, becomes the product of all mu until now.
        """

    def rmsprop_step(
        self,
        parameter: Array,
        gradient: Array,
        square_average: Array,
        gradient_average: Array | None,
        momentum_buffer: Array | None,
        settings: Array,
    ) -> None:
        """``settings`` are lr, alpha, eps, weight_decay and momentum.

        With a ``gradient_average`` steps are divided by the root of the variance, not of the squares' average.
        """

    def adagrad_step(self, parameter: Array, gradient: Array, square_sum: Array, step: Array, settings: Array) -> None:
        """Adagrad of ``step`` 1, 2, ...; ``settings`` are lr, lr_decay, eps and weight_decay."""

    def lion_step(self, parameter: Array, gradient: Array, first_moment: Array, settings: Array) -> None:
        """``settings`` are lr, beta1, beta2 and weight_decay."""
