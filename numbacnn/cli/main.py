"""What ``numbacnn`` does with the first word of its command line: the rest is its subcommand's.

Modules of subcommands are imported when they are asked for, so that help comes at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from .. import __version__
from ..command_line import Parser, UserError, path, reader_may_leave, run_command

__all__ = ["SUBCOMMANDS", "completion", "main", "new_parser"]

PROGRAM = "numbacnn"
COMPLETION = "--print-completion"
SHELLS = ("bash", "zsh", "fish")


class Subcommand(NamedTuple):
    """A module with ``main(argv, program)`` and ``new_parser(program)``, and what it does."""

    module: str
    summary: str


SUBCOMMANDS = {
    "info": Subcommand("numbacnn.info", "what numbacnn finds on this machine"),
    "train": Subcommand("numbacnn.cli.train", "train a model on a data set or a folder of images"),
    "evaluate": Subcommand("numbacnn.cli.evaluate", "loss and accuracies of a trained model"),
    "predict": Subcommand("numbacnn.cli.predict", "name what is in images"),
    "explore": Subcommand("numbacnn.explore.__main__", "see in the browser what a model makes of an image"),
    "profile": Subcommand("numbacnn.cli.profile", "where the time of a model goes, layer by layer"),
    "onnx": Subcommand("numbacnn.onnx.__main__", "what is in an ONNX file"),
    "warmup": Subcommand("numbacnn.cli.warmup", "compile the kernels that a model needs, so that it starts at once"),
}


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: Any, __: object = None) -> None:
        print(completion(shell))
        parser.exit()


def new_parser(whole: bool = False) -> Parser:
    """The subcommands, with all their options if ``whole``, which takes as long as importing all of them."""
    parser = Parser(
        PROGRAM,
        "Convolutional networks in NumPy and Numba.",
        epilog=f"{PROGRAM} SUBCOMMAND --help tells the options of a subcommand.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        COMPLETION,
        action=_PrintCompletion,
        choices=SHELLS,
        help="print what makes a shell complete this command (needs shtab)",
    )
    subparsers = parser.add_subparsers(metavar="SUBCOMMAND", required=True)
    for name, (module, summary) in SUBCOMMANDS.items():
        options = [import_module(module).new_parser(f"{PROGRAM} {name}")] if whole else []
        subparsers.add_parser(name, help=summary, description=summary, parents=options, add_help=False)
    return parser


def completion(shell: str) -> str:
    """What one of ``SHELLS`` reads to complete the command."""
    try:
        import shtab
    except ImportError as error:
        raise UserError(f'{COMPLETION} needs shtab: pip install "numbacnn[completion]"') from error
    parser = new_parser(whole=True)
    for each in (parser, *parser._subparsers._group_actions[0].choices.values()):  # type: ignore[union-attr]
        for action in each._actions:
            if action.type is path:
                action.complete = shtab.FILE
    text: str = shtab.complete(parser, shell)
    return text


def _run(argv: Sequence[str]) -> int:
    if argv and argv[0] in SUBCOMMANDS:
        code: int = import_module(SUBCOMMANDS[argv[0]].module).main(argv[1:], f"{PROGRAM} {argv[0]}")
        return code
    parser = new_parser()
    parser.parse_args(argv)
    parser.error(f"SUBCOMMAND must come first; it is one of {', '.join(SUBCOMMANDS)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    with reader_may_leave():
        return run_command(lambda: _run(given))
