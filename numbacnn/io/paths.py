"""Paths as users write them."""

from __future__ import annotations

import os
import pathlib

__all__ = ["user_path"]


def user_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """``path`` with ``~`` and ``~name`` as the home folder that they stand for.

    >>> user_path("~") == pathlib.Path.home()
    True
    """
    return pathlib.Path(path).expanduser()
