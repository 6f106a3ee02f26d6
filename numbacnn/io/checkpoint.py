"""A training run as one file, from which it goes on to the same bits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import CheckpointError, read_arrays, write_arrays

if TYPE_CHECKING:
    from ..nn import Layer
    from ..optim import Optimizer
    from ..training import WeightAverage

__all__ = ["load_checkpoint", "save_checkpoint"]

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
        history: one record per finished epoch, made of what JSON can say.
        settings: what else the run depends on, made of what JSON can say.
        weight_average: the averages of the model's weights, in a run that keeps them.

    Raises:
        ValueError: another extension.
        TypeError: ``history`` or ``settings`` that JSON cannot say.
        FileNotFoundError: the folder does not exist.
    """
    from .. import __version__

    state = optimizer.state_dict()
    arrays = {_MODEL + name: array for name, array in model.state_dict().items()}
    arrays |= {_OPTIMIZER + name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    if weight_average is not None:
        arrays |= {_AVERAGE + name: array for name, array in weight_average.state_dict().items()}
    run = {
        "format": _FORMAT,
        "library": __version__,
        "epoch": epoch,
        "history": list(history),
        "settings": dict(settings or {}),
        "optimizer": type(optimizer).__name__,
        "optimizer_state": {name: value for name, value in state.items() if not isinstance(value, np.ndarray)},
        "random_state": model.random_state(),
    }
    write_arrays(path, arrays, {_KEY: json.dumps(run, default=_number)})


def load_checkpoint(
    path: str | os.PathLike[str], model: Layer, optimizer: Optimizer, weight_average: WeightAverage | None = None
) -> dict[str, Any]:
    """Put the model, its layers' random state and the optimizer back to where ``save_checkpoint`` found them.

    And ``weight_average``, which must be given if and only if the checkpoint was saved with one; its ``decay`` stays.
    After an error all of them are as they were.

    Returns:
        A dict with the ``epoch``, ``history`` and ``settings`` that were saved.

    Raises:
        CheckpointError: the file is damaged, cut short, no checkpoint, or of a newer format.
        ValueError: the checkpoint of another model or optimizer, or of a run with averages of the weights for one
            without, or the reverse.
        FileNotFoundError: there is no such file.
    """
    arrays, metadata = read_arrays(path)
    run = _read_run(os.fspath(path), metadata)
    if run["optimizer"] != type(optimizer).__name__:
        raise ValueError(
            f"{os.fspath(path)!r} is a checkpoint of {run['optimizer']}; `optimizer` is {type(optimizer).__name__}"
        )
    weights, state, averages = {}, dict(run["optimizer_state"]), {}
    for name, array in arrays.items():
        if name.startswith(_MODEL):
            weights[name.removeprefix(_MODEL)] = array
        elif name.startswith(_OPTIMIZER):
            state[name.removeprefix(_OPTIMIZER)] = array
        elif name.startswith(_AVERAGE):
            averages[name.removeprefix(_AVERAGE)] = array
        else:
            raise CheckpointError(f"{os.fspath(path)!r} holds {name!r}, which is no part of a checkpoint")
    if averages and weight_average is None:
        raise ValueError(f"{os.fspath(path)!r} is of a run with averages of the weights: give its `weight_average`")
    if weight_average is not None and not averages:
        raise ValueError(f"{os.fspath(path)!r} has no averages of the weights for `weight_average`")
    parts: list[tuple[Callable[[Any], Any], Any, Any]] = [
        (model.load_state_dict, weights, model.state_dict()),
        (optimizer.load_state_dict, state, optimizer.state_dict()),
        (model.load_random_state, run["random_state"], model.random_state()),
    ]
    if weight_average is not None:
        parts.append((weight_average.load_state_dict, averages, weight_average.state_dict()))
    try:
        for load, new, _ in parts:
            load(new)
    except BaseException as error:
        for load, _, former in parts:
            load(former)
        if isinstance(error, TypeError):
            raise CheckpointError(f"{os.fspath(path)!r} holds no readable checkpoint: {error}") from error
        raise
    return {key: run[key] for key in ("epoch", "history", "settings")}


_FIELDS = {
    "epoch": int,
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
        run = json.loads(metadata[_KEY])
        if run["format"] != _FORMAT:
            raise ValueError(f"format {run['format']!r} of numbacnn {run['library']}; this version reads {_FORMAT}")
        for name, kind in _FIELDS.items():
            if not isinstance(run[name], kind):
                raise ValueError(f"{name} is {run[name]!r}")
        if run["epoch"] < 0:
            raise ValueError(f"epoch is {run['epoch']}")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path!r} holds no readable checkpoint: {error}") from error
    return run


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be saved in a checkpoint")
