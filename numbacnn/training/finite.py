"""Where infinity and NaN come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..nn.state import Buffer, Parameter
from ..nn.watching import watched
from ..ops.parts import as_tuple
from .metrics import on_backend

if TYPE_CHECKING:
    from ..nn import Layer

__all__ = ["first_not_finite"]


class _Found(Exception):  # noqa: N818
    """Ends the forward pass; its text is the place."""


def first_not_finite(model: Layer, x: Any) -> str:
    """The first place of a forward pass of ``x`` (n, ...) that holds infinity or NaN; "" if none does.

    "the input", "the parameter 3.conv1.weight", "the buffer 3.bn1.running_var" (in evaluation mode, where it counts) or
    "the output of 3.conv1 (Conv2d)". The layers run one by one in the modes they are in, none computing another's
    activation; buffers and the layers' random state are as before afterwards.
    """
    inputs = as_tuple(on_backend(x, model.backend))
    for i, part in enumerate(inputs):
        if not _is_finite(model.backend.to_numpy(part)):
            return f"input {i}" if len(inputs) > 1 else "the input"
    with _kept(model), watched(model, _watching), np.errstate(all="ignore"):
        try:
            model.forward(*inputs)
        except _Found as found:
            return str(found)
        except MemoryError:  # layers one by one may need more than before, and the caller has an error to report
            return ""
    return ""


@contextmanager
def _kept(model: Layer) -> Iterator[None]:
    buffers = [(buffer, buffer.backend.copy(buffer.value)) for _, buffer in model.named_buffers()]
    random = model.random_state()
    try:
        yield
    finally:
        for buffer, value in buffers:
            buffer.value = value
        model.load_random_state(random)


def _watching(name: str, layer: Layer, forward: Callable[..., Any]) -> Callable[..., Any]:
    def watching(*inputs: Any) -> Any:
        for attribute, state in vars(layer).items():
            counts = isinstance(state, Parameter) or (isinstance(state, Buffer) and not layer.training)
            if counts and not _is_finite(state.backend.to_numpy(state.value)):
                kind = "parameter" if isinstance(state, Parameter) else "buffer"
                raise _Found(f"the {kind} {name and f'{name}.'}{attribute}")
        y = forward(*inputs)
        if not all(_is_finite(layer.backend.to_numpy(one)) for one in as_tuple(y)):
            raise _Found(f"the output of {name or 'the model'} ({type(layer).__name__})")
        return y

    return watching


def _is_finite(x: Any) -> bool:
    return bool(np.isfinite(x).all())
