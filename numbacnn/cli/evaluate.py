"""Loss and accuracies of a trained model: ``numbacnn evaluate --help``."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, io
from ..backends import Backend
from ..classifier import Classifier
from ..command_line import Parser, UserError, integer, one_line, path, printable, say
from ..nn import CrossEntropyLoss
from ..training import ClassAccuracy, evaluate
from .backend import add_backend_option, run_on
from .classifiers import saved
from .datasets import NAMES, SPLITS, composed, fitting, parse_shared_options, read_folder, read_split, spread
from .recipes import RECIPES

__all__ = ["main", "new_parser"]


def new_parser(program: str) -> Parser:
    """The options."""
    parser = Parser(program, "Loss, accuracy, and the accuracy of each class of a trained model on images with labels.")
    add = parser.add_argument
    add("--model", required=True, metavar="NAME",
        help="a folder with a classifier, such as the output folder of numbacnn train; or, for --weights, one of "
        f"{', '.join(RECIPES)}")  # fmt: skip
    add("--weights", type=path, metavar="FILE", help="weights of the model that --model names")
    add("--dataset", choices=NAMES, required=True,
        help="folder takes the images in DATA_DIR/SPLIT, or in DATA_DIR where it has neither train nor test; they are "
        "in a sub-folder for each class")  # fmt: skip
    add("--data-dir", type=path, help="folder with the data set's files (default: NUMBACNN_DATA, else a download)")
    add("--split", choices=SPLITS, default="test", help="which of the data set's images")
    add("--limit", type=integer(1), help="use only the first LIMIT images; of a folder, images from all over it")
    add("--batch-size", type=integer(1), default=128, help="images that are computed together")
    add("--confusion", action="store_true", help="how often which class is taken for which, as well")
    add("--json", action="store_true", help="print one JSON object")
    add_backend_option(parser)
    return parser


def parse_arguments(argv: Sequence[str] | None, program: str) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    parser = new_parser(program)
    arguments = parse_shared_options(parser, argv)
    if arguments.weights and arguments.model not in RECIPES:
        parser.error(f"argument --model: {arguments.model!r} must be one of {', '.join(RECIPES)} with --weights")
    return arguments


def read_images(arguments: argparse.Namespace, preprocessing: data.Preprocessing) -> data.ArrayDataset:
    """What the model is evaluated on; the images of a folder as the model reads them."""
    if arguments.dataset != "folder":
        try:
            return read_split(arguments.dataset, arguments.split, arguments.data_dir, arguments.limit)
        except (data.DatasetUnavailable, FileNotFoundError, ValueError) as error:
            raise UserError(f"--dataset {arguments.dataset}: {one_line(error)}") from error
    folder: Path = arguments.data_dir
    if any((folder / split).is_dir() for split in SPLITS):
        folder /= arguments.split
    how = preprocessing.reading
    images = read_folder("--data-dir", folder, how.pop("size"), **how)
    return spread(images, arguments.limit) if arguments.limit else images


def load_model(arguments: argparse.Namespace) -> tuple[Classifier, data.ArrayDataset]:
    """The classifier and its images, whose labels are the numbers of its classes."""
    if arguments.weights is None:
        folder = Path(arguments.model).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"--model {arguments.model}: it must be a folder with a classifier, or a model's name with --weights"
            )
        try:
            classifier = saved(folder)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"--model {arguments.model}: {one_line(error)}") from error
        images = read_images(arguments, classifier.preprocessing)
        return classifier, relabelled(images, classifier.classes)
    recipe = RECIPES[arguments.model]
    images = read_images(arguments, data.Preprocessing(recipe.size))
    fitting(recipe, images.image_shape)
    model = recipe.build(images.image_shape[0], images.num_classes)
    try:
        io.load(arguments.weights, model)
    except (OSError, ValueError) as error:
        raise UserError(f"--weights {arguments.weights}: {one_line(error)}") from error
    return Classifier(model, images.classes, data.Preprocessing(recipe.size, images.image_shape[0])), images


def relabelled(images: data.ArrayDataset, classes: Sequence[str]) -> data.ArrayDataset:
    """The images with labels that are numbers of ``classes``, by their names."""
    unknown = [name for name in images.classes if name not in classes]
    if unknown:
        raise UserError(
            f"the images are of the classes {', '.join(images.classes)}, of which the model does not know "
            f"{', '.join(unknown)}; it knows {', '.join(classes)}"
        )
    numbers = np.array([classes.index(name) for name in images.classes])
    return data.ArrayDataset(images.images, numbers[images.labels], classes, images.name)


def measure(arguments: argparse.Namespace, backend: Backend) -> None:
    """Everything that the command does once its options are read."""
    classifier, images = load_model(arguments)
    channels, *size = classifier.preprocessing.image_shape
    if images.image_shape[0] != channels:
        raise UserError(f"the model reads images of {channels} channels, and these have {images.image_shape[0]}")
    fit_size: list[data.Transform] = [] if list(images.image_shape[1:]) == size else [data.Resize((size[0], size[1]))]
    loader = data.DataLoader(
        images,
        arguments.batch_size,
        backend=backend if backend.asynchronous else None,
        transform=composed([*fit_size, classifier.preprocessing.normalize]),
    )
    each, classes = ClassAccuracy(classifier.classes), len(classifier.classes)
    confusion = np.zeros((classes, classes), np.int64)

    def count(prediction: Any, labels: Any) -> None:
        best, of = backend.to_numpy(prediction).argmax(axis=1), backend.to_numpy(labels)
        np.add.at(confusion, (of, best), 1)

    on_batch = count if arguments.confusion else None
    loss, accuracy = evaluate(classifier.model, loader, CrossEntropyLoss(), [each], on_batch)
    if arguments.json:
        counts = np.bincount(images.labels, minlength=len(classifier.classes)).tolist()
        of_classes = {
            name: {"accuracy": _finite(share), "images": count}
            for (name, share), count in zip(each.of_each().items(), counts, strict=True)
        }
        of = {"model": arguments.model, "dataset": arguments.dataset, "split": arguments.split, "images": len(images)}
        found = {**of, "loss": _finite(loss), "accuracy": _finite(accuracy), "classes": of_classes}
        say(json.dumps(found | ({"confusion": confusion.tolist()} if arguments.confusion else {})))
        return
    shape = "x".join(map(str, images.image_shape))
    of_split = "" if arguments.dataset == "folder" else f"{arguments.split} "
    say(f"{arguments.dataset}: {len(images)} {of_split}images of {shape} pixels in {len(classifier.classes)} classes")
    say(printable(str(each)))
    if arguments.confusion:
        say(printable(confusion_table(confusion, classifier.classes)))
    say(f"loss {loss:.3f}, acc {accuracy:.3f}")


def confusion_table(confusion: np.ndarray[Any, Any], classes: Sequence[str]) -> str:
    """Rows are labels, columns what the model takes their images for, by numbers that the rows explain.

    >>> print(confusion_table(np.array([[5, 0], [2, 10]]), ["cat", "dog"]))
    label   0   1
    0 cat   5   0
    1 dog   2  10
    """
    numbers = range(len(classes))
    width = max(len(str(number)) for number in (*numbers, *confusion.ravel())) + 2
    names = [f"{number:>{len(str(numbers[-1]))}} {name}" for number, name in zip(numbers, classes, strict=True)]
    rows = [("label", numbers), *zip(names, confusion, strict=True)]
    name_width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{name_width}}" + "".join(f"{count:{width}}" for count in row) for name, row in rows)


def _finite(figure: float) -> float | None:
    """What JSON has a number for."""
    return figure if math.isfinite(figure) else None


def main(argv: Sequence[str] | None = None, program: str = "numbacnn evaluate") -> int:
    """Run the command and return its exit code."""
    arguments = parse_arguments(argv, program)
    return run_on(arguments.backend, lambda backend: measure(arguments, backend))
