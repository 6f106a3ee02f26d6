"""Say of each pixel what it shows, by a U-Net: ``python -m examples.segment --help``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import numbacnn as nc
from numbacnn import data, nn, ops, optim
from numbacnn.cli.backend import add_backend_option, choose_backend
from numbacnn.command_line import (
    Parser,
    UserError,
    above_zero,
    integer,
    interruptible,
    one_line,
    path,
    printable,
    refuse,
    say,
)
from numbacnn.data.datasets.shape_masks import MASKED_CLASSES
from numbacnn.files import replacing
from numbacnn.training import Callback, MeanIoU, Run, fit

WIDTH, DEPTH = 12, 3
STEP = 2**DEPTH
"""What divides the height and width of images."""
IGNORED = 255
"""The number of pixels in masks that are of no class, as at borders in PASCAL VOC."""
VAL_SHARE = 0.2
SHOWN = 8
"""Pictures that are drawn with their masks."""
TILE = 144
"""Their height and width there, at least."""
COLOURS = (
    *((38, 38, 46), (232, 84, 62), (62, 146, 232), (250, 200, 60), (92, 184, 92), (168, 96, 208), (240, 140, 190)),
    *((60, 190, 190), (150, 110, 70), (200, 200, 200)),
)
"""Of classes 0, 1, ..., and again from 1 on."""


class Sets(NamedTuple):
    """What the network learns from, and what it is tested on."""

    train: data.PairDataset
    val: data.PairDataset
    classes: list[str]


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m examples.segment",
        "Train a small U-Net to find circles, triangles and crosses in noisy scenes, or what masks of your "
        "own show, and draw what it makes of pictures that it has not seen; or, with --predict, write the masks of "
        "pictures.",
    )
    add = parser.add_argument
    add("--data-dir", type=path, metavar="FOLDER",
        help="has pictures in FOLDER/images and masks of the same names in FOLDER/masks, whose pixels are numbers of "
        "classes, or black and white (default: drawn shapes)")  # fmt: skip
    add("--epochs", type=integer(1), default=7, help="passes over the training pictures")
    add("--size", type=integer(STEP), default=48, help=f"height and width of the pictures, a multiple of {STEP}")
    add("--limit", type=integer(2), help="use at most LIMIT training pictures, and as many to test")
    add("--batch-size", type=integer(2), default=16, help="pictures per step")
    add("--lr", type=above_zero, default=0.006, help="the highest learning rate of AdamW")
    add("--seed", type=integer(0), default=0, help="of what is random: weights, order, which pictures are for tests")
    add("--save", type=path, default=Path("runs", "segment"), help="folder for the model and the picture")
    add_backend_option(parser)
    add("--predict", nargs="+", type=path, metavar="IMAGE", help="write IMAGE.mask.png, and train nothing")
    add("--model", type=path, help="for --predict: folder that this command wrote (default: SAVE)")
    arguments = parser.parse_args(argv)
    if arguments.size % STEP:
        parser.error(f"argument --size: {arguments.size} must be a multiple of {STEP}")
    return arguments


def drawn_sets(size: int, limit: int | None, seed: int) -> Sets:
    """Scenes of shapes; those to test on are the same for every seed."""
    counts = (limit or 6144, min(limit or 256, 256))
    train, val = (
        data.shape_masks(split, count, max(size, 16), seed=of)
        for split, count, of in zip(("train", "test"), counts, (seed, 0), strict=True)
    )
    return Sets(train, val, ["background", *MASKED_CLASSES])


def folder_sets(folder: Path, size: int, limit: int | None, seed: int) -> Sets:
    """The pictures of a folder with their masks, a fifth of them for tests."""
    try:
        pairs = data.mask_folder(folder, size)
    except ImportError as error:
        raise UserError(one_line(error)) from error
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"--data-dir: {error}") from error
    if len(pairs) < 2:
        raise UserError(f"--data-dir: {str(folder)!r} has one picture; there must be 2, one for tests")
    pictures, masks = pairs.inputs, pairs.targets
    found = np.unique(masks)
    if set(found) <= {0, IGNORED}:  # white stands for the one class, not for pixels of none
        masks, found = masks // IGNORED, found // IGNORED
    numbers = found[found != IGNORED]
    if not numbers.size or numbers.max() < 1:
        raise UserError(f"--data-dir: the masks in {str(folder)!r} show one class alone; there must be two or more")
    order = np.random.default_rng(seed).permutation(len(pictures))
    first = min(max(1, round(VAL_SHARE * len(order))), len(order) - 1)
    parts = order[first:][:limit], order[:first][:limit]
    train, val = (data.PairDataset(pictures[part], masks[part], pairs.name) for part in parts)
    return Sets(train, val, [str(number) for number in range(numbers.max() + 1)])


class KeepModel(Callback):
    """Say how an epoch went and write the model, so that there is one whenever training ends."""

    def __init__(self, folder: Path, classes: list[str], size: int) -> None:
        self.folder = folder
        self._config = {"classes": classes, "image_size": size}

    def on_epoch_end(self, run: Run) -> None:
        record = run.history.records[-1]
        say(
            f"epoch {record.epoch}/{run.epochs}: loss {record.train_loss:.3f}, mean IoU "
            f"{record.metrics['train_iou']:.3f}; unseen pictures: loss {record.test_loss:.3f}, mean IoU "
            f"{record.metrics['test_iou']:.3f}; {record.seconds:.1f} s"
        )
        nc.save_pretrained(self.folder, run.model, self._config)


def train(arguments: argparse.Namespace) -> int:
    """Train, save and draw; the exit code."""
    size, limit, seed = arguments.size, arguments.limit, arguments.seed
    folder = arguments.data_dir
    sets = folder_sets(folder, size, limit, seed) if folder else drawn_sets(size, limit, seed)
    say(printable(f"{len(sets.train)} training and {len(sets.val)} test pictures of {', '.join(sets.classes)}"))
    nc.manual_seed(seed)
    model = nc.models.unet(3, len(sets.classes), WIDTH, DEPTH, batch_norm=True)
    transform = data.PairTransform([data.RandomHorizontalFlip()])
    loaders = (
        data.DataLoader(sets.train, arguments.batch_size, True, seed, transform=transform),
        data.DataLoader(sets.val, arguments.batch_size),
    )
    optimizer = optim.AdamW(model.parameters(), arguments.lr)
    keep = KeepModel(arguments.save, sets.classes, size)
    history = nc.training.History()
    interrupted = False
    try:
        with np.errstate(all="ignore"):  # fit stops with an error of its own when the loss is no number
            fit(
                model,
                *loaders,
                nn.CrossEntropyLoss(ignore_index=IGNORED),
                optimizer,
                arguments.epochs,
                callbacks=[keep],
                history=history,
                schedule=optim.OneCycleLR(optimizer, arguments.lr, arguments.epochs * len(loaders[0])),
                metrics={"iou": MeanIoU(len(sets.classes), IGNORED)},
            )
    except KeyboardInterrupt:
        if not history.records:
            raise
        interrupted = True
        say(f"interrupted: what follows is of epoch {len(history)}")
    trained = nc.from_pretrained(arguments.save)
    draw(arguments.save / "pictures.png", trained, sets)
    command = f"python -m examples.segment --model {shlex.quote(str(arguments.save))} --predict IMAGE"
    say(printable(f"wrote {arguments.save}: {command}"))
    return 130 if interrupted else 0


def coloured(masks: np.ndarray) -> np.ndarray:
    """Numbers (...) as colours (..., 3); those of no class are white."""
    table = np.full((256, 3), 255, np.uint8)
    table[:IGNORED] = [COLOURS[1 + (number - 1) % (len(COLOURS) - 1) if number else 0] for number in range(IGNORED)]
    return table[masks]


def draw(file: Path, model: nn.Layer, sets: Sets) -> None:
    """A PNG file of test pictures, below them what their masks are and what the model makes of them."""
    from PIL import Image, ImageDraw, ImageFont

    pictures, masks = sets.val.inputs[:SHOWN], sets.val.targets[:SHOWN]
    predicted = np.asarray(model.predict(pictures)).argmax(axis=1)
    height, width = masks.shape[1:]
    scale = max(1, TILE // height)
    gap, left, line = 6, 84, 26
    rows = [pictures.transpose(0, 2, 3, 1), coloured(masks), coloured(predicted)]
    canvas = Image.new(
        "RGB", (left + len(masks) * (scale * width + gap), gap + 3 * (scale * height + gap) + line), "white"
    )
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for row, (name, tiles) in enumerate(zip(("picture", "mask", "prediction"), rows, strict=True)):
        top = gap + row * (scale * height + gap)
        pen.text((gap, top + scale * height // 2 - 6), name, "black", font)
        for column, tile in enumerate(tiles):
            enlarged = np.kron(tile, np.ones((scale, scale, 1), np.uint8))
            canvas.paste(Image.fromarray(enlarged), (left + column * (scale * width + gap), top))
    x, top = left, canvas.height - line + 4
    for number, name in enumerate(sets.classes):
        pen.rectangle((x, top, x + 14, top + 14), tuple(coloured(np.array(number)).tolist()))
        text = name.encode("latin-1", "replace").decode("latin-1")
        pen.text((x + 20, top + 1), text, "black", font)
        x += 44 + int(pen.textlength(text, font))
    with replacing(file) as temporary:
        canvas.save(temporary, format="PNG")


def predict(arguments: argparse.Namespace) -> int:
    """Write the mask of each picture beside it; the exit code, 2 where one could not be read, after all the others."""
    from PIL import Image

    folder = arguments.model or arguments.save
    try:
        model = nc.from_pretrained(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        classes, size = list(map(str, config["classes"])), config["image_size"]
        if model.output_shape((1, 3, size, size)) != (1, len(classes), size, size):
            raise ValueError(f"the model does not give numbers for {len(classes)} classes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"config.json lacks {error}" if isinstance(error, KeyError) else one_line(error)
        raise UserError(f"--model {folder}: examples.segment wrote no such folder: {reason}") from error
    code = 0
    for file in arguments.predict:
        try:
            picture = data.read_image(file)
        except (OSError, data.DataFileError) as error:
            code = refuse(error)
            continue
        mask = mask_of(model, picture, size)
        image = Image.fromarray(mask)
        image.putpalette(coloured(np.arange(256)).ravel().tolist())
        target = file.with_name(f"{file.stem}.mask.png")
        with replacing(target) as temporary:
            image.save(temporary, format="PNG")
        shares = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
        seen = ", ".join(f"{name} {share:.1%}" for name, share in zip(classes, shares, strict=True) if share)
        say(printable(f"wrote {target}: {seen}"))
    return code


def mask_of(model: nn.Layer, picture: np.ndarray, size: int) -> np.ndarray:
    """The classes (h, w) uint8 of a picture (3, h, w), whose shorter side the model sees with ``size`` pixels."""
    from PIL import Image

    shape = picture.shape[1:]
    height, width = (max(STEP, round(side * size / min(shape) / STEP) * STEP) for side in shape)
    image = Image.fromarray(picture.transpose(1, 2, 0)).resize((width, height), Image.Resampling.BILINEAR)
    scores = np.asarray(model.predict(np.asarray(image).transpose(2, 0, 1)[None]))
    scores = np.asarray(ops.interpolate2d(scores, shape, mode="bilinear", backend="reference"))
    return scores[0].argmax(axis=0).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parse_arguments(argv)
    try:
        with interruptible(), choose_backend(arguments.backend):
            return predict(arguments) if arguments.predict else train(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (UserError, ImportError, OSError, FloatingPointError) as error:
        return refuse(error)


if __name__ == "__main__":
    sys.exit(main())
