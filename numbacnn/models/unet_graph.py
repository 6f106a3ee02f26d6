"""The graph of a U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import nn

__all__ = ["UNet"]


class UNet(nn.Graph):
    """The graph, and what it says of images whose halves would not fit what is laid beside them."""

    def __init__(self, nodes: dict[str, tuple[Any, ...]], depth: int, valid: bool) -> None:
        super().__init__(nodes)
        self._step = 1 << depth
        # Without padding, two convolutions take four pixels before each halving, and what is left after the last one
        # must do for four more, and again after each doubling.
        self._more, self._fewest = (4 * (self._step - 1), 7 if depth == 1 else 8) if valid else (0, 1)

    def _check_shapes(self, shapes: Sequence[tuple[int, ...]]) -> None:
        for shape in shapes:
            if len(shape) == 4 and not all(map(self._fits, shape[2:])):
                rest = self._more % self._step
                rule = f"a multiple of {self._step}{f' plus {rest}' if rest else ''}"
                near = " and ".join(str(self._nearest(size)) for size in shape[2:])
                least = self._fewest * self._step + self._more
                raise ValueError(
                    f"images of shape {tuple(shape)} must have a height and width of {rule}, at least {least}, for "
                    f"the U-Net to halve and join: {near} would do"
                )

    def _fits(self, size: int) -> bool:
        times, rest = divmod(size - self._more, self._step)
        return times >= self._fewest and not rest

    def _nearest(self, size: int) -> int:
        times = max(round((size - self._more) / self._step), self._fewest)
        return times * self._step + self._more
