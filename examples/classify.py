"""Name what is in photographs: ``python -m examples.classify --help``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import numbacnn as nc
from numbacnn import data, nn, ops
from numbacnn.data.photographs import CROP_PCT, INTERPOLATION

from .common import UserError, choose_backend, integer, interruptible, one_line, path, printable, refuse, say
from .grad_cam import blended, grad_cam, save_picture

IMAGENET = "efficientnet_lite0"
BAR = 30
"""Signs of a bar for 100 %."""
SCALE = 2
"""Pixels of the pictures of --explain for each that the model reads."""


class Classifier(NamedTuple):
    """A model in evaluation mode, and what it takes and gives."""

    model: nn.Sequential
    classes: Sequence[str]
    size: int
    """Height and width of the images that it reads."""


def load_classifier(name: str) -> Classifier:
    """The network trained on ImageNet, or the one in a folder that ``examples.fine_tune`` wrote."""
    if name == IMAGENET:
        try:
            model = nc.models.efficientnet_lite0(pretrained=True)
        except ImportError as error:
            raise UserError(one_line(error)) from error
        return Classifier(model.eval(), data.imagenet_classes(), 224)
    folder = path(name)
    if not folder.is_dir():
        raise UserError(f"--model {name}: it must be {IMAGENET} or a folder that examples.fine_tune wrote")
    try:
        model = nc.from_pretrained(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        classes, size = config["classes"], config["image_size"]
        outputs = model.output_shape((1, 3, size, size))
        if outputs != (1, len(classes)) or not all(isinstance(each, str) for each in classes):
            raise ValueError(f"the model gives {outputs}, which must be a number for each of {len(classes)} classes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"config.json lacks {error}" if isinstance(error, KeyError) else one_line(error)
        raise UserError(f"--model {name}: examples.fine_tune wrote no such folder: {reason}") from error
    return Classifier(model, classes, size)


def describe(classifier: Classifier, file: Path, top: int, explain: bool) -> None:
    """Print the likeliest classes of the image in a file; with ``explain`` draw where the first of them is seen."""
    x = data.photographs(file, classifier.size)
    scores = classifier.model.predict(x)
    shares = np.asarray(ops.softmax(scores, 1))[0]
    best = np.argsort(-shares, kind="stable")[:top].tolist()
    width = max(len(classifier.classes[index]) for index in best)
    say(printable(str(file)))
    sign = "█" if printable("█") == "█" else "#"
    for index in best:
        bar = sign * round(BAR * float(shares[index]))
        say(printable(f"  {classifier.classes[index]:{width}}  {shares[index]:6.1%}  {bar}".rstrip()))
    if explain:
        picture = data.read_image(file, SCALE * classifier.size, 3, INTERPOLATION, CROP_PCT)
        heat = grad_cam(classifier.model, x, best[0])
        target = file.with_name(f"{file.stem}.gradcam.png")
        save_picture(target, blended(picture, np.kron(heat, np.ones((SCALE, SCALE), np.float32))))
        say(printable(f"  wrote {target}: where it sees {classifier.classes[best[0]]}"))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.classify",
        description="Name what is in photographs, by a network that was trained on ImageNet or by one of your own.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="+", type=path, metavar="IMAGE", help="a file, such as a JPEG or a PNG")
    add("--top", type=integer(1), default=5, help="how many classes to name")
    add("--explain", action="store_true",
        help="write IMAGE.gradcam.png beside each image, where what speaks for its first class is red")  # fmt: skip
    add("--model", default=IMAGENET, help=f"{IMAGENET}, or a folder that python -m examples.fine_tune wrote")
    add("--backend", choices=nc.backends.NAMES, help="where to compute (default: NUMBACNN_BACKEND, else cpu)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 where an image could not be read, after all the others."""
    arguments = parse_arguments(argv)
    code = 0
    try:
        with interruptible(), choose_backend(arguments.backend):
            classifier = load_classifier(arguments.model)
            for file in arguments.images:
                try:
                    describe(classifier, file, arguments.top, arguments.explain)
                except (OSError, data.DataFileError) as error:
                    code = refuse(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (UserError, ImportError) as error:
        return refuse(error)
    return code


if __name__ == "__main__":
    sys.exit(main())
