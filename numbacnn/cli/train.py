"""Train a model on Fashion-MNIST, CIFAR-10, images of your own and others: ``numbacnn train --help``."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, distributed, io, nn, optim
from ..backends import Backend
from ..command_line import Parser, UserError, above_zero, integer, number, one_line, path, say
from ..io import load_checkpoint
from ..io.checkpoint import checkpoint_settings
from ..sharding import default_shards
from ..training import (
    Callback,
    CheckpointFile,
    EarlyStopping,
    History,
    HistoryFile,
    LiveCurves,
    MistakesFile,
    PlotCurves,
    ProgressBar,
    ProgressFile,
    TensorBoardFile,
    WeightAverage,
    fit,
)
from .backend import run_on
from .batch_sizes import leaves_one_out
from .classifiers import save_classifier
from .datasets import add_shared_options, composed, fitting, load_data, parse_shared_options, seeded_model
from .networks import shape_table
from .ranks import in_one_voice, on_first
from .recipes import RECIPES, Recipe

CHECKPOINT, WEIGHTS, HISTORY, CURVES = "checkpoint.safetensors", "model.safetensors", "history.jsonl", "curves.png"
MISTAKES, PROGRESS = "mistakes.safetensors", "progress.json"

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": optim.SGD,
    "momentum": partial(optim.SGD, momentum=0.9),
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "nadam": optim.NAdam,
    "lion": optim.Lion,
}
RATES = {"rmsprop": 1e-3, "adagrad": 1e-2, "adam": 1e-3, "adamw": 1e-3, "nadam": 2e-3, "lion": 3e-4}
"""What is usual, where no rate is given and the recipe's is for another optimizer."""
DECAYS = {"adamw": 0.01, "lion": 0.1}
"""Of those that do not add it to the gradient; what it takes in a step is in proportion to the rate as well."""


def milestones(epochs: int) -> list[int]:
    """A half and three quarters of the epochs, but at least one epoch for each rate before it is divided.

    >>> [milestones(epochs) for epochs in (1, 2, 3, 4, 10)]
    [[1, 2], [1, 2], [1, 2], [2, 3], [5, 7]]
    """
    half = max(epochs // 2, 1)
    return [half, max(epochs * 3 // 4, half + 1)]


SCHEDULES: dict[str, Callable[[optim.Optimizer, int, int], optim.Schedule | None]] = {
    "constant": lambda optimizer, epochs, steps: None,
    "step": lambda optimizer, epochs, steps: optim.MultiStepLR(optimizer, milestones(epochs)),
    "cosine": lambda optimizer, epochs, steps: optim.CosineAnnealingLR(optimizer, epochs),
    "one-cycle": lambda optimizer, epochs, steps: optim.OneCycleLR(optimizer, optimizer.lr, epochs * steps),
}
NESTED = ("none", "flip", "crop", "color")
"""Each does what those before it do, and more."""
MIXED: dict[str, Callable[[], data.BatchTransform]] = {"mixup": partial(data.MixUp, 0.2), "cutmix": data.CutMix}
AUGMENTATIONS = (*NESTED, "randaugment", "imagenet", *MIXED)
DEFAULTS = {
    "--optimizer": "sgd",
    "--schedule": "constant",
    "--augment": "none",
    "--label-smoothing": 0.0,
    "--weight-decay": 0.0,
    "--clip-norm": None,
    "--average": None,
    "--patience": None,
    "--accumulate": 1,
    "--micro-batch": None,
    "--shards": None,
    "--sync-batch-norm": False,
}
"""What checkpoints that do not tell were made with."""


def new_parser(program: str, model: str | None = None) -> Parser:
    """The options, of which the model is one unless it is given."""
    parser = Parser(
        program,
        "Train a model from Xavier-uniform weights, by default as its recipe says: as Dive into Deep "
        "Learning does, but for fast and the ResNets for CIFAR-10. With --model NAME this help shows the recipe.",
    )
    add = parser.add_argument
    if model is None:
        add("--model", choices=RECIPES, required=True, help="what to train; its recipe sets what is not given")
    recipe = RECIPES[model] if model else None
    add_shared_options(parser)
    add("--epochs", type=integer(1), default=10, help="passes over the training images")
    add("--batch-size", type=integer(1), default=recipe and recipe.batch_size, help="images per batch")
    add("--optimizer", choices=OPTIMIZERS, default="sgd", help="momentum is SGD with momentum 0.9")
    add("--lr", type=above_zero, default=argparse.SUPPRESS,
        help="learning rate (default: the recipe's for its optimizer, else a tenth of that of sgd for momentum, "
        + ", ".join(f"{rate:g} for {name}" for name, rate in RATES.items()) + ")")  # fmt: skip
    add("--schedule", choices=SCHEDULES, default="constant",
        help="of the learning rate; step divides it by 10 after a half and three quarters of the epochs")  # fmt: skip
    add("--weight-decay", type=number(0, math.inf), default=argparse.SUPPRESS,
        help="of weights but those of norms and biases; without a recipe's, "
        + ", ".join(f"{decay:g} for {name}" for name, decay in DECAYS.items()) + ", else 0")  # fmt: skip
    add("--accumulate", type=integer(1), default=1, metavar="BATCHES",
        help="how many batches are added up for a step of the optimizer")  # fmt: skip
    add("--micro-batch", type=integer(1), metavar="IMAGES",
        help="how many images of a batch are computed at a time, where the memory does not do for all")  # fmt: skip
    add("--shards", type=integer(1), metavar="PARTS",
        help="into how many parts each batch is cut, which the processes that mpiexec starts share, to the same bits "
        "for any number of them (default: that of the run to resume, else 8 for several processes)")  # fmt: skip
    add("--sync-batch-norm", action="store_true",
        help="let batch normalisation see the whole batch, not each part of --shards for itself")  # fmt: skip
    add("--clip-norm", type=above_zero, help="the most that the norm of a step's gradients may be")
    add("--label-smoothing", type=number(0, 1), default=0.0, help="share of the target that all classes have alike")
    add("--average", type=number(0, 1), metavar="DECAY",
        help="evaluate and save the moving average of the weights that keeps DECAY of itself each step")  # fmt: skip
    add("--patience", type=integer(1), help="stop after so many epochs in a row without a lower test loss")
    add("--augment", choices=AUGMENTATIONS, default="none",
        help="of training images: flip mirrors half of them, crop moves them by up to an eighth as well, color changes "
        "brightness, contrast, saturation and hue of red, green and blue images on top of that; randaugment does what "
        "crop does and two operations drawn at random, mixup and cutmix what crop does, and mix the images of a batch; "
        "imagenet cuts out windows of 8 to 100 %% of the image and mirrors half of them")  # fmt: skip
    add("--algorithm", choices=("auto", "loops", "im2col", "direct", "winograd", "implicit_gemm"), default="auto",
        help="of the convolutions, one that the backend has")  # fmt: skip
    add("--output-dir", type=path, default=model and Path("runs", model),
        help="folder for checkpoint, weights, history and plot")  # fmt: skip
    add("--tensorboard", type=path, metavar="DIR", help="folder for what TensorBoard shows: tensorboard --logdir DIR")
    add("--live", action="store_true", help="draw the curves by characters after every epoch")
    add("--no-capture", dest="capture", action="store_false", default=True,
        help="compute layer by layer, where else a whole step is launched in one go")  # fmt: skip
    add("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    return parser


def parse_arguments(argv: Sequence[str], model: str | None, program: str) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used.

    What is not given is the recipe's of the model, which is ``model`` or, for None, an option.
    """
    parser = new_parser(program, model)
    recipe = RECIPES[model] if model else None
    if model is None:
        # The recipe's options have to be known before the others are read.
        only_model = argparse.ArgumentParser(add_help=False)
        only_model.add_argument("--model", nargs="?")
        recipe = RECIPES.get(only_model.parse_known_args(argv)[0].model or "")
    if recipe is not None:
        parser.set_defaults(batch_size=recipe.batch_size, **recipe.options)
    arguments = parse_shared_options(parser, argv)
    arguments.model = model or arguments.model
    recipe = RECIPES[arguments.model]
    if "lr" not in arguments:
        arguments.lr = learning_rate(recipe, arguments.optimizer)
    if "weight_decay" not in arguments:
        arguments.weight_decay = DECAYS.get(arguments.optimizer, 0.0)
    arguments.output_dir = arguments.output_dir or Path("runs", arguments.model)
    return arguments


def learning_rate(recipe: Recipe, optimizer: str) -> float:
    """The recipe's for its own optimizer, a tenth of that of SGD for momentum, else what is usual."""
    if optimizer == recipe.optimizer:
        return recipe.lr
    sgd = recipe.lr if recipe.optimizer == "sgd" else 0.1
    return {"sgd": sgd, "momentum": sgd / 10, **RATES}[optimizer]


def resume(
    path: Path,
    settings: dict[str, Any],
    epochs: int,
    model: nn.Layer,
    optimizer: optim.Optimizer,
    schedule: optim.Schedule | None,
    steps: int,
    average: WeightAverage | None,
) -> History:
    """Load the checkpoint of epochs of so many ``steps`` and return its history, empty where there is none yet."""
    try:
        checkpoint = load_checkpoint(path, model, optimizer, average)
        history = History.from_json(checkpoint["history"])
    except FileNotFoundError:
        say(f"no checkpoint in {path.parent}: starting from the beginning")
        return History()
    except ValueError as error:
        raise UserError(str(error)) from error
    former_settings = checkpoint["settings"]
    if len(history) != checkpoint["epoch"]:
        raise UserError(f"cannot resume: {path} is of epoch {checkpoint['epoch']}, its history of {len(history)}")
    for name, value in settings.items():
        former = former_settings.get(name, DEFAULTS.get(name))
        if former != value:
            raise UserError(f"cannot resume: {path} was made with {name} {former}, this run has {value}")
    if epochs < len(history):
        raise UserError(f"cannot resume: {path} has {len(history)} epochs, more than --epochs {epochs}")
    if schedule is not None:
        state = former_settings.get("schedule")
        expected = {"count": len(history) * (steps if schedule.per == "batch" else 1), "base_lr": schedule.base_lr}
        if state != expected:
            raise UserError(f"cannot resume: {path} has the state {state} of the schedule, must have {expected}")
        schedule.load_state_dict(expected)
    say(f"resuming after epoch {len(history)} of {epochs}")
    return history


def synchronized(model: nn.Layer, arguments: argparse.Namespace) -> None:
    """Have batch normalisation see whole batches, if that is asked for."""
    if not arguments.sync_batch_norm:
        return
    if arguments.micro_batch is not None:
        raise UserError("--sync-batch-norm: --micro-batch computes a part of a batch before the others")
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if not any(isinstance(layer, nn.SyncBatchNorm) for layer in model.layers()):
        raise UserError(f"--sync-batch-norm: {arguments.model} has no batch normalisation")


def number_of_shards(arguments: argparse.Namespace, group: distributed.Group) -> int | None:
    """``--shards``, or what the checkpoint to go on with was made with, or what fits the number of processes."""
    shards: int | None = arguments.shards
    if shards is None and arguments.resume:
        try:
            shards = checkpoint_settings(arguments.output_dir / CHECKPOINT).get("--shards")
        except (FileNotFoundError, ValueError):
            shards = None  # which is told when it is loaded
    if shards is None:
        shards = default_shards(group.size)
    if shards is not None and shards < group.size:
        raise UserError(f"--shards {shards}: must be at least {group.size}, one for each process")
    return shards


def new_model(arguments: argparse.Namespace, images: data.ArrayDataset) -> tuple[nn.Sequential, optim.Optimizer]:
    """The model with the weights of the seed, and its optimizer."""
    model = seeded_model(RECIPES[arguments.model], arguments.seed, images)
    for layer in model.layers():
        if isinstance(layer, nn.Conv2d):
            layer.algorithm = arguments.algorithm
    decay = arguments.weight_decay
    no_decay = optim.norms_and_biases(model.parameters()) if decay else []
    new_optimizer = OPTIMIZERS[arguments.optimizer]
    return model, new_optimizer(model.parameters(), arguments.lr, weight_decay=decay, no_decay=no_decay)


def augmenting(augment: str, size: int, channels: int) -> list[data.Transform]:
    """What ``--augment`` does to training images of so many channels, once they have height and width ``size``."""
    if augment == "color" and channels != 3:
        raise UserError(f"--augment color changes images of 3 channels, not {channels}")
    if augment == "randaugment" and channels not in (1, 3):
        raise UserError(f"--augment randaugment changes images of 1 or 3 channels, not {channels}")
    flip = data.RandomHorizontalFlip()
    if augment == "imagenet":
        return [data.RandomResizedCrop(size), flip]
    every: list[data.Transform] = [
        flip,
        data.RandomCrop(size, padding=size // 8),
        data.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05),
    ]
    if augment in NESTED:
        return every[: NESTED.index(augment)]
    return [*every[:2], *([data.RandAugment()] if augment == "randaugment" else [])]


def mixing(augment: str) -> data.BatchTransform | None:
    """What ``--augment`` does to batches of training images after that."""
    return MIXED[augment]() if augment in MIXED else None


def event_files(folder: Path, loader: data.DataLoader) -> TensorBoardFile:
    """What TensorBoard shows, with the first batch as the model gets it."""
    loader.set_epoch(0)
    images, _ = next(iter(loader))
    try:
        return TensorBoardFile(folder, images=np.asarray(images))
    except ImportError as error:
        raise UserError(str(error)) from error


def remove_leftovers(folder: Path, is_new: bool) -> None:
    """Of a run that was killed while it wrote, and, if this one is new, of any before it."""
    for name in (CHECKPOINT, WEIGHTS, HISTORY, CURVES, MISTAKES, PROGRESS):
        for leftover in folder.glob(f".{name}.*.tmp"):
            leftover.unlink()
        if is_new:
            (folder / name).unlink(missing_ok=True)


def writers(
    arguments: argparse.Namespace, settings: dict[str, Any], loader: data.DataLoader, test_set: data.ArrayDataset
) -> list[Callback]:
    """What prints and writes files while the model of the options is trained."""
    output = arguments.output_dir
    callbacks: list[Callback] = [
        CheckpointFile(output / CHECKPOINT, settings),
        HistoryFile(output / HISTORY),
        MistakesFile(output / MISTAKES, test_set),
        ProgressFile(output / PROGRESS),
        ProgressBar(),
    ]
    if arguments.live:
        callbacks.append(LiveCurves(always=True))
    if arguments.tensorboard:
        callbacks.append(event_files(arguments.tensorboard, loader))
    try:
        callbacks.append(PlotCurves(output / CURVES))
    except ImportError as error:
        say(f"no {CURVES}: {one_line(error)}")
    return callbacks


def train(arguments: argparse.Namespace, with_classifier: bool, group: distributed.Group, backend: Backend) -> None:
    """Everything that the command does once its options are read; for ``with_classifier`` see :func:`main`."""
    algorithms = ("auto", *backend.conv2d_algorithms())
    if arguments.algorithm not in algorithms:
        raise UserError(f"--algorithm {arguments.algorithm}: {backend.name} has {', '.join(algorithms)}")
    recipe = RECIPES[arguments.model]
    dataset, (train_set, test_set) = group.share(
        lambda: load_data(arguments.dataset, arguments.data_dir, arguments.limit, recipe.size)
    )
    shape, classes = "x".join(map(str, train_set.image_shape)), train_set.num_classes
    say(f"{dataset}: {len(train_set)} training and {len(test_set)} test images of {shape} pixels in {classes} classes")

    fit_size = fitting(recipe, train_set.image_shape)
    augmented = [*fit_size, *augmenting(arguments.augment, recipe.size, train_set.image_shape[0])]
    model, optimizer = new_model(arguments, train_set)
    synchronized(model, arguments)
    input_shape = (1, train_set.image_shape[0], recipe.size, recipe.size)
    say(shape_table(model, input_shape))
    # In the host's memory a background thread prepares batches while the model trains; a device does it in no time.
    device = backend if backend.asynchronous else None
    shards = number_of_shards(arguments, group)
    seen_apart = None if arguments.sync_batch_norm else shards
    sizes = (len(train_set), arguments.batch_size, arguments.micro_batch, seen_apart)
    drop_last = leaves_one_out(model, input_shape, *sizes)
    if drop_last:
        say("each epoch leaves one image out: batch normalisation cannot do with a last batch of one")
    loaders = (
        data.DataLoader(
            *(train_set, arguments.batch_size, True, arguments.seed),
            drop_last=drop_last,
            backend=device,
            transform=composed(augmented),
            batch_transform=mixing(arguments.augment),
        ),
        data.DataLoader(test_set, arguments.batch_size, backend=device, transform=composed(fit_size)),
    )
    steps = -(-len(loaders[0]) // arguments.accumulate)
    schedule = SCHEDULES[arguments.schedule](optimizer, arguments.epochs, steps)
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
        "--accumulate": arguments.accumulate,
        "--micro-batch": arguments.micro_batch,
        "--shards": shards,
        "--sync-batch-norm": arguments.sync_batch_norm,
        "training images": len(train_set),
        "test images": len(test_set),
    }
    if schedule is not None:
        settings["--epochs"] = arguments.epochs  # over which the schedule is stretched
    output = arguments.output_dir
    on_first(group, lambda: output.mkdir(parents=True, exist_ok=True))
    history = History()
    if arguments.resume:
        path = output / CHECKPOINT
        history = resume(path, settings, arguments.epochs, model, optimizer, schedule, steps, average)
    group.barrier()  # what is removed now has been read by all
    on_first(group, lambda: remove_leftovers(output, is_new=not history.records))
    callbacks = on_first(group, lambda: writers(arguments, settings, loaders[0], test_set)) or []
    if arguments.patience:
        callbacks.append(EarlyStopping(arguments.patience))
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
            accumulate=arguments.accumulate,
            micro_batch=arguments.micro_batch,
            shards=shards,
            group=group,
            capture=arguments.capture,
            weight_average=average,
        )

    def save() -> None:
        with nullcontext() if average is None else average.applied():
            if with_classifier:
                save_classifier(output, model, arguments.model, train_set)
            else:
                io.save(output / WEIGHTS, model)

    on_first(group, save)
    last, seconds = history.records[-1], sum(record.seconds for record in history.records)
    where = backend.device_name() if group.size == 1 else f"{group.size} x {backend.device_name()}"
    say(f"{seconds:.1f} s with loading and evaluation: {history.wall_examples_per_second:.1f} examples/sec")
    say(
        f"loss {last.train_loss:.3f}, train acc {last.train_accuracy:.3f}, test acc {last.test_accuracy:.3f}\n"
        f"{history.examples_per_second:.1f} examples/sec on {where}"
    )


def main(
    argv: Sequence[str] | None = None,
    program: str = "numbacnn train",
    model: str | None = None,
    with_classifier: bool = True,
) -> int:
    """Run the command, alone or in each of the processes that mpiexec has started, and return its exit code.

    Args:
        argv: the options; None for those of the process.
        program: what the command is called.
        model: which one is trained, and then it is no option.
        with_classifier: whether the output folder also gets what `load_classifier` needs beside the weights.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    group = distributed.init()

    def command() -> int:
        arguments = parse_arguments(argv, model, program)
        text = f"{program} {shlex.join(argv)}".rstrip()
        interrupted = f"interrupted; to go on: {text}{'' if arguments.resume else ' --resume'}"
        return run_on(arguments.backend, partial(train, arguments, with_classifier, group), interrupted)

    return in_one_voice(group, command)
