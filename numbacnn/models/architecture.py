"""Which function made a model, and with what arguments, as text: enough to make it again and nothing that is run."""

from __future__ import annotations

import binascii
import functools
import inspect
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..nn import Layer

__all__ = ["Architecture", "architecture_of", "remembered"]

_F = TypeVar("_F", bound=Callable[..., Layer])


class Architecture(NamedTuple):
    """The name of a function of `numbacnn.models` and its arguments, as JSON has them: the dtype is its name."""

    name: str
    arguments: dict[str, Any]


def remembered(function: _F) -> _F:
    """Decorator of a function that makes a model, for :func:`architecture_of`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def make(*arguments: Any, **named: Any) -> Layer:
        model = function(*arguments, **named)
        given = signature.bind(*arguments, **named).arguments
        # Where the first weights came from is nothing that the weights to come depend on.
        settings = {name: _plain(value) for name, value in given.items() if name != "pretrained"}
        model._made_by = json.dumps([function.__name__, settings, _layers(model)])
        return model

    return make  # type: ignore[return-value]


def architecture_of(model: Layer) -> Architecture | None:
    """What made ``model``, or None if no function of this package did or its layers have been changed since.

    >>> import numbacnn as nc
    >>> model = nc.models.lenet(num_classes=3)
    >>> architecture_of(model)
    Architecture(name='lenet', arguments={'num_classes': 3})
    >>> model[-1] = nc.nn.Linear(84, 5)
    >>> architecture_of(model)
    """
    text = vars(model).get("_made_by")
    if text is None:
        return None
    name, arguments, layers = json.loads(text)
    return Architecture(name, arguments) if layers == _layers(model) else None


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, np.bool_, str)):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, (float, np.floating)):
        return float(value)
    return int(value) if isinstance(value, (int, np.integer)) else np.dtype(value).name


def _layers(model: Layer) -> int:
    """A checksum of all layers' settings, but for the algorithms, which are chosen on each machine."""
    return binascii.crc32(re.sub(r", algorithm='\w*'", "", repr(model)).encode())
