"""Teach a network that knows photographs the classes of a folder of yours: ``python -m examples.fine_tune --help``."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import data, nn, optim
from numbacnn.backends import Backend
from numbacnn.cli.backend import add_backend_option, run_on
from numbacnn.cli.classifiers import IMAGENET, pretrained
from numbacnn.cli.datasets import check_same_classes, read_folder
from numbacnn.cli.recipes import RECIPES
from numbacnn.cli.train import AUGMENTATIONS, HISTORY, MISTAKES, PROGRESS, augmenting, leaves_one_out, mixing
from numbacnn.command_line import Parser, UserError, above_zero, integer, number, path, printable, say
from numbacnn.training import (
    ClassAccuracy,
    EarlyStopping,
    History,
    HistoryFile,
    MistakesFile,
    ProgressBar,
    ProgressFile,
    evaluate,
    fit,
)

from .saved_weights import Pretrained, load_pretrained, put_into

SPLITS = ("train", "val")
HEAD_EPOCHS, HEAD_STEPS = 10, 200
"""Of the last layer alone: so many epochs, or more until there are so many steps."""
LR, SMALL_LR = 1e-3, 1e-4
"""Learning rates of AdamW: of layers that begin anew, and of those that are trained already."""
# Those of the package, which from_pretrained can make from their names.
MODELS = (IMAGENET, *(name for name in RECIPES if name != "fast"))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m examples.fine_tune",
        "Teach a network the classes of a folder. One that is trained already first gets a new last layer, "
        "which is trained alone, and then all its layers are trained at a small rate; other models are trained "
        "from the beginning. The weights of the epoch with the lowest validation loss are kept. "
        "python -m examples.classify --model SAVE IMAGE uses the result.",
    )
    add = parser.add_argument
    add("folder", type=path, metavar="FOLDER",
        help="has a sub-folder of images for each class, or sub-folders train and val that have those")  # fmt: skip
    add("--model", choices=MODELS,
        help=f"what to train (default: {IMAGENET}, which is trained already, or what --weights says)")  # fmt: skip
    add("--weights", type=path, metavar="PATH",
        help="weights to begin with: a folder of nc.save_pretrained, such as SAVE of an earlier run, or a file of "
        "weights for --model; what does not fit, as the last layer of other classes, begins anew")  # fmt: skip
    add("--epochs", type=integer(0), default=5, help="passes over the training images in which all layers are trained")
    add("--patience", type=integer(1), help="stop after so many of them in a row without a lower validation loss")
    add("--batch-size", type=integer(1), default=32, help="images per step")
    add("--lr", type=above_zero,
        help=f"learning rate of all layers (default: {SMALL_LR:g} of a trained model, else {LR:g})")  # fmt: skip
    add("--val-share", type=number(0.01, 0.99), default=0.2,
        help="of the images of each class, for validation, where FOLDER has no train and val")  # fmt: skip
    add("--augment", choices=AUGMENTATIONS, default="flip",
        help="of training images while all layers are trained: as python -m examples.train does it")  # fmt: skip
    add("--lazy", action="store_true", help="read images when they are needed, where else all of them are in memory")
    add("--save", type=path, default=Path("runs", "fine_tune"), help="folder for the trained model")
    add("--seed", type=integer(0), default=0, help="of what is random: weights, validation images, order")
    add_backend_option(parser)
    return parser.parse_args(argv)


def load_sets(folder: Path, preprocessing: data.Preprocessing, share: float, seed: int, lazy: bool) -> tuple[Any, Any]:
    """Training and validation images, as the model reads them."""
    how = {**preprocessing.reading, "lazy": lazy}
    size = how.pop("size")
    found = [split for split in SPLITS if (folder / split).is_dir()]
    if len(found) == 1:
        raise UserError(
            f"{str(folder)!r} has the folder {found[0]}; it must have both of {' and '.join(SPLITS)}, or none"
        )
    if found:
        train, val = (read_folder("FOLDER", folder / split, size, **how) for split in SPLITS)
        check_same_classes(folder, SPLITS, (train, val))
        return train, val
    images = read_folder("FOLDER", folder, size, **how)
    try:
        return data.train_test_split(images, share, stratify=True, seed=seed)
    except ValueError as error:
        raise UserError(f"FOLDER: {error}") from error


def begin(arguments: argparse.Namespace) -> Pretrained | None:
    """The weights that the options say to begin with; None for a model that is trained from the beginning."""
    if arguments.weights is not None:
        if arguments.weights.is_dir() and arguments.model is not None:
            raise UserError("--model: the folder of --weights says which model it is")
        return load_pretrained(arguments.weights)
    if arguments.model not in (None, IMAGENET):
        return None
    model = pretrained().model
    state = {name: array for name, array in model.state_dict().items() if not name.startswith("_fc")}
    return Pretrained(state, build=None, preprocessing=data.PHOTOGRAPHS)


def new_model(
    arguments: argparse.Namespace, trained: Pretrained | None, classes: int, shape: tuple[int, int, int]
) -> tuple[nn.Layer, set[str]]:
    """The model for so many classes, and the names of its arrays that nothing was loaded into."""
    nc.manual_seed(arguments.seed)
    if trained is not None and trained.build is not None:
        model = trained.build(classes)
    elif arguments.model in (None, IMAGENET):
        model = nc.models.efficientnet_lite0(num_classes=classes)
    else:
        model = RECIPES[arguments.model].build(3, classes)
        nn.init.xavier_uniform(model)
    try:
        model.output_shape((1, *shape))
    except ValueError as error:
        raise UserError(f"the model cannot read images of {'x'.join(map(str, shape))}: {error}") from error
    if trained is None:
        return model, set(model.state_dict())
    new, left = put_into(model, trained.state)
    if arguments.weights is not None:
        name = f"--weights {arguments.weights}"
        if len(new) == len(model.state_dict()):
            raise UserError(f"{name}: none of its arrays fits the model; it has {listed(left)}")
        if new or left:
            say(printable(f"{name}: begins anew: {listed(new)}; not taken: {listed(left)}"))
    return model, set(new)


def listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "nothing"


def split_head(model: nn.Layer) -> tuple[nn.Sequential, nn.Sequential] | None:
    """What comes before the last layer, and the last layer with its dropout, if that layer is linear."""
    if type(model) is not nn.Sequential:
        return None
    layers = list(model)
    last = max((i for i, layer in enumerate(layers) if list(layer.parameters())), default=-1)
    if last < 1 or not isinstance(layers[last], nn.Linear):
        return None
    cut = last - isinstance(layers[last - 1], nn.Dropout)
    return model[:cut], model[cut:]


def train_head(
    body: nn.Sequential,
    head: nn.Sequential,
    sets: Sequence[Any],
    loss: nn.Loss,
    arguments: argparse.Namespace,
    normalize: data.Transform,
) -> None:
    """Train the last layer alone. What it reads does not change meanwhile, and is computed once."""
    found = []
    for images in sets:
        batches = data.DataLoader(images, arguments.batch_size, transform=normalize)
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
    model: nn.Layer,
    sets: Sequence[Any],
    loss: nn.Loss,
    arguments: argparse.Namespace,
    preprocessing: data.Preprocessing,
    trained: bool,
    history: History,
) -> None:
    """Train all layers, at a small rate those that are trained already. The model ends with its best weights."""
    model.train()
    if trained:
        # A few hundred images say less about means and variances than the million that these are of.
        for layer in model.layers():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                layer.eval()
    channels, *size = preprocessing.image_shape
    optimizer = optim.AdamW(model.parameters(), arguments.lr or (SMALL_LR if trained else LR))
    one = (1, channels, *size)
    drop_last = not trained and leaves_one_out(model, one, len(sets[0]), arguments.batch_size)
    device = model.backend if model.backend.asynchronous else None
    loaders = (
        data.DataLoader(
            *(sets[0], arguments.batch_size, True, arguments.seed),
            drop_last=drop_last,
            backend=device,
            transform=data.Compose([*augmenting(arguments.augment, size[0], channels), preprocessing.normalize]),
            batch_transform=mixing(arguments.augment),
        ),
        data.DataLoader(sets[1], arguments.batch_size, backend=device, transform=preprocessing.normalize),
    )
    stopping = EarlyStopping(arguments.patience or arguments.epochs, restore_best=True)
    callbacks = [
        ProgressBar(test_name="val"),
        HistoryFile(arguments.save / HISTORY),
        MistakesFile(arguments.save / MISTAKES, sets[1]),
        ProgressFile(arguments.save / PROGRESS),
        stopping,
    ]
    before = model.state_dict()
    try:
        with np.errstate(all="ignore"):  # fit stops with an error of its own when the loss is no number
            fit(
                *(model, *loaders, loss, optimizer, arguments.epochs),
                callbacks=callbacks,
                history=history,
                schedule=optim.CosineAnnealingLR(optimizer, arguments.epochs),
            )
    except KeyboardInterrupt:
        if not history.records:
            model.load_state_dict(before)
        raise
    if stopping.best_epoch < len(history):
        say(f"the weights of epoch {stopping.best_epoch} are kept, whose val loss is the lowest")


def fine_tune(arguments: argparse.Namespace, _: Backend) -> None:
    """Everything that the command does once its options are read."""
    trained = begin(arguments)
    if trained is None and not arguments.epochs:
        raise UserError(f"--epochs 0: {arguments.model} is not trained before, it needs at least 1")
    preprocessing = data.PHOTOGRAPHS
    if arguments.model not in (None, IMAGENET):
        preprocessing = replace(data.PHOTOGRAPHS, size=RECIPES[arguments.model].size)
    if trained is not None and trained.preprocessing is not None:
        preprocessing = trained.preprocessing
    sets = load_sets(arguments.folder, preprocessing, arguments.val_share, arguments.seed, arguments.lazy)
    classes = sets[0].classes
    if len(classes) < 2:
        raise UserError(f"there is one class alone, {classes[0]}: it takes two or more to tell apart")
    say(printable(f"{len(sets[0])} training and {len(sets[1])} validation images of {', '.join(classes)}"))
    model, new = new_model(arguments, trained, len(classes), preprocessing.image_shape)
    arguments.save.mkdir(parents=True, exist_ok=True)
    loss, history, worth_saving = nn.CrossEntropyLoss(), History(), False
    parts = split_head(model) if trained is not None and new else None
    interrupted = ""
    try:
        if parts is not None:
            train_head(*parts, sets, loss, arguments, preprocessing.normalize)
            worth_saving = True
        if arguments.epochs:
            train_all(model, sets, loss, arguments, preprocessing, trained is not None, history)
    except KeyboardInterrupt:
        if not (worth_saving or history.records):
            raise
        interrupted = "interrupted; what was learnt so far is saved"
    nc.Classifier(model, classes, preprocessing).save(arguments.save)
    command = f"python -m examples.classify --model {shlex.quote(str(arguments.save))} IMAGE"
    wrote = printable(f"wrote {arguments.save}: {command}")
    if interrupted:
        say(wrote)
        raise KeyboardInterrupt(interrupted)
    each = ClassAccuracy(classes)
    evaluate(model, data.DataLoader(sets[1], arguments.batch_size, transform=preprocessing.normalize), loss, [each])
    say(printable(f"validation images:\n{each}"))
    say(wrote)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parse_arguments(argv)
    return run_on(arguments.backend, partial(fine_tune, arguments), "interrupted: nothing is saved")


if __name__ == "__main__":
    sys.exit(main())
