"""What layers of however many inputs have in common."""

from __future__ import annotations

from typing import Any

from .layer import Layer
from .state import Shape

__all__ = ["AnyInputs"]


class AnyInputs(Layer):
    """What layers without children and products of matrices say, of however many inputs."""

    def flops(self, *shapes: Shape) -> int:
        return 0

    def algorithms(self, *shapes: Shape) -> dict[str, str]:
        return {}

    def child_inputs(self, *shapes: Shape) -> list[Any]:
        return []
