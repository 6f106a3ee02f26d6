"""Name what is in photographs: ``python -m examples.classify --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import numbacnn as nc
from numbacnn import data
from numbacnn.cli.backend import add_backend_option, run_on
from numbacnn.cli.classifiers import IMAGENET, pretrained, rows, saved
from numbacnn.command_line import Parser, UserError, integer, one_line, path, printable, refuse, say
from numbacnn.explain import blended, grad_cam
from numbacnn.files import replacing

SCALE = 2
"""Pixels of the pictures of --explain for each that the model reads."""


def load_classifier(name: str) -> nc.Classifier:
    """The network trained on ImageNet, or the one in a folder that ``examples.fine_tune`` wrote."""
    if name == IMAGENET:
        return pretrained()
    folder = path(name)
    if not folder.is_dir():
        raise UserError(f"--model {name}: it must be {IMAGENET} or a folder that examples.fine_tune wrote")
    try:
        return saved(folder)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--model {name}: examples.fine_tune wrote no such folder: {one_line(error)}") from error


def describe(classifier: nc.Classifier, file: Path, top: int, explain: bool) -> None:
    """Print the likeliest classes of the image in a file; with ``explain`` draw where the first of them is seen."""
    (best,) = classifier.predict([file], top)
    say("\n".join([printable(str(file)), *rows(best)]))
    if explain:
        _, h, w = classifier.preprocessing.image_shape
        how = {"size": (SCALE * h, SCALE * w), "channels": 3}
        picture = data.read_image(file, **{**classifier.preprocessing.reading, **how})
        heat = grad_cam(classifier.model, classifier.preprocessing(file), classifier.classes.index(best[0][0]))
        # The whole name, or 1.jpg and 1.png would share a picture.
        target = file.with_name(f"{file.name}.gradcam.png")
        save_picture(target, blended(picture, np.kron(heat, np.ones((SCALE, SCALE), np.float32))))
        say(printable(f"  wrote {target}: where it sees {best[0][0]}"))


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write (3, h, w) uint8 as a PNG file, whole or not at all."""
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(temporary, format="PNG")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m examples.classify",
        "Name what is in photographs, by a network that was trained on ImageNet or by one of your own.",
    )
    add = parser.add_argument
    add("images", nargs="+", type=path, metavar="IMAGE", help="a file, such as a JPEG or a PNG")
    add("--top", type=integer(1), default=5, help="how many classes to name")
    add("--explain", action="store_true",
        help="write IMAGE.gradcam.png, such as 1.jpg.gradcam.png, beside each image, where what speaks for its first "
        "class is red")  # fmt: skip
    add("--model", default=IMAGENET, help=f"{IMAGENET}, or a folder that python -m examples.fine_tune wrote")
    add_backend_option(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 where an image could not be read, after all the others."""
    arguments = parse_arguments(argv)

    def work(_: nc.backends.Backend) -> int:
        code = 0
        classifier = load_classifier(arguments.model)
        for file in arguments.images:
            try:
                describe(classifier, file, arguments.top, arguments.explain)
            except (OSError, data.DataFileError) as error:
                code = refuse(error)
            except ImportError as error:
                raise UserError(one_line(error)) from error
        return code

    return run_on(arguments.backend, work)


if __name__ == "__main__":
    sys.exit(main())
