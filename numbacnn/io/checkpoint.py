"""A training run as one file, from which it goes on to the same bits."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..ops.arguments import LAST_COUNT, integer
from .arrays import CheckpointError, read_arrays, read_contents, write_arrays
from .json_text import parse_json
from .weights import check_path_and_model

if TYPE_CHECKING:
    from ..nn import Layer
    from ..optim import Optimizer
    from ..training import WeightAverage

__all__ = ["checkpoint_settings", "load_checkpoint", "save_checkpoint"]

_FORMAT = 1
_KEY = "numbacnn.checkpoint"
_MODEL, _OPTIMIZER, _AVERAGE = "model.", "optimizer.", "average."


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Layer,
    optimizer: Optimizer,
    *,
    epoch: int,
    history: Sequence[Mapping[str, Any]] = (),
    settings: Mapping[str, Any] | None = None,
    weight_average: WeightAverage | None = None,
) -> None:
    """Write everything that a training run needs in order to go on, atomically, as one file.

    The arrays are the model's state dict under ``model.``, the optimizer's under ``optimizer.`` and the averages of the
    weights, if any, under ``average.``; the optimizer's numbers, the layers' random state, ``epoch``, ``history`` and
    ``settings`` are JSON in the metadata.

    Args:
        path: a ``.safetensors`` (or ``.npz``) file; its folder must exist.
        model: the model in training.
        optimizer: its optimizer.
        epoch: how many epochs are finished.
        history: one record per finished epoch, made of what JSON can say; or none at all.
        settings: what else the run depends on, made of what JSON can say.
        weight_average: the averages of the model's weights, in a run that keeps them.

    Raises:
        ValueError: another extension, a ``history`` of another number of epochs, lists and tables more than 32 deep, or
            keys that JSON cannot tell apart.
        TypeError: ``history`` or ``settings`` that JSON cannot say; ``path`` and ``model`` in the other order.
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written; the error names it, and the cause.
    """
    check_path_and_model("save_checkpoint", path, model, "optimizer")
    history = list(history)
    _check_epoch(epoch, history)
    state = optimizer.state_dict()
    arrays = {_MODEL + name: array for name, array in model.state_dict().items()}
    arrays |= {_OPTIMIZER + name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    if weight_average is not None:
        arrays |= {_AVERAGE + name: array for name, array in weight_average.state_dict().items()}
    run = {
        "format": _FORMAT,
        "library": __version__,
        "epoch": epoch,
        "history": history,
        "settings": dict(settings or {}),
        "optimizer": type(optimizer).__name__,
        "optimizer_state": {name: value for name, value in state.items() if not isinstance(value, np.ndarray)},
        "random_state": model.random_state(),
    }
    text = json.dumps(run, default=_number)
    try:
        parse_json(text)
    except ValueError as error:
        raise ValueError(f"`history` and `settings` could not be loaded again: {error}") from None
    write_arrays(path, arrays, {_KEY: text})


def load_checkpoint(
    path: str | os.PathLike[str], model: Layer, optimizer: Optimizer, weight_average: WeightAverage | None = None
) -> dict[str, Any]:
    """Put the model, its layers' random state and the optimizer back to where ``save_checkpoint`` found them.

    And ``weight_average``, which must be given if and only if the checkpoint was saved with one; its ``decay`` stays.
    After an error all of them are as they were.

    Returns:
        A dict with the ``epoch``, ``history`` and ``settings`` that were saved.

    Raises:
        CheckpointError: the file is damaged, cut short, no checkpoint, of a newer format, of another model or
            optimizer, of a run with averages of the weights for one without, or the reverse; or it says what cannot be.
        TypeError: ``path`` and ``model`` in the other order.
        ValueError: another extension.
        FileNotFoundError: there is no such file.
    """
    check_path_and_model("load_checkpoint", path, model, "optimizer")
    former: list[tuple[str, Callable[[Any], Any], dict[str, Any]]] = [
        (_MODEL, model.load_state_dict, model.state_dict()),
        (_OPTIMIZER, optimizer.load_state_dict, optimizer.state_dict()),
    ]
    if weight_average is not None:
        former.append((_AVERAGE, weight_average.load_state_dict, weight_average.state_dict()))
    shapes = {prefix + name: np.shape(value) for prefix, _, state in former for name, value in state.items()}
    arrays, metadata = read_arrays(path, shapes)
    run = _read_run(os.fspath(path), metadata)
    if run["optimizer"] != type(optimizer).__name__:
        raise CheckpointError(
            f"{os.fspath(path)!r} is a checkpoint of {run['optimizer']}; `optimizer` is {type(optimizer).__name__}"
        )
    found: dict[str, dict[str, Any]] = {_MODEL: {}, _OPTIMIZER: dict(run["optimizer_state"]), _AVERAGE: {}}
    for name, array in arrays.items():
        prefix = next((prefix for prefix in found if name.startswith(prefix)), None)
        if prefix is None:
            raise CheckpointError(f"{os.fspath(path)!r} holds {name!r}, which is no part of a checkpoint")
        if found[prefix].setdefault(name.removeprefix(prefix), array) is not array:
            raise CheckpointError(f"{os.fspath(path)!r} holds {name!r} twice: as an array and in its text")
    if found[_AVERAGE] and weight_average is None:
        raise CheckpointError(
            f"{os.fspath(path)!r} is of a run with averages of the weights: give its `weight_average`"
        )
    if weight_average is not None and not found[_AVERAGE]:
        raise CheckpointError(f"{os.fspath(path)!r} has no averages of the weights for `weight_average`")
    random = model.random_state()
    try:
        for prefix, load, _ in former:
            load(found[prefix])
        model.load_random_state(run["random_state"])
    except BaseException as error:
        for _, load, state in former:
            load(state)
        model.load_random_state(random)
        if isinstance(error, (ValueError, TypeError, OverflowError)):
            raise CheckpointError(f"{os.fspath(path)!r} cannot be loaded: {error}") from error
        raise
    return {key: run[key] for key in ("epoch", "history", "settings")}


def checkpoint_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``settings`` of a checkpoint, of which nothing else is read; errors are those of ``load_checkpoint``."""
    run = _read_run(os.fspath(path), read_contents(path, lambda contents: contents.metadata))
    settings: dict[str, Any] = run["settings"]
    return settings


_FIELDS = {
    "library": str,
    "history": list,
    "settings": dict,
    "optimizer": str,
    "optimizer_state": dict,
    "random_state": dict,
}


def _read_run(path: str, metadata: dict[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise CheckpointError(f"{path!r} is no checkpoint of a training run: its metadata has no {_KEY!r}")
    try:
        run = parse_json(metadata[_KEY])
        for name, kind in _FIELDS.items():
            if not isinstance(run[name], kind):
                raise ValueError(f"{name} is {reprlib.repr(run[name])}")
        if integer("format", run["format"]) != _FORMAT:
            raise ValueError(f"format {run['format']} of numbacnn {run['library']}; this version reads {_FORMAT}")
        _check_epoch(run["epoch"], run["history"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path!r} holds no readable checkpoint: {error}") from error
    return run


def _check_epoch(epoch: Any, history: Sequence[Any]) -> None:
    epoch = integer("epoch", epoch, 0, LAST_COUNT)
    if history and len(history) != epoch:
        raise ValueError(f"`history` has {len(history)} records, must have one for each of {epoch} epochs")


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be saved in a checkpoint")
