"""What the benchmark commands share: option types, printing, exit codes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numba

from numbacnn.command_line import UserError, integer, refuse, run_command

if TYPE_CHECKING:
    from .precision import Ways

__all__ = [
    "UserError",
    "WrongResultError",
    "add_layout_option",
    "add_peer_option",
    "add_precision_option",
    "add_ways_options",
    "exit_code",
    "exit_code_with_threads",
    "precisions_of",
    "say",
    "seconds",
    "ways_of",
    "whole_number",
]


class WrongResultError(Exception):
    """Two contenders that disagree by more than rounding explains."""


whole_number = integer(1)
"""The type of an option that is a whole number of 1 or more."""


def seconds(text: str) -> float:
    """An option's value: a length of time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds above 0")
    return value


def add_peer_option(parser: argparse.ArgumentParser) -> None:
    """``--peer``, of the commands that measure other libraries beside ours."""
    from .peers import ALL, NAMES

    parser.add_argument(
        "--peer",
        nargs="+",
        action="extend",
        choices=[*NAMES, ALL],
        default=[],
        help="other libraries to measure in the same rounds, each in every way that it has; may be repeated; "
        f"{ALL} is every library that is installed, and tells which are not",
    )


def add_precision_option(parser: argparse.ArgumentParser) -> None:
    """``--precision``, of the commands that measure on the GPU too."""
    from .precision import PRECISIONS

    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        help="of the operands of products, ours as far as the backend has them; tf32x3 of ours is beside peers in "
        "float32 (default: float32, on cuda all)",
    )


def precisions_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The wanted ones, each once; UserError for those that only GPUs have where none computes."""
    from .precision import PRECISIONS

    on_gpu = arguments.backend == "cuda"
    for precision in arguments.precision or () if not on_gpu else ():
        if precision.startswith("tf32"):
            raise UserError(f"--precision {precision} is of GPUs, not of the backend {arguments.backend}")
    return tuple(dict.fromkeys(arguments.precision or (PRECISIONS if on_gpu else PRECISIONS[:1])))


def add_layout_option(parser: argparse.ArgumentParser) -> None:
    """``--layout``, of the images and weights of peers."""
    from .precision import LAYOUTS

    parser.add_argument(
        "--layout", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), help="of PyTorch and cuDNN (default: both)"
    )


def add_ways_options(parser: argparse.ArgumentParser) -> None:
    """``--precision``, ``--layout`` and ``--run``, of the commands that measure whole models."""
    from .precision import RUNS

    add_precision_option(parser)
    add_layout_option(parser)
    parser.add_argument(
        "--run",
        nargs="+",
        choices=RUNS,
        default=list(RUNS),
        help="how PyTorch runs a model; graph is a CUDA graph, there on the GPU alone (default: all)",
    )


def ways_of(arguments: argparse.Namespace) -> Ways:
    """The ways of peers that :func:`add_ways_options` asks for."""
    from .precision import RUNS, Ways, peer_precisions

    runs = getattr(arguments, "run", RUNS)
    return Ways(peer_precisions(precisions_of(arguments)), tuple(arguments.layout), tuple(runs))


def say(text: str) -> None:
    """Print at once; the command ends where nobody reads any more."""
    print(text, flush=True)


def exit_code(run: Callable[[], None]) -> int:
    """Run the command: 1 for a wrong result, else as `run_command` says."""

    def checked() -> int | None:
        try:
            return run()
        except WrongResultError as error:
            refuse(error)
            return 1

    return run_command(checked, "interrupted: nothing more is written")


def exit_code_with_threads(arguments: argparse.Namespace, run: Callable[[argparse.Namespace], None]) -> int:
    """Like :func:`exit_code`, with the kernels on ``--threads`` threads, which is a setting of the process."""
    threads, most = numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS

    def run_with_threads() -> None:
        if arguments.threads and arguments.backend == "cuda":
            raise UserError(f"--threads {arguments.threads} is of kernels on the CPU, not of the backend cuda")
        if arguments.threads and arguments.threads > most:
            raise UserError(f"--threads {arguments.threads} must be at most {most}")
        numba.set_num_threads(arguments.threads or threads)
        run(arguments)

    try:
        return exit_code(run_with_threads)
    finally:
        numba.set_num_threads(threads)
