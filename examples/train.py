"""Train a model on Fashion-MNIST, CIFAR-10, images of your own and others: ``python -m examples.train --help``."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import data, nn, optim
from numbacnn.data.shapes import TEST_SIZE, TRAIN_SIZE
from numbacnn.io import load_checkpoint
from numbacnn.training import (
    Callback,
    CheckpointFile,
    EarlyStopping,
    History,
    HistoryFile,
    PlotCurves,
    ProgressBar,
    WeightAverage,
    fit,
)

from .lenet_shapes import shape_table
from .recipes import RECIPES, Recipe

CHECKPOINT, WEIGHTS, HISTORY, CURVES = "checkpoint.safetensors", "model.safetensors", "history.jsonl", "curves.png"
SPLITS = ("train", "test")

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": optim.SGD,
    "momentum": partial(optim.SGD, momentum=0.9),
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}
SCHEDULES: dict[str, Callable[[optim.Optimizer, int, int], optim.Schedule | None]] = {
    "constant": lambda optimizer, epochs, batches: None,
    "step": lambda optimizer, epochs, batches: optim.MultiStepLR(optimizer, [epochs // 2, epochs * 3 // 4]),
    "cosine": lambda optimizer, epochs, batches: optim.CosineAnnealingLR(optimizer, epochs),
    "one-cycle": lambda optimizer, epochs, batches: optim.OneCycleLR(optimizer, optimizer.lr, epochs * batches),
}
AUGMENTATIONS = ("none", "flip", "crop", "color")
"""Each does what those before it do, and more."""
DEFAULTS = {
    "--optimizer": "sgd",
    "--schedule": "constant",
    "--augment": "none",
    "--label-smoothing": 0.0,
    "--weight-decay": 0.0,
    "--clip-norm": None,
    "--average": None,
    "--patience": None,
}
"""What checkpoints that do not tell were made with."""


class UserError(Exception):
    """Something that the user can put right, said in one line."""


def parse_arguments(argv: Sequence[str], model: str | None, program: str) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used.

    What is not given is the recipe's of the model, which is ``model`` or, for None, an option.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Train a model from Xavier-uniform weights, by default as Dive into Deep Learning does.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    if model is None:
        add("--model", choices=RECIPES, required=True, help="what to train; its recipe sets what is not given")
    recipe = RECIPES[model] if model else None
    add("--backend", choices=nc.backends.NAMES, help="where to compute (default: NUMBACNN_BACKEND, else cpu)")
    add("--dataset", choices=("auto", "fashion-mnist", "mnist", "cifar10", "folder", "shapes"), default="auto",
        help="auto takes fashion-mnist where it can be had and the built-in shapes otherwise; folder takes the images "
        "in DATA_DIR/train and DATA_DIR/test, which have a sub-folder for each class")  # fmt: skip
    add("--data-dir", type=Path, help="folder with the data set's files (default: NUMBACNN_DATA, else a download)")
    add("--epochs", type=_integer(1), default=10, help="passes over the training images")
    add("--batch-size", type=_integer(1), default=recipe and recipe.batch_size, help="images per step")
    add("--optimizer", choices=OPTIMIZERS, default="sgd", help="momentum is SGD with momentum 0.9")
    add("--lr", type=_above_zero, default=argparse.SUPPRESS,
        help="learning rate (default: the recipe's for sgd, a tenth of it for momentum, else 0.001)")  # fmt: skip
    add("--schedule", choices=SCHEDULES, default="constant",
        help="of the learning rate; step divides it by 10 after a half and three quarters of the epochs")  # fmt: skip
    add("--weight-decay", type=_number(0, math.inf), default=argparse.SUPPRESS,
        help="of all weights but those of norms, and not of biases (default: 0.01 for adamw, else 0)")  # fmt: skip
    add("--clip-norm", type=_above_zero, help="the most that the norm of a batch's gradients may be")
    add("--label-smoothing", type=_number(0, 1), default=0.0, help="share of the target that all classes have alike")
    add("--average", type=_number(0, 1), metavar="DECAY",
        help="evaluate and save the moving average of the weights that keeps DECAY of itself each step")  # fmt: skip
    add("--patience", type=_integer(1), help="stop after so many epochs in a row without a lower test loss")
    add("--augment", choices=AUGMENTATIONS, default="none",
        help="of training images: flip mirrors half of them, crop moves them by up to an eighth as well, color changes "
        "brightness, contrast, saturation and hue of red, green and blue images on top of that")  # fmt: skip
    add("--seed", type=_integer(0), default=0, help="of the initial weights and the order of the images")
    add("--algorithm", choices=("auto", "loops", "im2col", "implicit_gemm"), default="auto",
        help="of the convolutions, one that the backend has")  # fmt: skip
    add("--limit", type=_integer(1),
        help="use only the first LIMIT training images and at most LIMIT test images; of a folder, which comes class "
        "by class, images from all over it")  # fmt: skip
    add("--output-dir", type=Path, default=model and Path("runs", model),
        help="folder for checkpoint, weights, history and plot")  # fmt: skip
    add("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    arguments = parser.parse_args(argv)
    if arguments.data_dir and arguments.dataset == "shapes":
        parser.error("argument --data-dir: the built-in shapes are drawn, not read from files")
    if arguments.dataset == "folder" and not arguments.data_dir:
        parser.error("argument --data-dir: --dataset folder needs it")
    arguments.model = model or arguments.model
    recipe = RECIPES[arguments.model]
    arguments.batch_size = arguments.batch_size or recipe.batch_size
    if "lr" not in arguments:
        arguments.lr = {"sgd": recipe.lr, "momentum": recipe.lr / 10}.get(arguments.optimizer, 1e-3)
    if "weight_decay" not in arguments:
        arguments.weight_decay = 0.01 if arguments.optimizer == "adamw" else 0.0
    arguments.output_dir = arguments.output_dir or Path("runs", arguments.model)
    return arguments


def _integer(minimum: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, {minimum} or more")
        return int(text)

    return convert


def _number(low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = _finite(text)
        if not low <= value <= high:
            limits = f"in {low:g}..{high:g}" if high < math.inf else f"{low:g} or more"
            raise argparse.ArgumentTypeError(f"{text!r} must be a number, {limits}")
        return value

    return convert


def _above_zero(text: str) -> float:
    value = _finite(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def _finite(text: str) -> float:
    """NaN for what is no finite number, which no limit lets pass."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return value if math.isfinite(value) else math.nan


def load_data(
    dataset: str, data_dir: Path | None, limit: int | None, image_size: int
) -> tuple[str, list[data.ArrayDataset]]:
    """The name of the data set in use, and its training and test images.

    Those of a folder, which then ``data_dir`` must be, are brought to height and width ``image_size``.
    """
    if dataset == "folder":
        return dataset, load_folder(data_dir, limit, image_size)
    if dataset != "shapes":
        read = {"mnist": data.mnist, "cifar10": data.cifar10}.get(dataset, data.fashion_mnist)
        try:
            sets = [read(split, data_dir=data_dir) for split in SPLITS]
        except (data.DatasetUnavailable, FileNotFoundError, ValueError) as error:
            if dataset != "auto" or data_dir or isinstance(error, ValueError):
                raise UserError(str(error)) from error
            say(f"Fashion-MNIST cannot be had, using the built-in shapes: {one_line(error)}")
        else:
            name = "fashion-mnist" if dataset == "auto" else dataset
            return name, [images.subset(limit) if limit else images for images in sets]
    sizes = (TRAIN_SIZE, TEST_SIZE)
    return "shapes", [
        data.shapes(split, size=min(size, limit or size)) for split, size in zip(SPLITS, sizes, strict=True)
    ]


def load_folder(data_dir: Path, limit: int | None, image_size: int) -> list[data.ArrayDataset]:
    """The images in the sub-folders of the splits, brought to height and width ``image_size``."""
    try:
        sets = [data.image_folder(data_dir / split, image_size) for split in SPLITS]
    except (ImportError, ValueError) as error:
        raise UserError(str(error)) from error
    different = set(sets[0].classes) ^ set(sets[1].classes)
    if different:
        raise UserError(
            f"{' and '.join(SPLITS)} in {str(data_dir)!r} must have the same classes; "
            f"only one of them has {', '.join(sorted(different))}"
        )
    return [spread(images, limit) if limit else images for images in sets]


def spread(images: data.ArrayDataset, limit: int) -> data.ArrayDataset:
    """At most ``limit`` images, evenly from all over the data set."""
    count = min(limit, len(images))
    chosen = np.arange(count) * len(images) // count
    return data.ArrayDataset(images.images[chosen], images.labels[chosen], images.classes, images.name)


def resume(
    path: Path,
    settings: dict[str, Any],
    epochs: int,
    model: nn.Layer,
    optimizer: optim.Optimizer,
    schedule: optim.Schedule | None,
    average: WeightAverage | None,
) -> History:
    """Load the checkpoint and return its history, which is empty where there is no checkpoint yet."""
    try:
        checkpoint = load_checkpoint(path, model, optimizer, average)
        history = History.from_json(checkpoint["history"])
    except FileNotFoundError:
        say(f"no checkpoint in {path.parent}: starting from the beginning")
        return History()
    except ValueError as error:
        raise UserError(str(error)) from error
    for name, value in settings.items():
        former = checkpoint["settings"].get(name, DEFAULTS.get(name))
        if former != value:
            raise UserError(f"cannot resume: {path} was made with {name} {former}, this run has {value}")
    if epochs < len(history):
        raise UserError(f"cannot resume: {path} has {len(history)} epochs, more than --epochs {epochs}")
    if schedule is not None:
        schedule.load_state_dict(checkpoint["settings"]["schedule"])
    say(f"resuming after epoch {len(history)} of {epochs}")
    return history


def choose_backend(name: str | None) -> nc.use_backend:
    """A context in which ``name``, or the default backend, is in use."""
    try:
        return nc.use_backend(nc.backends.get(name).name)
    except (RuntimeError, ValueError) as error:
        raise UserError(str(error)) from error


def new_model(arguments: argparse.Namespace, images: data.ArrayDataset) -> tuple[nn.Sequential, optim.Optimizer]:
    """The model with the weights of the seed, and its optimizer."""
    nc.manual_seed(arguments.seed)
    model = RECIPES[arguments.model].build(images.image_shape[0], images.num_classes)
    nn.init.xavier_uniform(model)
    for layer in model.layers():
        if isinstance(layer, nn.Conv2d):
            layer.algorithm = arguments.algorithm
    decay = arguments.weight_decay
    no_decay = optim.norms_and_biases(model.parameters()) if decay else []
    new_optimizer = OPTIMIZERS[arguments.optimizer]
    return model, new_optimizer(model.parameters(), arguments.lr, weight_decay=decay, no_decay=no_decay)


def fitting(recipe: Recipe, shape: tuple[int, int, int]) -> list[data.Transform]:
    """What makes images of ``shape`` fit the model."""
    if shape[1:] == (recipe.size, recipe.size):
        return []
    if not recipe.resize:
        raise UserError(f"LeNet reads images of {recipe.size}x{recipe.size} pixels, not {'x'.join(map(str, shape))}")
    return [data.Resize(recipe.size)]


def augmenting(augment: str, size: int, channels: int) -> list[data.Transform]:
    """What ``--augment`` does to training images of so many channels, once they have height and width ``size``."""
    if augment == "color" and channels != 3:
        raise UserError(f"--augment color changes images of 3 channels, not {channels}")
    every: list[data.Transform] = [
        data.RandomHorizontalFlip(),
        data.RandomCrop(size, padding=size // 8),
        data.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05),
    ]
    return every[: AUGMENTATIONS.index(augment)]


def composed(transforms: list[data.Transform]) -> data.Transform | None:
    """One transform; None for none, which spares the loader a copy."""
    return data.Compose(transforms) if transforms else None


def train(arguments: argparse.Namespace, backend: nc.backends.Backend) -> None:
    """Everything that the command does once its options are read."""
    algorithms = ("auto", *backend.conv2d_algorithms())
    if arguments.algorithm not in algorithms:
        raise UserError(f"--algorithm {arguments.algorithm}: {backend.name} has {', '.join(algorithms)}")
    recipe = RECIPES[arguments.model]
    dataset, (train_set, test_set) = load_data(arguments.dataset, arguments.data_dir, arguments.limit, recipe.size)
    shape, classes = "x".join(map(str, train_set.image_shape)), train_set.num_classes
    say(f"{dataset}: {len(train_set)} training and {len(test_set)} test images of {shape} pixels in {classes} classes")

    fit_size = fitting(recipe, train_set.image_shape)
    augmented = [*fit_size, *augmenting(arguments.augment, recipe.size, train_set.image_shape[0])]
    model, optimizer = new_model(arguments, train_set)
    say(shape_table(model, (1, train_set.image_shape[0], recipe.size, recipe.size)))
    # In the host's memory a background thread prepares batches while the model trains; a device does it in no time.
    device = backend if backend.asynchronous else None
    loaders = (
        data.DataLoader(
            train_set, arguments.batch_size, True, arguments.seed, backend=device, transform=composed(augmented)
        ),
        data.DataLoader(test_set, arguments.batch_size, backend=device, transform=composed(fit_size)),
    )
    schedule = SCHEDULES[arguments.schedule](optimizer, arguments.epochs, len(loaders[0]))
    average = None if arguments.average is None else WeightAverage(model, arguments.average)
    settings = {
        "--backend": backend.name,
        "--dataset": dataset,
        "--limit": arguments.limit,
        "--batch-size": arguments.batch_size,
        "--lr": arguments.lr,
        "--seed": arguments.seed,
        "--algorithm": arguments.algorithm,
        "--optimizer": arguments.optimizer,
        "--schedule": arguments.schedule,
        "--augment": arguments.augment,
        "--label-smoothing": arguments.label_smoothing,
        "--weight-decay": arguments.weight_decay,
        "--clip-norm": arguments.clip_norm,
        "--average": arguments.average,
        "--patience": arguments.patience,
        "training images": len(train_set),
        "test images": len(test_set),
    }
    if schedule is not None:
        settings["--epochs"] = arguments.epochs  # over which the schedule is stretched
    output = arguments.output_dir
    output.mkdir(parents=True, exist_ok=True)
    history = History()
    if arguments.resume:
        history = resume(output / CHECKPOINT, settings, arguments.epochs, model, optimizer, schedule, average)
    for name in (CHECKPOINT, WEIGHTS, HISTORY, CURVES):
        for leftover in output.glob(f".{name}.*.tmp"):  # of a run that was killed while it wrote
            leftover.unlink()
        if not history.records:
            (output / name).unlink(missing_ok=True)

    callbacks: list[Callback] = [
        CheckpointFile(output / CHECKPOINT, settings),
        HistoryFile(output / HISTORY),
        ProgressBar(),
    ]
    if arguments.patience:
        callbacks.append(EarlyStopping(arguments.patience))
    try:
        callbacks.append(PlotCurves(output / CURVES))
    except ImportError as error:
        say(f"no {CURVES}: {one_line(error)}")
    with np.errstate(all="ignore"):  # fit stops with an error of its own when the loss is no number
        fit(
            model,
            *loaders,
            nn.CrossEntropyLoss(label_smoothing=arguments.label_smoothing),
            optimizer,
            arguments.epochs,
            start_epoch=len(history),
            callbacks=callbacks,
            history=history,
            schedule=schedule,
            clip_norm=arguments.clip_norm,
            weight_average=average,
        )
    with nullcontext() if average is None else average.applied():
        nc.save(output / WEIGHTS, model)

    last, seconds = history.records[-1], sum(record.seconds for record in history.records)
    say(f"{seconds:.1f} s with loading and evaluation: {history.wall_examples_per_second:.1f} examples/sec")
    say(
        f"loss {last.train_loss:.3f}, train acc {last.train_accuracy:.3f}, test acc {last.test_accuracy:.3f}\n"
        f"{history.examples_per_second:.1f} examples/sec on {backend.device_name()}"
    )


def say(text: str) -> None:
    """Print at once, and do without when nobody reads any more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is left in the buffer would raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: BaseException) -> str:
    """The message of ``error`` without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def main(argv: Sequence[str] | None = None, model: str | None = None, program: str = "python -m examples.train") -> int:
    """Run the command and return its exit code; with ``model``, which is then no option, as ``program``."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = parse_arguments(argv, model, program)
    try:
        with choose_backend(arguments.backend) as backend:
            train(arguments, backend)
    except KeyboardInterrupt:
        command = f"{program} {shlex.join(argv)}".rstrip()
        print(f"interrupted; to go on: {command}{'' if arguments.resume else ' --resume'}", file=sys.stderr)
        return 130
    except (UserError, OSError, FloatingPointError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
