"""What the benchmark commands share: option types, printing, exit codes."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable

import numba

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


class UserError(Exception):
    """Something that the user can put right, said in one line."""


class WrongResultError(Exception):
    """Two contenders that disagree by more than rounding explains."""


def whole_number(text: str) -> int:
    """An option's value of 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


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
    """Print at once."""
    print(text, flush=True)


def exit_code(run: Callable[[], None]) -> int:
    """Run the command: 0, 1 for a wrong result, 2 for what the user can put right, 130 when interrupted."""
    try:
        run()
    except KeyboardInterrupt:
        return _complain("interrupted: nothing is written", 130)
    except BrokenPipeError:
        # What is left in the buffer would raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except WrongResultError as error:
        return _complain(f"error: {error}", 1)
    except MemoryError:
        return _complain("error: out of memory: the problem is too large for this machine", 2)
    except (UserError, OSError) as error:
        return _complain(f"error: {error}", 2)
    return 0


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


def _complain(text: str, code: int) -> int:
    print(" ".join(text.split()), file=sys.stderr)
    return code
