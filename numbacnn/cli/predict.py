"""Name what is in images: ``numbacnn predict --help``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..backends import Backend
from ..classifier import Classifier, Named
from ..command_line import Parser, UserError, integer, one_line, path, printable, refuse, say
from ..data import DataFileError
from ..data.datasets.folder import EXTENSIONS, found_images
from .backend import add_backend_option, run_on
from .classifiers import IMAGENET, pretrained, rows, saved

__all__ = ["main", "new_parser"]


def new_parser(program: str) -> Parser:
    """The options."""
    parser = Parser(program, "Name what is in images, by a classifier of your own or a network trained on ImageNet.")
    add = parser.add_argument
    add("images", nargs="+", type=path, metavar="IMAGE", help="a file, or a folder with images")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=path, metavar="FOLDER",
        help="a folder with a classifier, such as the output folder of numbacnn train")  # fmt: skip
    which.add_argument("--pretrained", action="store_true", help=f"{IMAGENET}, as it was trained on ImageNet")
    add("--top", type=integer(1), default=5, help="how many classes to name")
    add("--batch-size", type=integer(1), default=16, help="images that are computed together")
    add("--json", action="store_true", help="print a JSON object for each image, on a line of its own")
    add_backend_option(parser)
    return parser


def files_of(paths: Sequence[Path]) -> Iterator[Path]:
    """The files that are named, and the images in the folders that are, by their names."""
    for place in paths:
        if not place.is_dir():
            yield place
            continue
        folder = place.resolve()
        try:
            (found,) = found_images(folder.parent, [folder.name])
        except DataFileError as error:
            raise UserError(f"IMAGE {place}: {one_line(error)}") from error
        if not found:
            raise UserError(f"IMAGE {place}: the folder must hold files that end in {', '.join(EXTENSIONS)}")
        yield from (place / file.relative_to(folder) for file in found)


def described(file: Path, named: Named, as_json: bool) -> str:
    """What is printed of an image."""
    if as_json:
        classes = [{"class": name, "probability": share} for name, share in named]
        return json.dumps({"image": str(file), "classes": classes})
    return "\n".join([printable(str(file)), *rows(named)])


def load(folder: Path | None) -> Classifier:
    """The classifier in a folder, or the one that comes with its weights."""
    if folder is None:
        return pretrained()
    try:
        return saved(folder)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--model {folder}: {one_line(error)}") from error


def name_each(classifier: Classifier, files: Sequence[Path], top: int, as_json: bool) -> int:
    """Print what is in the images; 2 where one could not be read, after all the others."""
    try:
        found: Any = classifier.predict(files, top)
        for file, named in zip(files, found, strict=True):
            say(described(file, named, as_json))
    except (OSError, DataFileError) as error:
        if len(files) == 1:
            return refuse(error)
        return max(name_each(classifier, [file], top, as_json) for file in files)
    return 0


def predict(arguments: argparse.Namespace, _: Backend) -> int:
    """Everything that the command does once its options are read."""
    code = 0
    classifier = load(arguments.model)
    files = files_of(arguments.images)
    try:
        while batch := list(islice(files, arguments.batch_size)):
            code = max(code, name_each(classifier, batch, arguments.top, arguments.json))
    except ImportError as error:
        raise UserError(one_line(error)) from error
    return code


def main(argv: Sequence[str] | None = None, program: str = "numbacnn predict") -> int:
    """Run the command and return its exit code: 2 where an image could not be read, after all the others."""
    arguments = new_parser(program).parse_intermixed_args(argv)
    return run_on(arguments.backend, lambda backend: predict(arguments, backend))
