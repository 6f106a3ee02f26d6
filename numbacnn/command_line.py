"""What all commands share: types of options, errors of one line, printing, exit codes."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from .files import user_path

__all__ = [
    "Parser",
    "UserError",
    "above_zero",
    "integer",
    "interruptible",
    "number",
    "one_line",
    "path",
    "printable",
    "reader_may_leave",
    "refuse",
    "run_command",
    "say",
    "sizes",
]


class UserError(Exception):
    """Something that the user can put right, said in one line."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults, where there is one that the help does not tell itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = "(default: " in (action.help or "")
        return action.help if told or action.default in (None, True, False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """One that says in one line what is wrong with the options, and exits with code 2.

    Args:
        prog, description: what the help says.
        options: of ``argparse.ArgumentParser``.
    """

    def __init__(self, prog: str, description: str, **options: Any) -> None:
        super().__init__(prog, description=description, formatter_class=HelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(refuse(UserError(message)))


def integer(minimum: int) -> Callable[[str], int]:
    """The type of an option that is a whole number of so much at least."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, {minimum} or more")
        return int(text)

    return convert


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """The type of an option that is a finite number in these limits."""

    def convert(text: str) -> float:
        value = _finite(text)
        if not low <= value <= high:
            limits = f", in {low:g}..{high:g}" if high < math.inf else f", {low:g} or more" * (low > -math.inf)
            raise argparse.ArgumentTypeError(f"{text!r} must be a number{limits}")
        return value

    return convert


def path(text: str) -> Path:
    """The file or folder that the user names, which may begin with ~."""
    try:
        return user_path(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {one_line(error)}") from error


def sizes(text: str) -> tuple[int, ...]:
    """The shape of an array, its sizes with commas between.

    >>> sizes("1,3,224,224")
    (1, 3, 224, 224)
    """
    try:
        return tuple(integer(1)(size) for size in text.split(","))
    except argparse.ArgumentTypeError as error:
        rule = "must be sizes of 1 or more with commas between, such as 1,3,224,224"
        raise argparse.ArgumentTypeError(f"{text!r} {rule}") from error


def above_zero(text: str) -> float:
    """The type of an option that is a finite number above 0."""
    value = _finite(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def _finite(text: str) -> float:
    """NaN for what is no finite number, which no limit lets pass."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return value if math.isfinite(value) else math.nan


class _Press:
    """A handler of Ctrl-C that remembers it."""

    seen = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.default_int_handler(number, frame)


@contextmanager
def interruptible() -> Iterator[None]:
    """KeyboardInterrupt for whatever error the block ends with once Ctrl-C was pressed; blocks may be inside others.

    What is interrupted may turn it into an error of its own, as the import of a compiled module does.
    """
    press = _Press()
    takes = False
    # Only the main thread handles signals; who handles them otherwise, or ignores them, goes on doing so.
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGINT)
        takes = handler is signal.default_int_handler
        press = handler if isinstance(handler, _Press) else press
    if takes:
        signal.signal(signal.SIGINT, press)
    try:
        yield
    except Exception as error:
        if press.seen:
            raise KeyboardInterrupt from error
        raise
    finally:
        if takes:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def run_command(work: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """Do ``work``, and say in one line what the user can put right; the exit code.

    That is the one that ``work`` returns, 0 for None; 130 after Ctrl-C, where ``interrupted`` is said, or what ``work``
    raises KeyboardInterrupt with; 2 for what the user can put right; 1, without a word, where nobody reads any more.
    """
    try:
        with interruptible():
            return work() or 0
    except KeyboardInterrupt as error:
        print(str(error) or interrupted, file=sys.stderr)
        # Where Ctrl-C came amid the text that a data class or the like is made of, Python would remember it to the end
        # and exit by the signal. Another text makes it forget.
        exec("")
        return 130
    except BrokenPipeError:
        _forget_reader()
        return 1
    except MemoryError:
        return refuse(UserError("out of memory: the problem is too large for this machine"))
    except (UserError, OSError, FloatingPointError) as error:
        return refuse(error)


def say(text: str) -> None:
    """Print at once, and do without when nobody reads any more."""
    with reader_may_leave():
        print(text, flush=True)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Print in the block what standard output holds at its end, and do without when nobody reads any more."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _forget_reader()


def _forget_reader() -> None:
    # What is left in the buffer would raise again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """The text with what the terminal's encoding has no sign for spelled out."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def one_line(error: BaseException) -> str:
    """The message of ``error`` without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def refuse(error: BaseException) -> int:
    """Say in one line why the command does not run; the exit code."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return 2
