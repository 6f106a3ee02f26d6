"""Train a model on Fashion-MNIST, MNIST or the built-in shapes: ``python -m examples.train --help``."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import data, nn, optim
from numbacnn.data.shapes import TEST_SIZE, TRAIN_SIZE
from numbacnn.io import load_checkpoint
from numbacnn.training import CheckpointFile, History, HistoryFile, PlotCurves, ProgressBar, fit

from .lenet_shapes import shape_table
from .recipes import RECIPES, Recipe

CHECKPOINT, WEIGHTS, HISTORY, CURVES = "checkpoint.safetensors", "model.safetensors", "history.jsonl", "curves.png"


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
DEFAULTS = {"--optimizer": "sgd", "--schedule": "constant", "--augment": "none"}
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
    add_shared_options(parser)
    add("--epochs", type=_integer(1), default=10, help="passes over the training images")
    add("--batch-size", type=_integer(1), default=recipe and recipe.batch_size, help="images per step")
    add("--optimizer", choices=OPTIMIZERS, default="sgd", help="momentum is SGD with momentum 0.9")
    add("--lr", type=_positive, default=argparse.SUPPRESS,
        help="learning rate (default: the recipe's for sgd, a tenth of it for momentum, else 0.001)")  # fmt: skip
    add("--schedule", choices=SCHEDULES, default="constant",
        help="of the learning rate; step divides it by 10 after a half and three quarters of the epochs")  # fmt: skip
    add("--augment", choices=("none", "flip", "crop"), default="none",
        help="of training images: flip mirrors half of them, crop moves them by up to an eighth as well")  # fmt: skip
    add("--algorithm", choices=("auto", "loops", "im2col", "implicit_gemm"), default="auto",
        help="of the convolutions, one that the backend has")  # fmt: skip
    add("--output-dir", type=Path, default=model and Path("runs", model),
        help="folder for checkpoint, weights, history and plot")  # fmt: skip
    add("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    arguments = parse_shared_options(parser, argv)
    arguments.model = model or arguments.model
    recipe = RECIPES[arguments.model]
    arguments.batch_size = arguments.batch_size or recipe.batch_size
    if "lr" not in arguments:
        arguments.lr = {"sgd": recipe.lr, "momentum": recipe.lr / 10}.get(arguments.optimizer, 1e-3)
    arguments.output_dir = arguments.output_dir or Path("runs", arguments.model)
    return arguments


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Where to compute, with which images and random numbers."""
    add = parser.add_argument
    add("--backend", choices=nc.backends.NAMES, help="where to compute (default: NUMBACNN_BACKEND, else cpu)")
    add("--dataset", choices=("auto", "fashion-mnist", "mnist", "shapes"), default="auto",
        help="auto takes fashion-mnist where it can be had and the built-in shapes otherwise")  # fmt: skip
    add("--data-dir", type=Path, help="folder with the data set's files (default: NUMBACNN_DATA, else a download)")
    add("--limit", type=_integer(1), help="use only the first LIMIT training images and at most LIMIT test images")
    add("--seed", type=_integer(0), default=0, help="of what is random, such as the initial weights")


def parse_shared_options(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    arguments = parser.parse_args(argv)
    if arguments.data_dir and arguments.dataset == "shapes":
        parser.error("argument --data-dir: the built-in shapes are drawn, not read from files")
    return arguments


def _integer(minimum: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, {minimum} or more")
        return int(text)

    return convert


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def load_data(dataset: str, data_dir: Path | None, limit: int | None) -> tuple[str, list[data.ArrayDataset]]:
    """The name of the data set in use, and its training and test images."""
    splits = ("train", "test")
    if dataset != "shapes":
        read = data.mnist if dataset == "mnist" else data.fashion_mnist
        try:
            sets = [read(split, data_dir=data_dir) for split in splits]
        except (data.DatasetUnavailable, FileNotFoundError, ValueError) as error:
            if dataset != "auto" or data_dir or isinstance(error, ValueError):
                raise UserError(str(error)) from error
            say(f"Fashion-MNIST cannot be had, using the built-in shapes: {one_line(error)}")
        else:
            name = "fashion-mnist" if dataset == "auto" else dataset
            return name, [images.subset(limit) if limit else images for images in sets]
    sizes = (TRAIN_SIZE, TEST_SIZE)
    return "shapes", [
        data.shapes(split, size=min(size, limit or size)) for split, size in zip(splits, sizes, strict=True)
    ]


def resume(
    path: Path,
    settings: dict[str, Any],
    epochs: int,
    model: nn.Layer,
    optimizer: optim.Optimizer,
    schedule: optim.Schedule | None,
) -> History:
    """Load the checkpoint and return its history, which is empty where there is no checkpoint yet."""
    try:
        checkpoint = load_checkpoint(path, model, optimizer)
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


def seeded_model(recipe: Recipe, seed: int, images: data.ArrayDataset) -> nn.Sequential:
    """The model with the weights that training starts from."""
    nc.manual_seed(seed)
    model = recipe.build(images.image_shape[0], images.num_classes)
    nn.init.xavier_uniform(model)
    return model


def new_model(arguments: argparse.Namespace, images: data.ArrayDataset) -> tuple[nn.Sequential, optim.Optimizer]:
    """The model with the weights of the seed, and its optimizer."""
    model = seeded_model(RECIPES[arguments.model], arguments.seed, images)
    for layer in model.layers():
        if isinstance(layer, nn.Conv2d):
            layer.algorithm = arguments.algorithm
    return model, OPTIMIZERS[arguments.optimizer](model.parameters(), arguments.lr)


def fitting(recipe: Recipe, shape: tuple[int, int, int]) -> list[data.Transform]:
    """What makes images of ``shape`` fit the model."""
    if shape[1:] == (recipe.size, recipe.size):
        return []
    if not recipe.resize:
        raise UserError(f"LeNet reads images of {recipe.size}x{recipe.size} pixels, not {'x'.join(map(str, shape))}")
    return [data.Resize(recipe.size)]


def augmenting(augment: str, size: int) -> list[data.Transform]:
    """What ``--augment`` does to training images of ``size``."""
    flip: list[data.Transform] = [data.RandomHorizontalFlip()]
    crop: list[data.Transform] = [data.RandomCrop(size, padding=size // 8)]
    return {"none": [], "flip": flip, "crop": [*flip, *crop]}[augment]


def composed(transforms: list[data.Transform]) -> data.Transform | None:
    """One transform; None for none, which spares the loader a copy."""
    return data.Compose(transforms) if transforms else None


def train(arguments: argparse.Namespace, backend: nc.backends.Backend) -> None:
    """Everything that the command does once its options are read."""
    algorithms = ("auto", *backend.conv2d_algorithms())
    if arguments.algorithm not in algorithms:
        raise UserError(f"--algorithm {arguments.algorithm}: {backend.name} has {', '.join(algorithms)}")
    dataset, (train_set, test_set) = load_data(arguments.dataset, arguments.data_dir, arguments.limit)
    shape, classes = "x".join(map(str, train_set.image_shape)), train_set.num_classes
    say(f"{dataset}: {len(train_set)} training and {len(test_set)} test images of {shape} pixels in {classes} classes")

    recipe = RECIPES[arguments.model]
    fit_size = fitting(recipe, train_set.image_shape)
    augmented = [*fit_size, *augmenting(arguments.augment, recipe.size)]
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
        "training images": len(train_set),
        "test images": len(test_set),
    }
    if schedule is not None:
        settings["--epochs"] = arguments.epochs  # over which the schedule is stretched
    output = arguments.output_dir
    output.mkdir(parents=True, exist_ok=True)
    history = History()
    if arguments.resume:
        history = resume(output / CHECKPOINT, settings, arguments.epochs, model, optimizer, schedule)
    for name in (CHECKPOINT, WEIGHTS, HISTORY, CURVES):
        for leftover in output.glob(f".{name}.*.tmp"):  # of a run that was killed while it wrote
            leftover.unlink()
        if not history.records:
            (output / name).unlink(missing_ok=True)

    callbacks = [CheckpointFile(output / CHECKPOINT, settings), HistoryFile(output / HISTORY), ProgressBar()]
    try:
        callbacks.append(PlotCurves(output / CURVES))
    except ImportError as error:
        say(f"no {CURVES}: {one_line(error)}")
    with np.errstate(all="ignore"):  # fit stops with an error of its own when the loss is no number
        fit(
            model,
            *loaders,
            nn.CrossEntropyLoss(),
            optimizer,
            arguments.epochs,
            start_epoch=len(history),
            callbacks=callbacks,
            history=history,
            schedule=schedule,
        )
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


def refuse(error: BaseException) -> int:
    """Say in one line why the command does not run; the exit code."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return 2


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
        return refuse(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
