"""Models with the names of their classes, in folders: written by training, read to name what is in images."""

from __future__ import annotations

from pathlib import Path

from ..classifier import Classifier, Named, load_classifier
from ..command_line import UserError, one_line, printable
from ..data import PHOTOGRAPHS, ArrayDataset, Preprocessing, imagenet_classes
from ..hub import CONFIG, read_config, save_pretrained
from ..models import efficientnet_lite0
from ..nn import Layer
from .recipes import RECIPES

__all__ = ["IMAGENET", "pretrained", "rows", "save_classifier", "saved"]

IMAGENET = efficientnet_lite0.__name__
BAR = 30
"""Signs of a bar for 100 %."""


def pretrained() -> Classifier:
    """The network that was trained on ImageNet."""
    try:
        model = efficientnet_lite0(pretrained=True)
    except ImportError as error:
        raise UserError(one_line(error)) from error
    return Classifier(model, imagenet_classes(), PHOTOGRAPHS)


def save_classifier(folder: Path, model: Layer, recipe: str, images: ArrayDataset) -> None:
    """Write a model of ``RECIPES[recipe]``, which was trained on ``images``, to a folder for :func:`saved`."""
    preprocessing = Preprocessing(RECIPES[recipe].size, channels=images.image_shape[0])
    save_pretrained(folder, model, {"recipe": recipe, "classes": list(images.classes), **preprocessing.config()})


def saved(folder: Path) -> Classifier:
    """The classifier in a folder; OSError, ValueError and TypeError as `load_classifier` raises them.

    The folder is one that `Classifier.save` or :func:`save_classifier` wrote; the latter's models need not be of
    `numbacnn.models`.
    """
    config = read_config(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    recipe, classes = config.get("recipe"), config.get("classes")
    if "architecture" in config or not isinstance(classes, list) or not isinstance(recipe, str):
        return load_classifier(folder)
    if recipe not in RECIPES:
        raise ValueError(f"{str(folder / CONFIG)!r} names the recipe {recipe!r}, which is none of {', '.join(RECIPES)}")
    return load_classifier(folder, RECIPES[recipe].build(config.get("channels", 3), len(classes)))


def rows(named: Named) -> list[str]:
    """A line for each class with its probability, as a number and as a bar."""
    width = max(len(name) for name, _ in named)
    sign = "█" if printable("█") == "█" else "#"
    return [printable(f"  {name:{width}}  {share:6.1%}  {sign * round(BAR * share)}".rstrip()) for name, share in named]
