"""Start a program as several processes, and again when one dies: ``python -m numbacnn.distributed.run --help``."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..command_line import Parser, UserError, integer, one_line, run_command
from ..sharding import RANKS_AT_FIRST
from .launch import INSTALL
from .leftovers import Marked, leashed

__all__ = ["main", "new_parser"]

PROGRAM = "python -m numbacnn.distributed.run"
USERS_ERROR, INTERRUPTED = 2, 130
"""Exit codes of programs that would end the same way again, or that somebody has ended."""


def new_parser() -> Parser:
    """The options."""
    parser = Parser(
        PROGRAM,
        "Start a program as several processes by mpiexec. When one of them dies all end, and the program is started "
        "again with --resume as its last argument, which has to go on from its newest checkpoint, if there is one, as "
        "numbacnn train does. It is not started again after exit code 2, an error of the user, and after Ctrl-C.",
        usage=f"{PROGRAM} --ranks RANKS [options] -- PROGRAM [ARGUMENTS]",
    )
    add = parser.add_argument
    add("--ranks", type=integer(1), required=True, help="how many processes to begin with")
    add("--min-ranks", type=integer(1), default=1,
        help="each start has one process fewer than the one before, but so many at least: what --ranks says, for the "
        "same number each time (default: 1)")  # fmt: skip
    add("--retries", type=integer(0), default=3, help="how often the program is started again at most")
    add("--mpiexec", metavar="PROGRAM",
        help="what starts the processes, with options of its own: anything that takes -n (default: the mpiexec beside "
        "this Python, else the one on PATH)")  # fmt: skip
    add("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The options, of which ``mpiexec`` is a list; exits with code 2 for values that cannot be used."""
    parser = new_parser()
    arguments = parser.parse_args(argv)
    if arguments.command[:1] == ["--"]:
        del arguments.command[0]
    if not arguments.command:
        parser.error("the program to start is missing; it is what follows --")
    if arguments.min_ranks > arguments.ranks:
        parser.error(f"--min-ranks {arguments.min_ranks}: must be at most --ranks, {arguments.ranks}")
    try:
        arguments.mpiexec = mpiexec_of(arguments.mpiexec)
        found(arguments.command[0])
    except UserError as error:
        parser.error(one_line(error))
    return arguments


def mpiexec_of(given: str | None) -> list[str]:
    """What starts processes, and its options: what the user has given, else what belongs to this Python's MPI."""
    if given is not None:
        try:
            words = shlex.split(given, posix=os.name == "posix")
        except ValueError as error:
            raise UserError(f"--mpiexec {given!r}: {error}") from error
        if not words:
            raise UserError(f"--mpiexec {given!r} must name a program")
        return [found(words[0]), *words[1:]]
    beside = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    program = beside or shutil.which("mpiexec") or ""
    if not program:
        raise UserError(f"there is no mpiexec beside this Python and none on PATH: {INSTALL} brings one")
    return [program]


def found(program: str) -> str:
    """The path of a program that can be started."""
    path = shutil.which(program)
    if path is None:
        raise UserError(f"there is no program {program!r}")
    return path


def run(arguments: argparse.Namespace) -> int:
    """Start the program as often as it takes; the exit code of the last time."""
    ranks, command = arguments.ranks, list(arguments.command)
    with terminated_as_interrupted():
        for retries in range(arguments.retries, -1, -1):
            code = run_once([*arguments.mpiexec, "-n", str(ranks), *command], arguments.ranks)
            if code in (0, USERS_ERROR, INTERRUPTED) or not retries:
                break
            ranks = max(ranks - 1, arguments.min_ranks)
            command = resumed(command)
            number = arguments.retries - retries + 1
            said = f"exit code {code}; retry {number} of {arguments.retries}, with {ranks} process{'es' * (ranks > 1)}"
            print(f"{PROGRAM}: {said}", file=sys.stderr, flush=True)
    return code


def resumed(command: list[str]) -> list[str]:
    """The program told to go on from its checkpoint."""
    return command if "--resume" in command else [*command, "--resume"]


def run_once(command: list[str], ranks_at_first: int) -> int:
    """Run what starts the processes; its exit code, 128 and more for a signal. None of them is left, in any case."""
    marked = Marked()
    environment = {**os.environ, **marked.environment, RANKS_AT_FIRST: str(ranks_at_first)}
    process = None
    try:
        # In a session of its own, so that Ctrl-C in the terminal comes here alone, and all ends in one way.
        process = subprocess.Popen(leashed(command), env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        code = process.wait()
    finally:
        marked.end(process)
    return code if code >= 0 else 128 - code


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SystemExit for the signals by which a terminal that closes, or a batch system, ends a program; 128 and more."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # A signal that is ignored, as nohup has it, stays so; what Python does not know of could not be put back.
    taken = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    former = {number: signal.signal(number, end) for number in taken}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)

    def command() -> int:
        arguments = parse_arguments(argv)
        try:
            return run(arguments)
        except KeyboardInterrupt:
            text = shlex.join(argv if "--resume" in arguments.command else [*argv, "--resume"])
            raise KeyboardInterrupt(f"interrupted; to go on: {PROGRAM} {text}") from None

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
