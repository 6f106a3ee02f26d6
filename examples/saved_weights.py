"""Weights to begin with, of a folder or a file, and what of them a model takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import numbacnn as nc
from numbacnn import data, nn
from numbacnn.command_line import UserError, one_line
from numbacnn.hub import CONFIG, read_config
from numbacnn.io.arrays import read_contents
from numbacnn.io.contents import Contents
from numbacnn.io.prefix import common_prefix, without_prefix
from numbacnn.models.architecture import architecture_of

__all__ = ["Pretrained", "load_pretrained", "put_into"]

State = Mapping[str, np.ndarray[Any, Any]]


class Pretrained(NamedTuple):
    """Weights, and what is known of the model that they are of."""

    state: State | Path
    """By the names of the model's arrays, or the file that has them."""
    build: Callable[[int], nn.Layer] | None
    """Makes such a model for so many classes, if that is known."""
    preprocessing: data.Preprocessing | None


def load_pretrained(path: Path) -> Pretrained:
    """What is in a file of weights, or in a folder that ``nc.save_pretrained`` wrote."""
    try:
        if not path.is_dir():
            if not path.exists():
                raise UserError(f"--weights {path}: there is no such file or folder")
            return Pretrained(path, None, None)
        model = nc.from_pretrained(path)
        config = read_config(path / CONFIG)
        preprocessing = data.Preprocessing.from_config(config) if "image_size" in config else None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--weights {path}: {one_line(error)}") from error
    made = architecture_of(model)
    assert made is not None  # from_pretrained makes no others
    build = getattr(nc.models, made.name)
    arguments = {name: value for name, value in made.arguments.items() if name != "num_classes"}
    return Pretrained(model.state_dict(), lambda classes: build(**arguments, num_classes=classes), preprocessing)


def put_into(model: nn.Layer, weights: State | Path) -> tuple[list[str], list[str]]:
    """Give the model the arrays that have its names and shapes.

    Returns:
        The names of the model's arrays that stay as they were, and those of the weights that it does not take.
    """
    own = {name: array.shape for name, array in model.state_dict().items()}
    if isinstance(weights, Path):
        # Only what fits is read, so that no file takes more memory than the model.
        def use(contents: Contents) -> tuple[State, list[str]]:
            entries = without_prefix(contents.entries, common_prefix(contents.entries, own))
            return {name: e.read() for name, e in entries.items() if own.get(name) == e.shape}, list(entries)

        try:
            fitting, names = read_contents(weights, use)
        except (OSError, ValueError) as error:
            raise UserError(f"--weights {weights}: {one_line(error)}") from error
    else:
        fitting, names = {name: a for name, a in weights.items() if own.get(name) == a.shape}, list(weights)
    model.load_state_dict(dict(fitting), strict=False)
    return sorted(own.keys() - fitting.keys()), sorted(set(names) - fitting.keys())
