"""What the tile products of the GPU should reach, from their machine code: ``python -m bench.cuda_forecast --help``.

A prediction, which no GPU has been asked about. It says what bounds a kernel and how much a change of it may bring.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn.command_line import path
from numbacnn.io import replacing

from .command import UserError, exit_code, say
from .machine_code import counts, instructions, product_loop
from .report import Table, commit

__all__ = ["Forecast", "forecast", "main"]

OUTPUT = Path(__file__).parent / "forecasts" / "cuda.json"
CAPABILITY = (9, 0)
SCHEDULERS, LANES = 4, 32
# Operations of one instruction of a warp, and of a multiprocessor in a cycle at the most, which for tensor cores is by
# ``wgmma``.
OPERATIONS = {"tf32": 2 * 16 * 8 * 8, "tf32x3": 2 * 16 * 8 * 8, "bf16": 2 * 16 * 8 * 16}
PEAK = {"tf32": 2048, "tf32x3": 2048, "bf16": 4096}
# The part of it that ``mma.sync`` reaches on an H100 as published (arXiv 2501.12084, section on tensor cores).
OF_MMA_SYNC = 0.62
PRODUCTS_OF_ONE = {"tf32x3": 3}
# Cycles of the shared memory, 128 bytes each, that an instruction of a warp takes.
SHARED = {"ldmatrix": 4, "load shared": 1, "store shared": 1, "copy": 1}
HEADING = "predicted from machine code for compute capability 9.0; not measured on any GPU"


@dataclass(frozen=True)
class Forecast:
    """A kernel's loop over the reduction, for all warps of a block, and what it can reach.

    ``issue``, ``products`` and ``shared_memory`` are the cycles that a multiprocessor takes to issue the instructions,
    to multiply, and to read and write shared memory; they go on side by side, so that the longest is the least that a
    step takes. ``share_of_roof`` is of what ``mma.sync`` does at most, ``share_of_peak`` of the peak.
    """

    kernel: str
    precision: str
    registers: int
    instructions: int
    products_issued: int
    issue: float
    products: float
    shared_memory: float
    share_of_roof: float
    share_of_peak: float
    multiply_adds_per_cycle: float


def forecast(kernel: str, precision: str, code: Sequence[int], threads: int, registers: int) -> Forecast:
    """The forecast of the loop ``code`` (:func:`bench.machine_code.product_loop`)."""
    found, warps = counts(list(code)), threads // LANES
    roof, operations = PEAK[precision] * OF_MMA_SYNC, found["mma"] * OPERATIONS[precision] * warps
    cycles = {
        "issue": len(code) * warps / SCHEDULERS,
        "products": operations / roof,
        "shared_memory": float(sum(SHARED.get(name, 0) * n for name, n in found.items()) * warps),
    }
    least = max(cycles.values())
    return Forecast(
        kernel=kernel,
        precision=precision,
        registers=registers,
        instructions=len(code),
        products_issued=found["mma"],
        **cycles,
        share_of_roof=operations / roof / least,
        share_of_peak=operations / PEAK[precision] / least,
        multiply_adds_per_cycle=operations / 2 / PRODUCTS_OF_ONE.get(precision, 1) / least,
    )


def kernels() -> Iterator[tuple[str, str, Any]]:
    """Name, precision and kernel of the products of a convolution's forward pass and of a linear layer."""
    from numbacnn.backends.cuda.block import gemm_plan
    from numbacnn.backends.cuda.block.fragments import BK
    from numbacnn.backends.cuda.block.tensor_gemm import tensor_kernel

    single = np.dtype(np.float32)
    for kind, c_by_table in ("image", True), ("stride", False):
        for precision in ("tf32", "tf32x3", "bf16"):
            for tile in gemm_plan.tiles(single, precision):
                name = f"{'x'.join(map(str, tile))} {kind}"
                in_fours = tile.threads * 4 // BK <= tile.bm
                yield name, precision, tensor_kernel(tile, precision, in_fours, False, kind, c_by_table, None)


def predicted() -> Iterator[Forecast]:
    """Every forecast, each of a kernel that is compiled for it in some seconds."""
    import re

    from numbacnn.backends.cuda.runtime.kernel import link

    single, whole = np.dtype(np.float32), np.dtype(np.int64)
    key = (*[single] * 4, *[whole] * 4, 8, 13, 4)
    for name, precision, kernel in kernels():
        ptx, _ = kernel.compile(key, CAPABILITY)
        image, log = link(ptx, CAPABILITY)
        registers = re.search(r"used (\d+) registers", log)
        loop = product_loop(instructions(image))
        yield forecast(name, precision, loop, kernel.threads, int(registers[1]) if registers else 0)


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    try:
        import numba_cuda  # noqa: F401 - what compiles needs it, and says so less clearly
    except ImportError as error:
        raise UserError('kernels are compiled by numba-cuda: pip install "numbacnn[cuda]"') from error
    columns = [("kernel", -24), ("precision", -9), ("registers", 9), ("instructions", 12), ("products", 8)]
    columns += [("issue", 6), ("multiply", 8), ("shared", 6), ("of roof", 7), ("of peak", 7), ("madds/cycle", 11)]
    table, rows = Table(columns), []
    say(f"{HEADING}\n{table.header()}")
    for row in predicted():
        rows.append(asdict(row))
        cells = [row.kernel, row.precision, f"{row.registers}", f"{row.instructions}", f"{row.products_issued}"]
        cells += [f"{row.issue:.0f}", f"{row.products:.0f}", f"{row.shared_memory:.0f}"]
        cells += [f"{row.share_of_roof:.0%}", f"{row.share_of_peak:.0%}", f"{row.multiply_adds_per_cycle:.0f}"]
        say(table.line(cells))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"forecast": HEADING, "measured": None, "commit": commit(), "capability": CAPABILITY, "rows": rows}
    with replacing(arguments.output) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    say(f"written: {arguments.output}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cuda_forecast",
        description="Predict what share of the GPU's roof each matrix product reaches, by counting the instructions of "
        "its loop. Needs the CUDA toolkit and no GPU; nothing is measured.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=path, default=OUTPUT, metavar="FILE", help="the table as JSON")
    return exit_code(partial(run, parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
