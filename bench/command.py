"""What the benchmark commands share: option types, printing, exit codes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numba

from numbacnn.command_line import UserError, integer, refuse, run_command

__all__ = [
    "UserError",
    "WrongResultError",
    "add_peer_option",
    "exit_code",
    "exit_code_with_threads",
    "say",
    "seconds",
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

    return run_command(checked, "interrupted: nothing is written")


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
