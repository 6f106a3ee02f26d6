"""The activations that kernels apply to what they store, as numbers that a kernel can be given."""

from __future__ import annotations

__all__ = ["ACTIVATIONS"]

ACTIVATIONS = {None: 0, "relu": 1, "sigmoid": 2, "tanh": 3}
"""What kernels take in place of an activation's name."""
