"""A command that several processes run together, of which the first one speaks and writes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import TypeVar

from ..command_line import UserError
from ..distributed import Group

__all__ = ["in_one_voice", "on_first"]

_T = TypeVar("_T")

ERROR_SECONDS = 1.0
"""How long a process that has an error waits to see whether the first one has it as well, and says it."""


def in_one_voice(group: Group, command: Callable[[], int]) -> int:
    """Run a command, whose exit code is returned, in all processes.

    What others than the first print is heard only if they end by an error and the first does not.
    """
    if group.rank == 0:
        return command()
    code, said = 1, io.StringIO()
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(said):
            code = command()
    finally:
        if code and not group.first_has_ended(within=ERROR_SECONDS):
            sys.stderr.writelines(f"rank {group.rank}: {line}\n" for line in said.getvalue().splitlines())
    return code


def on_first(group: Group, work: Callable[[], _T]) -> _T | None:
    """What ``work`` returns in the first process; the others wait, and return None.

    An error that is the user's is raised in all.
    """
    result, error, refusal = None, None, None
    if group.rank == 0:
        try:
            result = work()
        except (UserError, OSError) as raised:
            error, refusal = raised, str(raised)
    refusal = group.broadcast(refusal)
    if error is not None:
        raise error
    if refusal is not None:
        raise UserError(refusal)
    return result
