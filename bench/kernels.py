"""What share of the machine's ceilings the kernels beside the convolutions reach: ``python -m bench.kernels``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from numbacnn.backends import cpu
from numbacnn.backends.cpu.gemm import matmul
from numbacnn.backends.geometry import Pool2dGeometry

from . import machine
from .command import exit_code, say, seconds, whole_number
from .report import Table, significant, write_json
from .timing import interleave

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"


class Case(NamedTuple):
    """A kernel on float32 arrays: what it cannot do without, in bytes of arguments and results or in operations."""

    name: str
    run: Callable[[], object]
    bytes: int = 0
    operations: int = 0


def cases(n: int, c: int, size: int, parameters: int) -> list[Case]:
    """All kernels on images (n, c, size, size), the optimisers on so many parameters, two matrix products."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((n, c, size, size), np.float32) for _ in range(2))
    g = Pool2dGeometry(n, c, size, size, 2, 2, 2, 2)
    pooled, places = cpu.max_pool2d(x, g)
    planes, channel = x.reshape(n, c, size * size), np.ones(c, np.float32)
    _, mean, _, inverse_std = cpu.batch_norm_train(planes, channel, channel, 1e-5)
    value, gradient, velocity, square = (np.ones(parameters, np.float32) for _ in range(4))
    a, b = rng.standard_normal((1024, 1024), np.float32), rng.standard_normal((1024, 1024), np.float32)
    features, weight = rng.standard_normal((256, 400), np.float32), rng.standard_normal((120, 400), np.float32)
    whole, part, each = x.nbytes, pooled.nbytes, value.nbytes
    return [
        Case("relu", lambda: cpu.relu(x), 2 * whole),
        Case("relu_backward", lambda: cpu.relu_backward(dy, x), 3 * whole),
        Case("sigmoid", lambda: cpu.sigmoid(x), 2 * whole),
        Case("sigmoid_backward", lambda: cpu.sigmoid_backward(dy, x), 3 * whole),
        Case("tanh", lambda: cpu.tanh(x), 2 * whole),
        Case("dropout", lambda: cpu.dropout(x, 0.5, 1, 1), 2 * whole),
        Case("add", lambda: cpu.add([x, dy]), 3 * whole),
        Case("concat", lambda: cpu.concat([x, dy]), 4 * whole),
        Case("max_pool2d 2x2", lambda: cpu.max_pool2d(x, g), whole + 2 * part),
        Case("max_pool2d_backward", lambda: cpu.max_pool2d_backward(pooled, places, g), whole + 2 * part),
        Case("avg_pool2d 2x2", lambda: cpu.avg_pool2d(x, g, True), whole + part),
        Case("avg_pool2d_backward", lambda: cpu.avg_pool2d_backward(pooled, g, True), whole + part),
        Case("batch_norm_train", lambda: cpu.batch_norm_train(planes, channel, channel, 1e-5), 2 * whole),
        Case(
            "batch_norm_train_backward",
            lambda: cpu.batch_norm_train_backward(planes, planes, channel, mean, inverse_std),
            2 * whole,
        ),
        Case("batch_norm_eval", lambda: cpu.batch_norm_eval(planes, channel, channel, mean, channel, 1e-5), 2 * whole),
        Case("sgd_step", lambda: cpu.sgd_step(value, gradient, None, 1e-9, 0, False, 0), 3 * each),
        Case("sgd_step momentum", lambda: cpu.sgd_step(value, gradient, velocity, 1e-9, 0.9, False, 0), 5 * each),
        Case(
            "adam_step",
            lambda: cpu.adam_step(value, gradient, velocity, square, 3, 1e-9, 0.9, 0.999, 1e-8, 0, False),
            7 * each,
        ),
        Case("matmul 1024^3", lambda: matmul(a, b), operations=2 * 1024**3),
        Case("linear 256x400x120", lambda: cpu.linear(features, weight, None), operations=2 * 256 * 400 * 120),
    ]


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    measured = cases(arguments.batch, 64, 56, 1 << 22)
    computer, ceilings = machine.describe(), machine.ceilings()
    say(f"{computer['cpu']}, {computer['cores']} cores, {computer['threads']} threads ({computer['threading_layer']})")
    say(f"ceilings: {ceilings['peak_gflops']:.1f} GFLOP/s, copying {ceilings['copy_gb_per_second']:.1f} GB/s")
    timings = interleave({case.name: case.run for case in measured}, budget=arguments.budget)
    table = Table([("kernel", -26), ("ms", 8), ("GB/s", 8), ("GFLOP/s", 8), ("share", 6)])
    say(table.header())
    rows = []
    for case in measured:
        time = timings[case.name].median
        bandwidth, rate = 1e-9 * case.bytes / time, 1e-9 * case.operations / time
        share = bandwidth / ceilings["copy_gb_per_second"] if case.bytes else rate / ceilings["peak_gflops"]
        rows.append({"kernel": case.name, "milliseconds": 1e3 * time, "share": share})
        shown = [significant(bandwidth) if case.bytes else "", significant(rate) if case.operations else ""]
        say(table.line([case.name, f"{1e3 * time:.3f}", *shown, f"{share:.0%}"]))
    content = {
        "benchmark": "kernels",
        "machine": {**computer, **ceilings},
        "versions": machine.versions(),
        "rows": rows,
    }
    write_json(arguments.output_dir / "kernels-cpu.json", content)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels", description="Measure the kernels of the cpu backend."
    )
    parser.add_argument("--batch", type=whole_number, default=64, metavar="N", help="64x56x56 images (default: 64)")
    parser.add_argument("--budget", type=seconds, default=20.0, metavar="SECONDS", help="for everything (default: 20)")
    parser.add_argument("--output-dir", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
