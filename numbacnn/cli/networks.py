"""Networks by name or from a folder, for an input of some shape."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..classifier import Classifier
from ..command_line import Parser, UserError, integer, one_line, path, sizes
from ..hub import CONFIG, from_pretrained, read_config
from ..models import efficientnet_lite0
from ..nn import Layer, Sequential
from .backend import add_backend_option
from .classifiers import IMAGENET, saved
from .recipes import RECIPES

__all__ = ["NAMES", "add_network_options", "network_of", "saved_model", "shape_table"]

NAMES = (*RECIPES, IMAGENET)
CLASSES = 10
"""Of a model by its name, unless ``--classes`` says how many."""


def add_network_options(parser: Parser) -> None:
    """The options that :func:`network_of` reads, but for ``--train``, whose help says what it does."""
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help=f"{', '.join(NAMES)}, or a folder with a saved model")
    add("--shape", type=sizes, metavar="N,C,H,W",
        help="of the input (default: an image of the size that the model is trained with; with --train, of a model by "
        "its name, a batch of its recipe)")  # fmt: skip
    add("--classes", type=integer(2), metavar="N",
        help=f"of a model by its name (default: {CLASSES}, and of {IMAGENET} 1000)")  # fmt: skip
    add_backend_option(parser)


def network_of(arguments: argparse.Namespace) -> tuple[Layer, tuple[int, ...]]:
    """The model that the options name, on the default backend, and the shape of its input."""
    name, classes = arguments.model, arguments.classes
    shape: tuple[int, ...] | None
    if name in NAMES:
        size = 224 if name == IMAGENET else RECIPES[name].size
        n = RECIPES[name].batch_size if arguments.train and name in RECIPES else 1
        shape = arguments.shape or (n, 1 if size == 28 else 3, size, size)
        if len(shape) != 4:
            raise UserError(f"--shape {_text(shape)}: {name} takes images, N,C,H,W")
        if name == IMAGENET:
            model: Layer = efficientnet_lite0(shape[1], classes or 1000)
        else:
            model = RECIPES[name].build(shape[1], classes or CLASSES)
    else:
        if classes is not None:
            raise UserError(f"--classes {classes}: the saved model says itself how many it has")
        found = saved_model("--model", name)
        if isinstance(found, Classifier):
            model, shape = found.model, arguments.shape or (1, *found.preprocessing.image_shape)
        else:
            model, shape = found, arguments.shape
        if shape is None:
            raise UserError(f"--model {name}: the folder does not tell the size of images, which --shape must")
    try:
        model.output_shape(shape)
    except (ValueError, TypeError) as error:
        raise UserError(f"--shape {_text(shape)}: the model cannot take it: {one_line(error)}") from error
    return model, shape


def saved_model(option: str, text: str) -> Classifier | Layer:
    """What is in the folder that an option names: a classifier, which says itself what it takes, or a model."""
    try:
        folder: Path = path(text)
        if not folder.is_dir():
            raise UserError(f"{option} {text}: it must be one of {', '.join(NAMES)}, or a folder with a saved model")
        config = read_config(folder / CONFIG) if (folder / CONFIG).is_file() else {}
        return saved(folder) if "classes" in config and "image_size" in config else from_pretrained(folder)
    except (OSError, ValueError, TypeError, argparse.ArgumentTypeError) as error:
        raise UserError(f"{option} {text}: {one_line(error)}") from error


def shape_table(model: Sequential, shape: tuple[int, ...]) -> str:
    """A line per layer: its name and its output's shape, for an input of ``shape``."""
    lines = []
    for layer in model:
        shape = layer.output_shape(shape)
        lines.append(f"{type(layer).__name__} output shape:\t{shape}")
    return "\n".join(lines)


def _text(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))
