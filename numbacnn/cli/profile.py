"""Where the time of a model goes, layer by layer: ``numbacnn profile --help``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..backends import Backend
from ..command_line import Parser, integer, say
from ..profiling import profile
from .backend import run_on
from .networks import add_network_options, network_of

__all__ = ["main", "new_parser"]


def new_parser(program: str) -> Parser:
    """The options."""
    parser = Parser(program, "The layers of a model: output shape, algorithm, layout, time, share, rates.")
    add_network_options(parser)
    parser.add_argument("--train", action="store_true", help="a training step; without it, a pass of a session")
    parser.add_argument("--rounds", type=integer(1), default=20, help="of which medians count")
    return parser


def main(argv: Sequence[str] | None = None, program: str = "numbacnn profile") -> int:
    """Run the command and return its exit code."""
    arguments: argparse.Namespace = new_parser(program).parse_args(argv)

    def work(_: Backend) -> None:
        model, shape = network_of(arguments)
        say(str(profile(model, shape, training=arguments.train, rounds=arguments.rounds)))

    return run_on(arguments.backend, work)
