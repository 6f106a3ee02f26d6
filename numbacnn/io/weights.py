"""A model's weights as a file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..nn import IncompatibleKeys, Layer
from .arrays import TORCH_FORMATS, needed, read_contents, write_arrays
from .contents import Contents
from .prefix import common_prefix, without_prefix

__all__ = ["Metadata", "check_path_and_model", "load", "save"]


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


class Metadata(dict[str, str]):
    """A file's metadata, and in :attr:`report` what of it and of the model did not fit."""

    def __init__(self, metadata: Mapping[str, str], report: IncompatibleKeys) -> None:
        super().__init__(metadata)
        self.report = report


def load(
    path: str | os.PathLike[str], model: Layer, strict: bool = True, ignore_mismatched_sizes: bool = False
) -> Metadata:
    """Put the weights in ``path`` into ``model`` and return the file's metadata.

    Files of ``torch.save`` are read without PyTorch, and nothing that they name is executed: tensors that are dense, of
    any strides, in dictionaries, with plain data beside them. The weights may be in a table ``state_dict``,
    ``model_state_dict``, ``model`` or the like, and their names may begin with what a wrapper puts there, such as
    ``module.`` or ``model.``; a warning says what was left out. Text and numbers beside such a table are returned as
    the metadata. Batch normalisation in these files may lack ``num_batches_tracked``, as before PyTorch 0.4.1: the
    model's stays.

    Numbers of bfloat16 and float16 become the same numbers in the layers' dtype. Only arrays that the model has are
    read, so that no file takes more memory than the model.

    Args:
        path: a ``.safetensors`` or ``.npz`` file, or ``.pth``, ``.pt``, ``.bin`` or ``.ckpt`` of ``torch.save``, with
            the names of the model's state dict.
        model: the layer that takes them; it is left as it was after any error.
        strict: whether missing and unexpected names are errors.
        ignore_mismatched_sizes: whether arrays of another shape than the model's are left out, such as those of a head
            for other classes, and not an error. What was left out is in the ``report`` of the result, see
            `nn.IncompatibleKeys`.

    Raises:
        CheckpointError: the file is damaged, cut short or of another kind, or holds what is not read, such as objects
            of classes, or sparse or quantized tensors; the error names it.
        TypeError: ``path`` and ``model`` in the other order.
        ValueError: another extension, or names or shapes that are not the model's; all of these are listed.
        FileNotFoundError: there is no such file.

    Warns:
        UserWarning: the weights are in a table inside of the file, or their names begin with what is not the model's.
    """
    check_path_and_model("load", path, model)
    state = model.state_dict()
    shapes = {name: array.shape for name, array in state.items()}

    def use(contents: Contents) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str], str, str]:
        prefix = common_prefix(contents.entries, shapes)
        return needed(without_prefix(contents.entries, prefix), shapes), contents.metadata, contents.table, prefix

    arrays, metadata, table, prefix = read_contents(path, use)
    if Path(path).suffix.lower() in TORCH_FORMATS:
        arrays |= {name: state[name] for name in _uncounted(state, arrays)}
    if table or prefix:
        place = f"those in its table {table!r}" if table else "taken"
        cut = f", without {prefix!r} before their names" if prefix else ""
        warnings.warn(f"{os.fspath(path)!r}: the weights are {place}{cut}", UserWarning, stacklevel=2)
    try:
        report = model.load_state_dict(arrays, strict, ignore_mismatched_sizes)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} cannot be loaded: {error}") from None
    return Metadata(metadata, report)


def _uncounted(state: Mapping[str, Any], arrays: Mapping[str, Any]) -> list[str]:
    """The counts of batch normalisations that are in ``arrays`` without one."""
    counts = [name for name in state if name.rpartition(".")[2] == "num_batches_tracked" and name not in arrays]
    return [name for name in counts if name.removesuffix("num_batches_tracked") + "running_mean" in arrays]


def check_path_and_model(function: str, path: object, model: object, *others: str, path_name: str = "path") -> None:
    """TypeError, which tells the order of the arguments of ``function``, unless they are a path and a layer."""
    order = f"the order is {function}({', '.join((path_name, 'model', *others))})"
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`{path_name}` of type {type(path).__name__} must be a str or a path: {order}")
    if not isinstance(model, Layer):
        raise TypeError(f"`model` of type {type(model).__name__} must be a Layer: {order}")
