"""Draw what augmentations make of one image, a row for each: ``python -m examples.augmentations --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn import data
from numbacnn.backends import get
from numbacnn.command_line import Parser, UserError, integer, path, refuse, say
from numbacnn.files import replacing

GAP = 4
"""Pixels between images."""


def rows(size: int) -> dict[str, Any]:
    """What is drawn, in this order; those of batches are mixed with what the row before has."""
    return {
        "RandomResizedCrop": data.RandomResizedCrop(size),
        "RandomRotation": data.RandomRotation(30, "bilinear"),
        "RandomAffine": data.RandomAffine(0, (0.1, 0.1), (0.7, 1.3), (-20, 20, -10, 10), "bilinear"),
        "ColorJitter": data.ColorJitter(0.4, 0.4, 0.4, 0.1),
        "RandomErasing": data.RandomErasing(p=1, value=0.5),
        "RandAugment": data.RandAugment(2, 15, interpolation="bilinear"),
        "MixUp": data.MixUp(num_classes=1),
        "CutMix": data.CutMix(num_classes=1),
    }


def drawn(image: np.ndarray, copies: int, seed: int) -> dict[str, np.ndarray]:
    """Of each row the images (copies, c, size, size), of an image (c, size, size) in 0..1."""
    random, host = np.random.default_rng(seed), get("reference")
    same = np.repeat(image[None], copies, axis=0)
    others = same[:, :, :, ::-1].copy()
    others[::2] = data.RandAugment(2, 15)(same, random, host)[::2]
    found = {}
    for name, transform in rows(image.shape[1]).items():
        if name in ("MixUp", "CutMix"):
            # A share and a box are of a batch, so that each pair is one of its own.
            pairs = [transform(others[[i, i - 1]], np.zeros(2, np.int64), random, host)[0][:1] for i in range(copies)]
            found[name] = np.concatenate(pairs)
        else:
            found[name] = transform(same, random, host)
    return found


def tiled(found: dict[str, np.ndarray]) -> np.ndarray:
    """The rows under each other on white, (h, w, 3) uint8."""
    lines = []
    for images in found.values():
        framed = np.pad(images, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=1)
        lines.append(np.concatenate(list(framed), axis=2))
    picture = np.concatenate(lines, axis=1)[:, :-GAP, :-GAP]
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = Parser(
        "python -m examples.augmentations",
        "Draw what augmentations make of one image, a row for each: " + ", ".join(rows(1)) + ".",
    )
    add = parser.add_argument
    add("image", type=path, metavar="IMAGE", help="a photograph")
    add("--size", type=integer(8), default=96, help="height and width of each image, in pixels")
    add("--copies", type=integer(1), default=8, help="images in a row")
    add("--seed", type=integer(0), default=0, help="of what is drawn")
    add("--output", type=path, default=Path("runs", "augmentations.png"), help="the picture, a PNG file")
    arguments = parser.parse_args(argv)
    try:
        image = data.read_image(arguments.image, arguments.size, 3).astype(np.float32) / np.float32(255)
        picture = tiled(drawn(image, arguments.copies, arguments.seed))
        from PIL import Image

        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(arguments.output) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG", optimize=True)
    except (ImportError, OSError, data.DataFileError) as error:
        return refuse(UserError(str(error)) if isinstance(error, ImportError) else error)
    say(f"wrote {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
