"""The shared index arithmetic of windows, compiled for kernels."""

from __future__ import annotations

from ..shared import windows
from .jit import function

__all__ = ["output_range"]

output_range = function(windows.output_range)
