"""Execute the notebooks of this folder anew: ``python -m examples.notebooks --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError

from numbacnn.command_line import say

from .execution import differences, executed, write

FOLDER = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m examples.notebooks", description="Execute the notebooks of the folder, and keep what they show."
    )
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(known)} (default: all)")
    parser.add_argument("--check", action="store_true", help="change nothing, and say where they show something else")
    arguments = parser.parse_args(argv)
    for name in arguments.names:
        if name not in known:
            parser.error(f"{name}: there are {', '.join(known)}")
    failed = False
    for name in arguments.names or known:
        try:
            computed = executed(known[name])
        except CellExecutionError as error:
            say(f"{name}: {error}")
            failed = True
            continue
        if arguments.check:
            found = differences(nbformat.read(known[name], as_version=4), computed)
            say("\n".join([f"{name}: {'as in the file' if not found else 'not as in the file'}", *found]))
            failed |= bool(found)
        else:
            write(computed, known[name])
            say(f"{name}: {known[name].stat().st_size / 1024:.0f} KiB")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
