"""The images that commands train on and test with: data sets by name, folders, and what makes them fit a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, nn
from ..command_line import UserError, integer, one_line, path, say
from ..data.datasets.shapes import TEST_SIZE, TRAIN_SIZE
from ..nn.init import manual_seed
from .backend import add_backend_option
from .recipes import Recipe

__all__ = [
    "NAMES",
    "SPLITS",
    "add_shared_options",
    "check_same_classes",
    "composed",
    "fitting",
    "load_data",
    "parse_shared_options",
    "read_folder",
    "read_split",
    "seeded_model",
    "spread",
]

NAMES = ("fashion-mnist", "mnist", "cifar10", "folder", "shapes")
SPLITS = ("train", "test")


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Where to compute, with which images and random numbers."""
    add = parser.add_argument
    add_backend_option(parser)
    add("--dataset", choices=("auto", *NAMES), default="auto",
        help="auto takes fashion-mnist where it can be had and the built-in shapes otherwise; folder takes the images "
        "in DATA_DIR/train and DATA_DIR/test, which have a sub-folder for each class")  # fmt: skip
    add("--data-dir", type=path, help="folder with the data set's files (default: NUMBACNN_DATA, else a download)")
    add("--limit", type=integer(1),
        help="use only the first LIMIT training images and at most LIMIT test images; of a folder, which comes class "
        "by class, images from all over it")  # fmt: skip
    add("--seed", type=integer(0), default=0, help="of what is random: the initial weights and the order of the images")


def parse_shared_options(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    arguments = parser.parse_args(argv)
    if arguments.data_dir and arguments.dataset == "shapes":
        parser.error("argument --data-dir: the built-in shapes are drawn, not read from files")
    if arguments.dataset == "folder" and not arguments.data_dir:
        parser.error("argument --data-dir: --dataset folder needs it")
    return arguments


def load_data(
    dataset: str, data_dir: Path | None, limit: int | None, image_size: int
) -> tuple[str, list[data.ArrayDataset]]:
    """The name of the data set in use, and its training and test images.

    Those of a folder, which then ``data_dir`` must be, are brought to height and width ``image_size``.
    """
    if dataset == "folder":
        assert data_dir is not None  # see parse_shared_options
        return dataset, load_folder(data_dir, limit, image_size)
    name = "fashion-mnist" if dataset == "auto" else dataset
    try:
        return name, [read_split(name, split, data_dir, limit) for split in SPLITS]
    except (data.DatasetUnavailable, FileNotFoundError, ValueError) as error:
        if dataset != "auto" or data_dir or isinstance(error, ValueError):
            raise UserError(str(error)) from error
        say(f"Fashion-MNIST cannot be had, using the built-in shapes: {one_line(error)}")
    return "shapes", [read_split("shapes", split, None, limit) for split in SPLITS]


def read_split(dataset: str, split: str, data_dir: Path | None, limit: int | None) -> data.ArrayDataset:
    """The training or test images, at most ``limit``, of a data set by its name, which is not that of a folder.

    DatasetUnavailable, FileNotFoundError and ValueError as the function of `numbacnn.data` raises them.
    """
    if dataset == "shapes":
        size = {"train": TRAIN_SIZE, "test": TEST_SIZE}[split]
        return data.shapes(split, size=min(size, limit or size))
    read = {"fashion-mnist": data.fashion_mnist, "mnist": data.mnist, "cifar10": data.cifar10}[dataset]
    images = read(split, data_dir=data_dir)
    return images.subset(limit) if limit else images


def load_folder(data_dir: Path, limit: int | None, image_size: int) -> list[data.ArrayDataset]:
    """The images in the sub-folders of the splits, brought to height and width ``image_size``."""
    missing = [split for split in SPLITS if not (data_dir / split).is_dir()]
    if missing:
        raise UserError(
            f"--data-dir {str(data_dir)!r} must have the folders {' and '.join(SPLITS)}, each with a folder of images "
            f"for each class, such as {SPLITS[0]}/cat/1.png: there is no {' and no '.join(missing)}"
        )
    sets = [read_folder("--data-dir", data_dir / split, image_size) for split in SPLITS]
    check_same_classes(data_dir, SPLITS, sets)
    return [spread(images, limit) if limit else images for images in sets]


def read_folder(option: str, folder: Path, image_size: int, **how: Any) -> data.ArrayDataset:
    """The images in the folder that an option names, as ``data.image_folder`` reads them."""
    try:
        return data.image_folder(folder, image_size, **how)
    except ImportError as error:
        raise UserError(str(error)) from error
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{option}: {error}") from error


def check_same_classes(folder: Path, splits: Sequence[str], sets: Sequence[data.ArrayDataset]) -> None:
    """Refuse two data sets, of the sub-folders called ``splits``, whose labels would not mean the same."""
    different = set(sets[0].classes) ^ set(sets[1].classes)
    if different:
        raise UserError(
            f"{' and '.join(splits)} in {str(folder)!r} must have the same classes; "
            f"only one of them has {', '.join(sorted(different))}"
        )


def spread(images: data.ArrayDataset, limit: int) -> data.ArrayDataset:
    """At most ``limit`` images, evenly from all over the data set."""
    count = min(limit, len(images))
    chosen = np.arange(count) * len(images) // count
    return data.ArrayDataset(images.images[chosen], images.labels[chosen], images.classes, images.name)


def seeded_model(recipe: Recipe, seed: int, images: data.ArrayDataset) -> nn.Sequential:
    """The model with the weights that training starts from."""
    manual_seed(seed)
    model = recipe.build(images.image_shape[0], images.num_classes)
    nn.init.xavier_uniform(model)
    return model


def fitting(recipe: Recipe, shape: tuple[int, int, int]) -> list[data.Transform]:
    """What makes images of ``shape`` fit the model."""
    if shape[1:] == (recipe.size, recipe.size):
        return []
    if not recipe.resize:
        raise UserError(
            f"the model reads images of {recipe.size}x{recipe.size} pixels, not {'x'.join(map(str, shape))}"
        )
    return [data.Resize(recipe.size)]


def composed(transforms: list[data.Transform]) -> data.Transform | None:
    """One transform; None for none, which spares the loader a copy."""
    return data.Compose(transforms) if transforms else None
