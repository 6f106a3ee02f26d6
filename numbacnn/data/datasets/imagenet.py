"""The classes of ImageNet."""

from __future__ import annotations

import functools

__all__ = ["imagenet_classes"]


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes, in the order of the outputs of a model that was trained on it.

    That is the order of the ILSVRC 2012 challenge's folders, sorted. No two names are the same, as in torchvision.

    Example:
        >>> classes = imagenet_classes()
        >>> len(classes), classes[0], classes[281]
        (1000, 'tench', 'tabby')
    """
    from importlib.resources import files

    text = files(__package__).joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
