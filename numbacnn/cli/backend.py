"""Where a command computes."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .. import backends
from ..backends import Backend, use_backend
from ..command_line import UserError, run_command

__all__ = ["add_backend_option", "choose_backend", "run_on"]


def add_backend_option(parser: argparse.ArgumentParser) -> None:
    """``--backend``, whose value goes to :func:`run_on`."""
    parser.add_argument(
        "--backend", choices=backends.NAMES, help="where to compute (default: NUMBACNN_BACKEND, else cpu)"
    )


def choose_backend(name: str | None) -> use_backend:
    """A context in which ``name``, or the default backend, is in use."""
    try:
        return use_backend(backends.get(name).name)
    except (RuntimeError, ValueError) as error:
        raise UserError(str(error)) from error


def run_on(backend: str | None, work: Callable[[Backend], int | None], interrupted: str = "interrupted") -> int:
    """Do ``work`` with a backend in use, the default one for None; the exit code, as of :func:`run_command`."""

    def on_backend() -> int | None:
        with choose_backend(backend) as chosen:
            return work(chosen)

    return run_command(on_backend, interrupted)
