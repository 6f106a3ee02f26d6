"""What the commands that draw pictures of a model share: options, the model with its images."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import data, nn
from numbacnn.cli import datasets
from numbacnn.cli.backend import run_on
from numbacnn.cli.recipes import RECIPES
from numbacnn.command_line import Parser, UserError, path

from .figures import check_matplotlib

__all__ = ["Scene", "new_parser", "run"]


@dataclass(frozen=True)
class Scene:
    """A model in evaluation mode, and what it is shown."""

    name: str
    model: nn.Sequential
    layer: str
    """The dotted name of the layer that the picture is about."""
    layer_type: str
    dataset: str
    test_set: data.ArrayDataset
    loader: data.DataLoader
    """The test images in batches, as the model takes them."""
    image: np.ndarray[Any, Any]
    """One of them, (1, c, h, w) in 0..1."""
    label: str
    """The name of its class."""

    def title(self) -> str:
        """Model, layer and the layer's type."""
        return f"{self.name}, layer {self.layer} ({self.layer_type})"


def new_parser(program: str, description: str, layer: str) -> argparse.ArgumentParser:
    """The options of every such command; ``layer`` says which one is taken by default."""
    parser = Parser(
        program,
        description,
    )
    add = parser.add_argument
    add("--model", choices=RECIPES, required=True, help="as python -m examples.train makes it")
    add(
        "--weights",
        type=path,
        help="file with the weights of a trained model (default: those of the seed)",
    )
    add("--layer", help=f"dotted name of a layer (default: {layer})")
    add("--index", type=int, default=0, help="which test image, from 0")
    add("--output-dir", type=path, help="folder for the pictures (default: runs/MODEL)")
    datasets.add_shared_options(parser)
    return parser


def run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    draw: Callable[[Scene, argparse.Namespace, Path], None],
    default_layer: Callable[[list[str]], str],
) -> int:
    """Read the options, call ``draw(scene, arguments, folder)`` and return the command's exit code.

    ``default_layer`` picks out of the names of the convolutions.
    """
    arguments = datasets.parse_shared_options(parser, argv)
    folder = arguments.output_dir or Path("runs", arguments.model)

    def work(_: nc.backends.Backend) -> None:
        check_matplotlib()
        scene = _scene(arguments, default_layer)
        folder.mkdir(parents=True, exist_ok=True)
        draw(scene, arguments, folder)

    return run_on(arguments.backend, work)


def _scene(arguments: argparse.Namespace, default_layer: Callable[[list[str]], str]) -> Scene:
    recipe = RECIPES[arguments.model]
    dataset, (_, test_set) = datasets.load_data(arguments.dataset, arguments.data_dir, arguments.limit, recipe.size)
    if not 0 <= arguments.index < len(test_set):
        raise UserError(f"--index {arguments.index} must be in 0..{len(test_set) - 1}, the test images of {dataset}")
    model = datasets.seeded_model(recipe, arguments.seed, test_set).eval()
    layers: dict[str, nn.Layer] = {}
    for name, inner in model.named_layers()[1:]:
        layers.setdefault(name, inner)  # of a name that several share, the outermost, as in nn.outputs and nn.upto
    layer = arguments.layer
    if layer is None:
        layer = default_layer([name for name, layer in layers.items() if isinstance(layer, nn.Conv2d)])
    if layer not in layers:
        raise UserError(_unknown_layer(arguments.model, layer, list(layers)))
    if arguments.weights:
        try:
            nc.load(arguments.weights, model)
        except FileNotFoundError as error:
            raise UserError(f"--weights {arguments.weights}: there is no such file") from error
        except ValueError as error:
            raise UserError(f"--weights {arguments.weights}: {error}") from error
    transform = datasets.composed(datasets.fitting(recipe, test_set.image_shape))
    chosen = slice(arguments.index, arguments.index + 1)
    one = data.ArrayDataset(test_set.images[chosen], test_set.labels[chosen], test_set.classes)
    ((image, _),) = data.DataLoader(one, 1, prefetch=0, transform=transform)
    return Scene(
        arguments.model,
        model,
        layer,
        type(layers[layer]).__name__,
        dataset,
        test_set,
        data.DataLoader(test_set, recipe.batch_size, transform=transform),
        np.asarray(image),
        test_set.classes[one.labels[0]],
    )


def _unknown_layer(model: str, name: str, names: list[str]) -> str:
    """What there is instead, one level deep, because a large model has hundreds of layers."""
    above = name
    while above and above not in names:
        above = above.rpartition(".")[0]
    inside = [other for other in names if other != above and other.rpartition(".")[0] == above]
    return f"--layer {name}: {f'layer {above}' if above else model} has {', '.join(inside) or 'no layers inside'}"
