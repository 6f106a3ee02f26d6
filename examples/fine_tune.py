"""Teach a network that knows photographs the classes of a folder of yours: ``python -m examples.fine_tune --help``."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import numbacnn as nc
from numbacnn import data, nn, optim
from numbacnn.data.photographs import CROP_PCT, INTERPOLATION, NORMALIZE
from numbacnn.training import ProgressBar, fit

from .classify import IMAGENET
from .common import (
    UserError,
    above_zero,
    check_same_classes,
    choose_backend,
    integer,
    interruptible,
    number,
    one_line,
    path,
    printable,
    read_folder,
    refuse,
    say,
)
from .recipes import RECIPES
from .train import AUGMENTATIONS, augmenting, leaves_one_out, mixing

SPLITS = ("train", "val")
IMAGENET_SIZE = 224
HEAD_EPOCHS, HEAD_STEPS = 10, 200
"""Of the last layer alone: so many epochs, or more until there are so many steps."""
LR, SMALL_LR = 1e-3, 1e-4
"""Learning rates of AdamW: of layers that begin anew, and of those that are trained already."""
# Those of the package, which from_pretrained can make from their names.
MODELS = (IMAGENET, *(name for name in RECIPES if name != "fast"))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.fine_tune",
        description="Teach a network the classes of a folder. One that was trained on ImageNet first gets a new last "
        "layer, which is trained alone, and then all its layers are trained at a small rate; other models are trained "
        "from the beginning. python -m examples.classify --model SAVE IMAGE uses the result.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=path, metavar="FOLDER",
        help="has a sub-folder of images for each class, or sub-folders train and val that have those")  # fmt: skip
    add("--model", choices=MODELS, default=IMAGENET, help=f"what to train; only {IMAGENET} is trained already")
    add("--epochs", type=integer(0), default=5, help="passes over the training images in which all layers are trained")
    add("--batch-size", type=integer(1), default=32, help="images per step")
    add("--lr", type=above_zero, default=argparse.SUPPRESS,
        help=f"learning rate of all layers (default: {SMALL_LR:g} for {IMAGENET}, else {LR:g})")  # fmt: skip
    add("--val-share", type=number(0.01, 0.99), default=0.2,
        help="of the images of each class, for validation, where FOLDER has no train and val")  # fmt: skip
    add("--augment", choices=AUGMENTATIONS, default="flip",
        help="of training images while all layers are trained: as python -m examples.train does it")  # fmt: skip
    add("--save", type=path, default=Path("runs", "fine_tune"), help="folder for the trained model")
    add("--seed", type=integer(0), default=0, help="of what is random: weights, validation images, order")
    add("--backend", choices=nc.backends.NAMES, help="where to compute (default: NUMBACNN_BACKEND, else cpu)")
    arguments = parser.parse_args(argv)
    if "lr" not in arguments:
        arguments.lr = SMALL_LR if arguments.model == IMAGENET else LR
    return arguments


def load_sets(folder: Path, size: int, share: float, seed: int) -> tuple[data.ArrayDataset, data.ArrayDataset]:
    """Training and validation images, of height and width ``size``, read as photographs are."""
    how = {"interpolation": INTERPOLATION, "crop_pct": CROP_PCT}
    found = [split for split in SPLITS if (folder / split).is_dir()]
    if len(found) == 1:
        raise UserError(
            f"{str(folder)!r} has the folder {found[0]}; it must have both of {' and '.join(SPLITS)}, or none"
        )
    if found:
        train, val = (read_folder("FOLDER", folder / split, size, **how) for split in SPLITS)
        check_same_classes(folder, SPLITS, (train, val))
        return train, val
    return divide(read_folder("FOLDER", folder, size, **how), share, seed)


def divide(images: data.ArrayDataset, share: float, seed: int) -> tuple[data.ArrayDataset, data.ArrayDataset]:
    """The data set in two, of which the second has ``share`` of each class, at least one image and not all."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(images), bool)
    for label, name in enumerate(images.classes):
        (places,) = np.nonzero(images.labels == label)
        if len(places) < 2:
            raise UserError(f"the class {name} has {len(places)} image; it must have at least 2, one for validation")
        count = min(max(1, round(share * len(places))), len(places) - 1)
        chosen[rng.permutation(places)[:count]] = True
    train, val = (
        data.ArrayDataset(images.images[part], images.labels[part], images.classes, images.name)
        for part in (~chosen, chosen)
    )
    return train, val


def new_model(name: str, classes: int, seed: int) -> nn.Sequential:
    """The model for so many classes: trained on ImageNet but for its last layer, or not at all."""
    nc.manual_seed(seed)
    if name == IMAGENET:
        try:
            return nc.models.efficientnet_lite0(num_classes=classes, pretrained=True)
        except ImportError as error:
            raise UserError(one_line(error)) from error
    model = RECIPES[name].build(3, classes)
    nn.init.xavier_uniform(model)
    return model


def train_head(
    model: nn.Sequential, sets: Sequence[data.ArrayDataset], loss: nn.Loss, arguments: argparse.Namespace
) -> None:
    """Train the last layer alone. What it reads does not change meanwhile, and is computed once."""
    body, head = model[:-2], model[-2:]  # dropout belongs to the last layer
    found = []
    for images in sets:
        batches = data.DataLoader(images, arguments.batch_size, transform=NORMALIZE)
        features = np.concatenate([np.asarray(body.predict(batch)) for batch, _ in batches])
        found.append(data.PairDataset(features, images.labels))
    loaders = (
        data.DataLoader(found[0], arguments.batch_size, True, arguments.seed),
        data.DataLoader(found[1], arguments.batch_size),
    )
    epochs = max(HEAD_EPOCHS, math.ceil(HEAD_STEPS / len(loaders[0])))
    history = fit(head, *loaders, loss, optim.AdamW(head.parameters(), LR), epochs)
    last = history.records[-1]
    say(f"last layer, {epochs} epochs: train acc {last.train_accuracy:.3f}, val acc {last.test_accuracy:.3f}")


def train_all(
    model: nn.Sequential, sets: Sequence[data.ArrayDataset], loss: nn.Loss, arguments: argparse.Namespace, size: int
) -> None:
    """Train all layers, at a small rate those that are trained already."""
    model.train()
    trained = arguments.model == IMAGENET
    if trained:
        # A few hundred images say less about means and variances than the million that these are of.
        for layer in model.layers():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
    optimizer = optim.AdamW(model.parameters(), arguments.lr)
    drop_last = not trained and leaves_one_out(model, (1, 3, size, size), len(sets[0]), arguments.batch_size)
    device = model.backend if model.backend.asynchronous else None
    loaders = (
        data.DataLoader(
            *(sets[0], arguments.batch_size, True, arguments.seed),
            drop_last=drop_last,
            backend=device,
            transform=data.Compose([*augmenting(arguments.augment, size, 3), NORMALIZE]),
            batch_transform=mixing(arguments.augment),
        ),
        data.DataLoader(sets[1], arguments.batch_size, backend=device, transform=NORMALIZE),
    )
    schedule = optim.CosineAnnealingLR(optimizer, arguments.epochs)
    with np.errstate(all="ignore"):  # fit stops with an error of its own when the loss is no number
        fit(model, *loaders, loss, optimizer, arguments.epochs, callbacks=[ProgressBar()], schedule=schedule)


def fine_tune(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    trained = arguments.model == IMAGENET
    size = IMAGENET_SIZE if trained else RECIPES[arguments.model].size
    if not (trained or arguments.epochs):
        raise UserError(f"--epochs 0: {arguments.model} is not trained before, it needs at least 1")
    sets = load_sets(arguments.folder, size, arguments.val_share, arguments.seed)
    classes = sets[0].classes
    if len(classes) < 2:
        raise UserError(f"there is one class alone, {classes[0]}: it takes two or more to tell apart")
    say(printable(f"{len(sets[0])} training and {len(sets[1])} validation images of {', '.join(classes)}"))
    model = new_model(arguments.model, len(classes), arguments.seed)
    arguments.save.mkdir(parents=True, exist_ok=True)
    loss = nn.CrossEntropyLoss()
    if trained:
        train_head(model, sets, loss, arguments)
    if arguments.epochs:
        train_all(model, sets, loss, arguments, size)
    nc.save_pretrained(arguments.save, model, {"classes": list(classes), "image_size": size})
    say(
        printable(
            f"wrote {arguments.save}: python -m examples.classify --model {shlex.quote(str(arguments.save))} IMAGE"
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parse_arguments(argv)
    try:
        with interruptible(), choose_backend(arguments.backend):
            fine_tune(arguments)
    except KeyboardInterrupt:
        print("interrupted: nothing is saved", file=sys.stderr)
        return 130
    except (UserError, OSError, FloatingPointError) as error:
        return refuse(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
