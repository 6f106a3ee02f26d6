"""Every kernel of a backend once on small shapes, against the definition: for compute-sanitizer.

``python -m bench.gpu_small [BACKEND [PART ...]]``; the backend is cuda without one, the parts are all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

import numbacnn as nc
from numbacnn import backends, nn, optim
from numbacnn.backends import Array, Backend
from numbacnn.backends.geometry import Conv2dGeometry, Pool2dGeometry
from numbacnn.backends.precision import OPERANDS
from numbacnn.training import TrainingStep

from .command import UserError, WrongResultError, exit_code, say
from .conv_rows import PASSES, call_backend, random_operands

__all__ = ["PARTS", "main"]

CONVOLUTIONS = ("n2c3h7w6k5r3s2p1", "n1c4h5k4r2g2", "n2c2h6k3r1", "n1c1h8k6r5p2pb1")
POOLINGS = (Pool2dGeometry(2, 3, 7, 6, 2, 2, 2, 2), Pool2dGeometry(1, 2, 5, 5, 3, 3, 2, 2, 1, 1, 1, 1))
ELEMENTS = 1031  # more than a block, and no multiple of anything
BOUND = 1e-3
STEPS = 3

Calls = Callable[[Backend, Callable[[np.ndarray], Array]], Sequence[Array]]


def both(backend: Backend, what: str, calls: Calls) -> None:
    """Run ``calls`` on the backend and on the reference, which have to agree."""
    results = [
        [b.to_numpy(array) for array in calls(b, lambda x, b=b: b.copy(b.asarray(x)))]  # type: ignore[misc]
        for b in (backend, backends.get("reference"))
    ]
    for number, (found, expected) in enumerate(zip(*results, strict=True)):
        scale = max(float(np.abs(expected).max()), 1.0)
        if found.shape != expected.shape or not np.abs(found - expected).max() <= BOUND * scale:
            raise WrongResultError(f"{what}: result {number} is not that of the definition")
    say(f"{what}: right")


def normal(*shape: int) -> np.ndarray:
    """Random float32."""
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def convolutions(backend: Backend) -> None:
    """Every algorithm and pass, the bias' gradient, and the activations of the forward pass."""
    for g in map(Conv2dGeometry.parse, CONVOLUTIONS):
        operands = random_operands(g)
        for algorithm in backend.conv2d_algorithms():

            def calls(b: Backend, put: Any, g: Any = g, operands: Any = operands, name: str = algorithm) -> list[Array]:
                given = [put(array) for array in operands]
                name = name if b is backend else "loops"
                passes = [call_backend(b, g, pass_, name, given) for pass_ in PASSES]
                activated = [
                    b.conv2d(given[0], given[1], given[2], g, name, how) for how in ("relu", "sigmoid", "tanh")
                ]
                return [*passes, *activated, b.conv2d_backward_bias(given[3])]

            both(backend, f"conv2d {g.descriptor} {algorithm}", calls)


def tensor_cores(backend: Backend) -> None:
    """The matrix products of convolutions in every precision, of whole numbers, which each of them has exactly."""
    g = Conv2dGeometry.parse("n3c17h7k19r3s2p1")
    rng = np.random.default_rng(0)
    operands = [rng.integers(-8, 9, x.shape).astype(np.float32) for x in random_operands(g)]
    algorithm = "implicit_gemm" if "implicit_gemm" in backend.conv2d_algorithms() else "loops"
    for mode in OPERANDS:

        def calls(b: Backend, put: Any) -> list[Array]:
            given, name = [put(array) for array in operands], algorithm if b is backend else "loops"
            passes = [call_backend(b, g, pass_, name, given) for pass_ in PASSES]
            rows = operands[0].reshape(51, -1)
            x, weight, dy = put(rows), put(rows[:17]), put(operands[1].reshape(-1)[: 51 * 17].reshape(51, 17))
            linear = [b.linear(x, weight, None), b.linear_backward_input(dy, weight), b.linear_backward_weight(dy, x)]
            return [*passes, b.conv2d(given[0], given[1], given[2], g, name, "relu"), *linear]

        with nc.precision(mode):
            both(backend, f"products in {mode}", calls)


def pooling(backend: Backend) -> None:
    """Both kinds, forward and backward."""
    for g in POOLINGS:

        def calls(b: Backend, put: Any, g: Pool2dGeometry = g) -> list[Array]:
            x = put(normal(g.n, g.c, g.h, g.w))
            y, places = b.max_pool2d_with_indices(x, g)
            mean = b.avg_pool2d(x, g, False)
            return [
                y, places, b.max_pool2d(x, g), b.max_pool2d_backward(y, places, g),
                mean, b.avg_pool2d_backward(mean, g, False), b.avg_pool2d(x, g, True),
            ]  # fmt: skip

        both(backend, f"pooling {g.kh}x{g.kw}", calls)


def batch_norm(backend: Backend) -> None:
    """Training, evaluation, their backward passes, the running average."""

    def calls(b: Backend, put: Any) -> list[Array]:
        x, dy, weight, bias = (
            put(normal(3, 5, 43)),
            put(normal(3, 5, 44)[:, :, :43]),
            put(normal(5)),
            put(normal(5, 1)[:, 0]),
        )
        y, mean, variance, inverse = b.batch_norm_train(x, weight, bias, 1e-5)
        in_training = b.batch_norm_train_backward(dy, x, weight, mean, inverse)
        y_eval, inverse_eval = b.batch_norm_eval(x, weight, bias, mean, variance, 1e-5)
        activated = b.batch_norm_eval(x, weight, bias, mean, variance, 1e-5, "sigmoid")[0]
        in_evaluation = b.batch_norm_eval_backward(dy, x, weight, mean, inverse_eval)
        b.update_running_average(mean, variance, 0.1, 1.5)
        return [y, variance, inverse, *in_training, y_eval, activated, *in_evaluation, mean]

    both(backend, "batch_norm", calls)


def sample_norms(backend: Backend) -> None:
    """Group normalisation of images, sequences and features, local response normalisation."""

    def calls(b: Backend, put: Any) -> list[Array]:
        found = []
        for shape in ((3, 6, 7, 5), (3, 6, 43), (3, 6)):
            x, dy, weight, bias = put(normal(*shape)), put(normal(*shape) + 1), put(normal(6)), put(normal(6) + 1)
            y, mean, variance, inverse = b.group_norm(x, weight, bias, 2, 1e-5)
            found += [y, variance, *b.group_norm_backward(dy, x, weight, mean, inverse, 2)]
            found += [b.group_norm(x, None, None, 3, 1e-5)[0], b.group_norm_backward(dy, x, None, mean, inverse, 2)[0]]
        for beta in (0.75, 0.6):
            x, dy = put(normal(3, 6, 7, 5)), put(normal(3, 6, 7, 5) + 1)
            y, scale = b.local_response_norm(x, 4, 0.5, beta, 1.0)
            found += [y, scale, b.local_response_norm_backward(dy, x, scale, 4, 0.5, beta)]
        return found

    both(backend, "sample_norms", calls)


def elementwise(backend: Backend) -> None:
    """Activations, dropout, channels taken, put and added, sums in place, batches from a data set."""

    def calls(b: Backend, put: Any) -> list[Array]:
        x, dy = put(normal(ELEMENTS)), put(normal(ELEMENTS, 1)[:, 0])
        relu, sigmoid, tanh = b.relu(x), b.sigmoid(x), b.tanh(x)
        results = [relu, b.relu_backward(dy, relu), sigmoid, b.sigmoid_backward(dy, sigmoid)]
        results += [tanh, b.tanh_backward(dy, tanh), b.add([x, dy]), b.add([x, dy, x])]
        results.append(b.dropout(x, 0.3, 7, put(np.array(5, np.int64))))
        channels, part = put(normal(3, 6, 5)), put(normal(3, 2, 5))
        results.append(b.take_channels(channels, 1, 4))
        b.put_channels(channels, part, 4)
        b.add_channels(channels, part)
        total, counter = put(normal(ELEMENTS)), put(np.array(3, np.int64))
        b.accumulate(total, x, 0.5)
        b.increment(counter)
        cleared = put(normal(ELEMENTS))
        b.fill_zero(cleared)
        pixels = put((np.arange(5 * 7) % 256).astype(np.uint8).reshape(5, 7))
        index = put(np.array([4, 0, 2], np.int64))
        gathered = [b.gather_images(pixels, index), b.gather_samples(put(np.arange(5)), index)]
        return [*results, channels, total, counter, cleared, *gathered]

    both(backend, "elementwise", calls)


def losses(backend: Backend) -> None:
    """Softmax, cross-entropy, the losses of elements, and the right answers."""

    def calls(b: Backend, put: Any) -> list[Array]:
        logits, target = put(normal(37, 11)), put(normal(37, 12)[:, :11])
        labels = put(np.arange(37) % 11)
        planes, of_planes = put(normal(5, 11, 3, 4)), put(np.arange(60).reshape(5, 3, 4) % 11)
        weight, found = put(np.abs(normal(11)) + 0.5), [b.softmax(logits, 1), b.count_correct(logits, labels)]
        found += [b.count_correct(planes, of_planes, 3, 3), b.count_classes(planes, of_planes, 3)]
        for x, truth in ((logits, labels), (planes, of_planes), (logits, b.softmax(target, 1))):
            loss, probabilities, scale = b.softmax_cross_entropy(x, truth, weight, 3, 0.1)
            gradient = b.softmax_cross_entropy_backward(scale, probabilities, truth, weight, 3, 0.1)
            found += [loss, probabilities, gradient]
        for x, truth in ((logits, labels), (planes, of_planes)):
            loss, scale = b.nll_loss(x, truth, weight, 3)
            found += [loss, b.nll_loss_backward(scale, x, truth, weight, 3)]
        for kind in ("squared", "smooth_l1", "huber", "logistic"):
            arguments = (logits, target, kind, 0.5, b.expand(weight, (37, 11)))
            found += [b.pointwise_loss(*arguments), b.pointwise_loss_sum(*arguments)]
            found.append(b.pointwise_loss_backward(logits, *arguments))
        return found

    both(backend, "losses", calls)


def optimizers(backend: Backend) -> None:
    """SGD of each kind, Adam and the others."""

    def calls(b: Backend, put: Any) -> list[Array]:
        gradient = put(normal(ELEMENTS))
        results = []
        for momentum, nesterov in ((0.0, False), (0.9, False), (0.9, True)):
            value, velocity = put(normal(ELEMENTS, 1)[:, 0]), put(normal(ELEMENTS, 2)[:, 0]) if momentum else None
            b.sgd_step(value, gradient, velocity, put(np.array([0.1, momentum, 0.01])), nesterov)
            results += [value] if velocity is None else [value, velocity]
        for decoupled in (False, True):
            value, first = put(normal(ELEMENTS, 1)[:, 0]), put(normal(ELEMENTS, 2)[:, 0])
            second = put(np.abs(normal(ELEMENTS, 3)[:, 0]))
            step, settings = put(np.array(2, np.int64)), put(np.array([0.1, 0.9, 0.999, 1e-8, 0.01]))
            b.adam_step(value, gradient, first, second, step, settings, decoupled)
            results += [value, first, second]
            value, first, second, product = (
                put(normal(ELEMENTS, 1)[:, 0]),
                *map(b.copy, (first, second)),
                put(np.array(0.9)),
            )
            settings = put(np.array([0.1, 0.9, 0.999, 1e-8, 0.01, 0.004]))
            b.nadam_step(value, gradient, first, second, product, step, settings, decoupled)
            results += [value, first, second, product]
        for centered, heavy in ((False, False), (True, False), (False, True), (True, True)):
            value, square = put(normal(ELEMENTS, 1)[:, 0]), put(np.abs(normal(ELEMENTS, 3)[:, 0]) + 1)
            mean, buffer = (put(np.zeros(ELEMENTS, np.float32)) if there else None for there in (centered, heavy))
            b.rmsprop_step(value, gradient, square, mean, buffer, put(np.array([0.1, 0.99, 1e-8, 0.01, 0.9])))
            results += [array for array in (value, square, mean, buffer) if array is not None]
        value, square = put(normal(ELEMENTS, 1)[:, 0]), put(np.abs(normal(ELEMENTS, 3)[:, 0]))
        b.adagrad_step(value, gradient, square, put(np.array(2, np.int64)), put(np.array([0.1, 0.1, 1e-8, 0.01])))
        average = put(normal(ELEMENTS, 2)[:, 0])
        b.lion_step(value, gradient, average, put(np.array([0.1, 0.9, 0.99, 0.01])))
        return [*results, value, square, average]

    both(backend, "optimizers", calls)


def linear(backend: Backend) -> None:
    """The layer's four products and its activations."""

    def calls(b: Backend, put: Any) -> list[Array]:
        x, weight, bias, dy = put(normal(5, 19)), put(normal(7, 19)), put(normal(7)), put(normal(5, 7))
        forward = [b.linear(x, weight, bias, how) for how in (None, "relu", "sigmoid", "tanh")]
        backward = [b.linear_backward_input(dy, weight), b.linear_backward_weight(dy, x), b.linear_backward_bias(dy)]
        return [*forward, *backward]

    both(backend, "linear", calls)


def captured_step(backend: Backend) -> None:
    """A network's training step: plain, captured, and replayed from the second one on where the backend records."""
    with backends.use_backend(backend.name):
        nc.manual_seed(0)
        loss = nn.CrossEntropyLoss()
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Dropout(0.2),
            nn.Conv2d(3, 2, 2), nn.Sigmoid(), nn.AvgPool2d(2, 2), nn.Flatten(), nn.Linear(2, 3),
        )  # fmt: skip
    step = TrainingStep(model, loss, optim.Adam(model.parameters(), lr=0.01))
    x, y = backend.asarray(normal(2, 1, 6, 6)), backend.asarray(np.array([0, 2]))
    for _ in range(STEPS):
        step(x, y)
    loss_sum, _, examples = step.totals()
    expected = "plain" if backend.name == "reference" or numba.config.DISABLE_JIT else "captured"
    if step.mode != expected or examples != STEPS * len(y) or not np.isfinite(loss_sum):
        raise WrongResultError(f"captured step: {step.mode}, {examples} examples, loss {loss_sum}")
    say(f"step: {step.mode}, loss {loss_sum / examples:.4f}")


PARTS: dict[str, Callable[[Backend], None]] = {
    part.__name__: part
    for part in (
        convolutions,
        linear,
        tensor_cores,
        pooling,
        batch_norm,
        sample_norms,
        elementwise,
        losses,
        optimizers,
        captured_step,
    )
}
"""What is run, by name."""


def own_allocations() -> None:
    """Give every array memory of its own from the driver: the sanitizer does not see the ends of arrays in a slab."""
    from numbacnn.backends.cuda.runtime import device_array

    device_array.SLAB_BYTES = 1
    device_array.GRAIN = 16


def run(arguments: Sequence[str]) -> None:
    """Everything that the command does."""
    name, *parts = arguments or ("cuda",)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise UserError(f"part {unknown[0]!r} must be one of {', '.join(map(repr, PARTS))}")
    try:
        backend = backends.get(name)
    except (RuntimeError, ValueError) as error:
        raise UserError(str(error)) from error
    if backend.name == "cuda":
        own_allocations()
    for part in parts or PARTS:
        PARTS[part](backend)
    backend.synchronize()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return exit_code(lambda: run(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
