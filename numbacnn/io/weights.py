"""A model's weights as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..nn import Layer
from .arrays import read_arrays, write_arrays

__all__ = ["check_path_and_model", "load", "save"]


def save(path: str | os.PathLike[str], model: Layer, metadata: Mapping[str, str] | None = None) -> None:
    """Write the parameters and buffers of ``model`` to ``path``, under the names of its state dict.

    The extension decides on the format: ``.safetensors``, or ``.npz``. The file is replaced at once and as a whole.

    Args:
        path: the file to write; its folder must exist. ``~`` is the home folder, here and wherever a path is asked for.
        model: any layer.
        metadata: text to go with the weights; strings only.

    Raises:
        ValueError: another extension.
        TypeError: ``path`` and ``model`` in the other order, or ``metadata`` that is not all strings.
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written; the error names it, and the cause.

    Example:
        >>> import pathlib, tempfile
        >>> import numbacnn as nc
        >>> from numbacnn import nn
        >>> with tempfile.TemporaryDirectory() as folder, nc.use_backend("reference"):
        ...     path = pathlib.Path(folder, "linear.safetensors")
        ...     save(path, nn.Linear(3, 2), {"note": "untrained"})
        ...     load(path, nn.Linear(3, 2))
        {'note': 'untrained'}
    """
    check_path_and_model("save", path, model)
    write_arrays(path, model.state_dict(), metadata)


def load(path: str | os.PathLike[str], model: Layer, strict: bool = True) -> dict[str, str]:
    """Put the weights in ``path`` into ``model`` and return the file's metadata.

    Numbers of bfloat16 and float16 become the same numbers in the layers' dtype. Only arrays that the model has are
    read, so that no file takes more memory than the model.

    Args:
        path: a ``.safetensors`` or ``.npz`` file with the names of the model's state dict.
        model: the layer that takes them; it is left as it was after any error.
        strict: whether missing and unexpected names are errors; shapes must always agree.

    Raises:
        CheckpointError: the file is damaged, cut short or of another kind.
        TypeError: ``path`` and ``model`` in the other order.
        ValueError: another extension, or names or shapes that are not the model's.
        FileNotFoundError: there is no such file.
    """
    check_path_and_model("load", path, model)
    arrays, metadata = read_arrays(path, {name: array.shape for name, array in model.state_dict().items()})
    model.load_state_dict(arrays, strict=strict)
    return metadata


def check_path_and_model(function: str, path: object, model: object, *others: str) -> None:
    """TypeError, which tells the order of the arguments of ``function``, unless they are a path and a layer."""
    order = f"the order is {function}({', '.join(('path', 'model', *others))})"
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` of type {type(path).__name__} must be a str or a path: {order}")
    if not isinstance(model, Layer):
        raise TypeError(f"`model` of type {type(model).__name__} must be a Layer: {order}")
