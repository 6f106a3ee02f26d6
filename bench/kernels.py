"""What share of its ceilings a machine reaches in kernels beside convolutions: ``python -m bench.kernels --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

from numbacnn import backends, ops
from numbacnn.backends import Backend
from numbacnn.backends.geometry import Pool2dGeometry
from numbacnn.backends.shared import adjustments
from numbacnn.backends.shared.sampling import places_of

from . import gpu, machine, peers
from .ceilings import IN_MEMORY, Mix, Traffic, last_cache_bytes, memory_bytes, traffic_of_memory
from .command import UserError, exit_code, say, seconds, whole_number
from .layer_rows import LAYERS, PASSES, rows_of
from .problems import laid_out
from .report import Table, geometric_mean, significant, write_results
from .timing import PAUSE, SelfTimed, interleave

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
# On a GPU, many times what its caches hold.
BATCHES = {"cuda": 512}
CHANNELS, SIZE = 64, 56
IMAGE_BYTES = 4 * CHANNELS * SIZE * SIZE
# Images that are all there at the same time, arguments, results and what the memory is measured with.
ARRAYS = 16
MIN_BATCH = 64


POINTWISE: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("gelu", "gelu_tanh", "hardsigmoid", "hardswish", "mish", "selu", "silu", "softsign"), ()),
    **dict.fromkeys(("celu", "elu"), (1.0,)),
    "hardtanh": (-1.0, 1.0),
    "leaky_relu": (0.01,),
    "softplus": (1.0, 20.0),
}
"""The parameters of the activations that are functions of one number."""
ADJUSTMENTS = {"BRIGHTNESS": 0.8, "COLOR": 0.8, "CONTRAST": 0.8, "SHARPNESS": 0.8, "POSTERIZE": 16.0, "SOLARIZE": 0.5,
               "AUTOCONTRAST": 0.0, "EQUALIZE": 0.0}  # fmt: skip
"""What is done to images, and the amount."""


class Case(NamedTuple):
    """A kernel on float32 arrays: what it cannot do without, in memory traffic or in operations."""

    name: str
    run: Callable[[], object]
    mix: Mix = Mix()
    operations: int = 0


def cases(backend: Backend, n: int, c: int, size: int) -> list[Case]:
    """Kernels on images (n, c, size, size), the optimisers on as many parameters, matrix products and augmentations."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> backends.Array:
        return backend.asarray(rng.standard_normal(shape, np.float32))

    def full(*values: float) -> backends.Array:
        return backend.asarray(np.array(values))

    def ones(count: int) -> backends.Array:
        return backend.asarray(np.ones(count, np.float32))

    b = backend
    x, dy = (laid_out(b, rng.standard_normal((n, c, size, size), np.float32)) for _ in range(2))
    g = Pool2dGeometry(n, c, size, size, 2, 2, 2, 2)
    pooled, places = b.max_pool2d_with_indices(x, g)
    channel, eps = ones(c), 1e-5
    of_channels = ones(n * c).reshape((n, c, 1, 1))
    _, mean, _, inverse_std = b.batch_norm_train(x, channel, channel, eps)
    groups = max(1, c // 8)
    _, *of_groups = b.group_norm(x, channel, channel, groups, eps)
    _, *of_each = b.group_norm(x, None, None, c, eps)
    halves = [laid_out(b, rng.standard_normal((n, c // 2, size, size), np.float32)) for _ in range(2)]
    of_windows = b.local_response_norm(x, 5, 1e-4, 0.75, 1.0)[1]
    # Rows of as many numbers as two of an image have.
    lines, of_lines = (normal(n * c * size // 2, 2 * size) for _ in range(2))
    along = ones(2 * size)
    _, *of_rows = b.group_norm(lines, along, along, 1, eps)
    value, gradient, velocity, square = (ones(n * c * size * size) for _ in range(4))
    sgd, with_momentum, adam = full(1e-9, 0, 0), full(1e-9, 0.9, 0), full(1e-9, 0.9, 0.999, 1e-8, 0)
    rmsprop, lion = full(1e-9, 0.99, 1e-8, 0, 0), full(1e-9, 0.9, 0.99, 0)
    offset, step = (b.asarray(np.array(number, np.int64)) for number in (1, 3))
    square_matrix, other = normal(1024, 1024), normal(1024, 1024)
    features, weight = normal(256, 400), normal(120, 400)
    few, more, wide = normal(16, 6400), normal(128, 6400), normal(4096, 6400)
    whole, part, each = x.nbytes, pooled.nbytes, value.nbytes
    return [
        Case("relu", lambda: b.relu(x), Mix(whole, whole)),
        Case("relu_backward", lambda: b.relu_backward(dy, x), Mix(2 * whole, whole)),
        Case("sigmoid", lambda: b.sigmoid(x), Mix(whole, whole)),
        Case("sigmoid_backward", lambda: b.sigmoid_backward(dy, x), Mix(2 * whole, whole)),
        Case("tanh", lambda: b.tanh(x), Mix(whole, whole)),
        *(
            case
            for kind, parameters in POINTWISE.items()
            for case in (
                Case(kind, partial(b.pointwise, x, kind, parameters), Mix(whole, whole)),
                Case(f"{kind}_backward", partial(b.pointwise_backward, dy, x, kind, parameters), Mix(2 * whole, whole)),
            )
        ),
        Case("prelu", lambda: b.prelu(x, channel), Mix(whole, whole)),
        Case("prelu_backward", lambda: b.prelu_backward(dy, x, channel), Mix(2 * whole, whole)),
        Case("softmax", lambda: b.softmax(x, 1), Mix(whole, whole)),
        Case("softmax_backward", lambda: b.softmax_backward(dy, x, 1), Mix(2 * whole, whole)),
        Case("log_softmax", lambda: b.softmax(x, 1, True), Mix(whole, whole)),
        Case("log_softmax_backward", lambda: b.softmax_backward(dy, x, 1, True), Mix(2 * whole, whole)),
        Case("softmax of rows", lambda: b.softmax(lines, 1), Mix(whole, whole)),
        Case("multiply by channel", lambda: b.multiply(x, of_channels), Mix(whole, whole)),
        Case("sum_of_products", lambda: b.sum_of_products(dy, x), Mix(2 * whole, 0)),
        Case("dropout", lambda: b.dropout(x, 0.5, 1, offset), Mix(whole, whole)),
        Case("add", lambda: b.add([x, dy]), Mix(2 * whole, whole)),
        Case("concat", lambda: ops.concat(halves, backend=b), Mix(whole, whole)),
        Case("max_pool2d 2x2", lambda: b.max_pool2d(x, g), Mix(whole, part)),
        Case("max_pool2d_with_indices 2x2", lambda: b.max_pool2d_with_indices(x, g), Mix(whole, part + places.nbytes)),
        Case("max_pool2d_backward", lambda: b.max_pool2d_backward(pooled, places, g), Mix(part + places.nbytes, whole)),
        Case("avg_pool2d 2x2", lambda: b.avg_pool2d(x, g, True), Mix(whole, part)),
        Case("avg_pool2d_backward", lambda: b.avg_pool2d_backward(pooled, g, True), Mix(part, whole)),
        # The statistics are those of all images, so that each number is read a second time.
        Case("batch_norm_train", lambda: b.batch_norm_train(x, channel, channel, eps), Mix(2 * whole, whole)),
        Case(
            "batch_norm_train_backward",
            lambda: b.batch_norm_train_backward(dy, x, channel, mean, inverse_std),
            Mix(4 * whole, whole),
        ),
        Case(
            "batch_norm_eval",
            lambda: b.batch_norm_eval(x, channel, channel, mean, channel, eps),
            Mix(whole, whole),
        ),
        Case("group_norm", lambda: b.group_norm(x, channel, channel, groups, eps), Mix(whole, whole)),
        Case(
            "group_norm_backward",
            lambda: b.group_norm_backward(dy, x, channel, of_groups[0], of_groups[2], groups),
            Mix(2 * whole, whole),
        ),
        Case("group_norm of channels", lambda: b.group_norm(x, None, None, c, eps), Mix(whole, whole)),
        Case(
            "group_norm_backward of channels",
            lambda: b.group_norm_backward(dy, x, None, of_each[0], of_each[2], c),
            Mix(2 * whole, whole),
        ),
        Case("group_norm of rows", lambda: b.group_norm(lines, along, along, 1, eps), Mix(whole, whole)),
        Case(
            "group_norm_backward of rows",
            lambda: b.group_norm_backward(of_lines, lines, along, of_rows[0], of_rows[2], 1),
            Mix(2 * whole, whole),
        ),
        Case(
            "local_response_norm",
            lambda: b.local_response_norm(x, 5, 1e-4, 0.75, 1.0),
            Mix(whole, 2 * whole),
        ),
        Case(
            "local_response_norm_backward",
            lambda: b.local_response_norm_backward(dy, x, of_windows, 5, 1e-4, 0.75),
            Mix(3 * whole, whole),
        ),
        Case("sgd_step", lambda: b.sgd_step(value, gradient, None, sgd, False), Mix(each, updated=each)),
        Case(
            "sgd_step momentum",
            lambda: b.sgd_step(value, gradient, velocity, with_momentum, False),
            Mix(each, updated=2 * each),
        ),
        Case(
            "adam_step",
            lambda: b.adam_step(value, gradient, velocity, square, step, adam, False),
            Mix(each, updated=3 * each),
        ),
        Case(
            "rmsprop_step",
            lambda: b.rmsprop_step(value, gradient, square, None, None, rmsprop),
            Mix(each, updated=2 * each),
        ),
        Case("lion_step", lambda: b.lion_step(value, gradient, velocity, lion), Mix(each, updated=2 * each)),
        Case("linear 1024x1024x1024", lambda: b.linear(square_matrix, other, None), operations=2 * 1024**3),
        Case("linear 256x400x120", lambda: b.linear(features, weight, None), operations=2 * 256 * 400 * 120),
        Case("linear 16x6400x4096", lambda: b.linear(few, wide, None), operations=2 * 16 * 6400 * 4096),
        Case("linear 128x6400x4096", lambda: b.linear(more, wide, None), operations=2 * 128 * 6400 * 4096),
        *augmentations(b, max(1, n * c // 48), 4 * size),
    ]


def augmentations(backend: Backend, n: int, size: int) -> list[Case]:
    """The kernels of augmentations on images (n, 3, size, size) in 0..1, as they come from a loader.

    What has to be known of an image first is not counted as another read of it.
    """
    rng, b = np.random.default_rng(0), backend
    x, source = (b.asarray(rng.random((n, 3, size, size), np.float32)) for _ in range(2))
    order, corner = b.asarray(rng.permutation(n)), b.asarray(rng.integers(0, size // 4 + 1, n))
    mirror = b.asarray(rng.integers(0, 2, n))
    channel, fill = b.asarray(np.full(3, 0.5, np.float32)), b.asarray(np.zeros(3, np.float32))
    factors = [b.asarray(rng.uniform(low, high, n).astype(np.float32)) for low, high in ((0.7, 1.3),) * 3 + ((0, 0.1),)]
    # Each image is turned by an angle of its own, and what has to be read of it is less than the whole by the corners.
    angles, middle = rng.uniform(-0.2, 0.2, n), (size - 1) / 2
    cos, sin = np.cos(angles), np.sin(angles)
    turns = np.array(
        [[-sin, cos, middle * (1 + sin - cos)], [cos, sin, middle * (1 - sin - cos)]]
    ).transpose(2, 0, 1)  # fmt: skip
    places = b.asarray(places_of(turns, np.array([-1, -1]), np.array([size, size]), size, size))
    everything, middles = (
        b.asarray(np.tile(box, (n, 1))) for box in ([0, size, 0, size], [size // 4, 3 * size // 4] * 2)
    )
    shares, nothing = (b.asarray(np.full(n, share, np.float32)) for share in (0.25, 0.0))
    once, twice = Mix(x.nbytes, x.nbytes), Mix(2 * x.nbytes, x.nbytes)
    adjusted = [
        Case(f"adjust_images {name.lower()}", partial(b.adjust_images, x, b.asarray(kinds), b.asarray(amounts)), once)
        for name, amount in ADJUSTMENTS.items()
        for kinds, amounts in [(np.full(n, getattr(adjustments, name)), np.full(n, amount, np.float32))]
    ]
    return [
        Case("flip_and_crop", lambda: b.flip_and_crop(x, corner, corner, mirror, size, size), once),
        Case("normalize_images", lambda: b.normalize_images(x, channel, channel), once),
        Case("jitter_colors", lambda: b.jitter_colors(x, *factors), once),
        Case("affine_images nearest", lambda: b.affine_images(x, places, size, size, False, fill), once),
        Case("affine_images bilinear", lambda: b.affine_images(x, places, size, size, True, fill), once),
        Case("mix_images", lambda: b.mix_images(x, source, order, everything, shares), twice),
        # Of each pixel one of both is read.
        Case("mix_images of boxes", lambda: b.mix_images(x, source, order, middles, nothing), once),
        *adjusted,
    ]


def usual_batch() -> int:
    """Images that the caches hold little of, as far as a part of the memory is enough for all arrays."""
    most = memory_bytes() // (2 * ARRAYS * IMAGE_BYTES)
    return max(MIN_BATCH, min(most, IN_MEMORY // 2 * last_cache_bytes() // IMAGE_BYTES + 1))


def roofs_of(measured: Sequence[Case]) -> dict[Mix, SelfTimed]:
    """What tells how long the memory takes for the traffic of each case; none for what the caches hold much of."""
    least = traffic_of_memory(last_cache_bytes())
    mixes = dict.fromkeys(case.mix for case in measured if case.mix.bytes >= least)
    if not mixes:
        return {}
    traffic = Traffic(numba.get_num_threads(), least)
    return {mix: SelfTimed(partial(traffic.seconds, mix)) for mix in mixes}


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    try:
        backend = backends.get(arguments.backend)
    except RuntimeError as error:
        raise UserError(str(error)) from error
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    threads = numba.get_num_threads()
    try:
        rivals = peers.load(arguments.peer, threads)
    except (ImportError, RuntimeError) as error:
        raise UserError(str(error)) from error
    if rivals.names and backend.name != "cpu":
        raise UserError(f"--peer {rivals.names[0]} is for layers on the CPU, not of {backend.name}")
    computer = machine.examine(backend)
    say(f"{computer.title}\n{computer.limits}\nbackend {backend.name}")
    batch = arguments.batch or BATCHES.get(backend.name) or usual_batch()
    measured = cases(backend, batch, CHANNELS, SIZE)
    roofs = {} if backend.asynchronous else roofs_of(measured)
    timings = interleave(
        {**{case.name: case.run for case in measured}, **{f"{mix}": roof for mix, roof in roofs.items()}},
        budget=arguments.budget,
        # The pause is for threads; a device has none of ours.
        pause=0.0 if backend.asynchronous else PAUSE,
        waits=dict.fromkeys([case.name for case in measured], backend.synchronize) if backend.asynchronous else None,
    )
    layers = layers_beside(backend, threads, arguments.budget) if rivals.names else []
    computer = computer.examined_again()
    table = Table([("kernel", -26), ("ms", 8), ("GB/s", 8), ("GFLOP/s", 8), ("share", 6)])
    say(table.header())
    rows = []
    for case in measured:
        time = timings[case.name].median
        bandwidth, rate = 1e-9 * case.mix.bytes / time, 1e-9 * case.operations / time
        share: float | None = None
        if case.operations:
            share = rate / computer.peak
        elif backend.asynchronous:
            share = bandwidth / computer.bandwidth
        elif case.mix in roofs:
            share = min(timings[f"{case.mix}"].samples) / time
        rows.append(
            {
                "kernel": case.name,
                "algorithm": None,
                "threads": None if backend.asynchronous else numba.get_num_threads(),
                "layer": machine.layer(backend),
                "milliseconds": 1e3 * time,
                "share": share,
            }
        )
        shown = [significant(bandwidth) if case.mix.bytes else "", significant(rate) if case.operations else ""]
        say(table.line([case.name, f"{1e3 * time:.3f}", *shown, "" if share is None else f"{share:.0%}"]))
    write_results(
        arguments.output_dir / f"kernels-{backend.name}.json",
        "kernels",
        computer.facts,
        machine.versions(*(gpu.VERSIONS if backend.asynchronous else rivals.packages)),
        {"backend": backend.name, "batch": batch, "budget_seconds": arguments.budget},
        rows=rows,
        **({"layers": layers} if layers else {}),
    )


def layers_beside(backend: Backend, threads: int, budget: float) -> list[dict[str, Any]]:
    """A row for each pass of each layer, printed as they come; so much time for all of them."""
    each = budget / (len(LAYERS) * len(PASSES))
    table = Table(
        [("layer", -52), ("pass", -8), ("ms", 8), ("quartiles", 17), ("PyTorch's ms", 12), ("ratio", 6), ("way", -20)]
    )
    say(table.header())
    rows = []
    for row in rows_of(list(LAYERS), backend, threads, lambda functions: interleave(functions, budget=each)):
        quartiles = " - ".join(f"{value:.3f}" for value in row.quartiles)
        cells = [row.kernel, row.pass_, f"{row.milliseconds:.3f}", quartiles, f"{row.peer_milliseconds:.3f}"]
        say(table.line([*cells, significant(row.ratio), row.peer]))
        rows.append({key.rstrip("_"): value for key, value in asdict(row).items()})
    say(f"geomean of {len(rows)}: {significant(geometric_mean([row['ratio'] for row in rows]))}")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels",
        description="Measure the kernels beside the convolutions, in float32.",
        epilog="On the CPU a share is the time that the memory takes for as many bytes read, written and updated, "
        "measured in the same rounds, over the kernel's; of the matrix products it is that of the peak. There is none "
        "for arrays that the caches may hold.",
    )
    add = parser.add_argument
    add("--backend", choices=backends.NAMES, default="cpu", help="default: cpu")
    add("--batch", type=whole_number, metavar="N",
        help=f"64x56x56 images (default: what the caches hold little of, on cuda {BATCHES['cuda']})")  # fmt: skip
    add("--peer", nargs="+", choices=["torch"], default=[],
        help="measure every layer beside PyTorch's of the same name as well, on the CPU")  # fmt: skip
    add("--budget", type=seconds, default=20.0, metavar="SECONDS",
        help="for all kernels, and again for all layers (default: 20)")  # fmt: skip
    add("--output-dir", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
