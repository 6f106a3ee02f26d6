"""Transforms of pictures and their masks alike."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import backends
from ...ops.arguments import integer
from .transform import Compose, ImageShape, Transform

__all__ = ["PairTransform"]


class PairTransform:
    """Transforms of pictures, of which those that move pixels are done to their masks too, with the same numbers.

    For the ``transform`` of a `DataLoader` of a `PairDataset` whose targets are masks (n, h, w) of integers, or
    pictures (n, c, h, w) of float32 or float64, as large as the inputs. Flips, crops and sizes are those of both; a
    mask's pixel takes the number of the nearest one, a picture is interpolated as the input is. Colours and `Normalize`
    change the inputs alone. It is done in NumPy, whatever the loader's backend.

    Args:
        transforms: one, or a list of several, done in their order: each a transform that says by ``for_targets(mask)``
            what is done to targets, which are masks or pictures: a transform, itself for most that move pixels, or None
            for nothing.
        fill: the number that masks have where a crop shows padding: such as the ``ignore_index`` of a loss.

    Raises:
        TypeError: a transform that does not say what it does to targets; with the loader, targets of another kind.
        ValueError: with the loader, targets of another size than the inputs.

    Example:
        >>> from numbacnn.data import ColorJitter, DataLoader, PairDataset, RandomCrop, RandomHorizontalFlip
        >>> pictures = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 1, 8, 8)
        >>> dataset = PairDataset(pictures, pictures[:, 0])
        >>> transform = PairTransform([RandomHorizontalFlip(), RandomCrop(4)])
        >>> x, masks = next(iter(DataLoader(dataset, 2, transform=transform)))
        >>> x.shape, masks.shape, bool((np.rint(255 * x[:, 0]) == masks).all())
        ((2, 1, 4, 4), (2, 4, 4), True)
    """

    def __init__(self, transforms: Transform | Sequence[Transform], fill: int = 0) -> None:
        several = transforms if isinstance(transforms, Sequence) else [transforms]
        self.transforms = Compose(_flat(several)).transforms
        for transform in self.transforms:
            if not callable(getattr(transform, "for_targets", None)):
                raise TypeError(f"`transforms` has {transform!r}, which must say by `for_targets` what targets become")
        self.fill = integer("fill", fill, -(2**31), 2**31 - 1)

    def __call__(self, inputs: Any, random: np.random.Generator, backend: backends.Backend) -> Any:
        """The inputs alone, as any transform."""
        return Compose(self.transforms)(inputs, random, backend)

    def both(self, inputs: Any, targets: Any, random: np.random.Generator) -> tuple[Any, Any]:
        """New inputs and targets, of NumPy."""
        if isinstance(targets, tuple):
            raise TypeError(f"targets must be one array to be transformed with the inputs, not {len(targets)}")
        host = backends.get("reference")
        mask = targets.ndim == 3 and targets.dtype.kind in "iu"
        if not (mask or (targets.ndim == 4 and targets.dtype.kind == "f")):
            raise TypeError(
                f"targets of shape {targets.shape} and dtype {targets.dtype} must be masks (n, h, w) of integers, or "
                "pictures (n, c, h, w) of float32 or float64, to be transformed with the inputs"
            )
        if targets.shape[-2:] != inputs.shape[-2:]:
            raise ValueError(
                f"targets of shape {targets.shape} must have the height and width of the inputs {inputs.shape}"
            )
        moved = (targets[:, None] - self.fill) if mask else targets
        inputs = host.copy(inputs)
        for transform in self.transforms:
            again = copy.deepcopy(random)
            inputs = transform(inputs, random, host)
            of_targets = transform.for_targets(mask)  # type: ignore[attr-defined]
            if of_targets is not None:
                moved = of_targets(moved, again, host)
        return inputs, (moved[:, 0] + self.fill if mask else moved)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """Of the inputs: the last one's."""
        return Compose(self.transforms).output_shape(image_shape)

    def __repr__(self) -> str:
        fill = f", fill={self.fill}" if self.fill else ""
        return f"PairTransform([{', '.join(map(repr, self.transforms))}]{fill})"


def _flat(transforms: Sequence[Transform]) -> list[Transform]:
    flat: list[Transform] = []
    for transform in transforms:
        flat += _flat(transform.transforms) if isinstance(transform, Compose) else [transform]
    return flat
