"""Every layer, with settings and inputs that are drawn for it and what PyTorch calls the same.

A file ``of_*.py`` has the entries of a family in its ``ENTRIES``; the tests beside it do to each of them what every
layer has to stand.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numbacnn import nn

__all__ = ["ENTRIES", "Case", "Entry"]


class Case(NamedTuple):
    """A layer with settings, and inputs for it."""

    layer: Callable[[], nn.Layer]
    """Makes it on the default backend, with parameters of the dtype that was asked for."""
    inputs: tuple[np.ndarray, ...]
    """One for each argument of ``forward``, of that dtype. Where a gradient jumps, none is within 1e-3 of there."""
    torch: Callable[[Any], Any]
    """The module of the package that it is given: the same names and shapes in its state dict."""


class Entry(NamedTuple):
    """A class of layers."""

    name: str
    """In ``nn``."""
    draw: Callable[[np.random.Generator, Any], Case]
    """A case of a dtype: settings of every kind, and all of them sooner or later."""
    is_random: bool = False
    """Whether it draws numbers in training, which PyTorch draws in another way."""


def _entries() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("of_"):
            for entry in importlib.import_module(f"{__name__}.{module.name}").ENTRIES:
                assert entry.name not in found, f"{entry.name} is registered twice"
                found[entry.name] = entry
    return found


ENTRIES = _entries()
"""By name."""
