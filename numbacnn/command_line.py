"""What the commands around a model share: options, images that fit the model, its first weights, and how they speak."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import data, nn
from numbacnn.backends import Backend
from numbacnn.data.datasets.shapes import TEST_SIZE, TRAIN_SIZE
from numbacnn.files import user_path

from .recipes import Recipe

__all__ = [
    "UserError",
    "above_zero",
    "add_shared_options",
    "check_same_classes",
    "choose_backend",
    "composed",
    "fitting",
    "integer",
    "interruptible",
    "load_data",
    "number",
    "one_line",
    "parse_shared_options",
    "path",
    "printable",
    "read_folder",
    "refuse",
    "run_command",
    "run_on",
    "say",
    "seeded_model",
]

SPLITS = ("train", "test")


class UserError(Exception):
    """Something that the user can put right, said in one line."""


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Where to compute, with which images and random numbers."""
    add = parser.add_argument
    add("--backend", choices=nc.backends.NAMES, help="where to compute (default: NUMBACNN_BACKEND, else cpu)")
    add("--dataset", choices=("auto", "fashion-mnist", "mnist", "cifar10", "folder", "shapes"), default="auto",
        help="auto takes fashion-mnist where it can be had and the built-in shapes otherwise; folder takes the images "
        "in DATA_DIR/train and DATA_DIR/test, which have a sub-folder for each class")  # fmt: skip
    add("--data-dir", type=path, help="folder with the data set's files (default: NUMBACNN_DATA, else a download)")
    add("--limit", type=integer(1),
        help="use only the first LIMIT training images and at most LIMIT test images; of a folder, which comes class "
        "by class, images from all over it")  # fmt: skip
    add("--seed", type=integer(0), default=0, help="of what is random: the initial weights and the order of the images")


def parse_shared_options(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    arguments = parser.parse_args(argv)
    if arguments.data_dir and arguments.dataset == "shapes":
        parser.error("argument --data-dir: the built-in shapes are drawn, not read from files")
    if arguments.dataset == "folder" and not arguments.data_dir:
        parser.error("argument --data-dir: --dataset folder needs it")
    return arguments


def integer(minimum: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, {minimum} or more")
        return int(text)

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = _finite(text)
        if not low <= value <= high:
            limits = f"in {low:g}..{high:g}" if high < math.inf else f"{low:g} or more"
            raise argparse.ArgumentTypeError(f"{text!r} must be a number, {limits}")
        return value

    return convert


def path(text: str) -> Path:
    """The file or folder that the user names, which may begin with ~."""
    try:
        return user_path(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {one_line(error)}") from error


def above_zero(text: str) -> float:
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
    missing = [split for split in SPLITS if not (data_dir / split).is_dir()]
    if missing:
        raise UserError(
            f"--data-dir {str(data_dir)!r} must have the folders {' and '.join(SPLITS)}, each with a folder of images "
            f"for each class, such as {SPLITS[0]}/cat/1.png: there is no {' and no '.join(missing)}"
        )
    sets = [read_folder("--data-dir", data_dir / split, image_size) for split in SPLITS]
    check_same_classes(data_dir, SPLITS, sets)
    return [spread(images, limit) if limit else images for images in sets]


def read_folder(option: str, folder: Path, image_size: int, **how: Any) -> data.ArrayDataset:
    """The images in the folder that an option names, as ``data.image_folder`` reads them."""
    try:
        return data.image_folder(folder, image_size, **how)
    except ImportError as error:
        raise UserError(str(error)) from error
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{option}: {error}") from error


def check_same_classes(folder: Path, splits: Sequence[str], sets: Sequence[data.ArrayDataset]) -> None:
    """Refuse two data sets, of the sub-folders called ``splits``, whose labels would not mean the same."""
    different = set(sets[0].classes) ^ set(sets[1].classes)
    if different:
        raise UserError(
            f"{' and '.join(splits)} in {str(folder)!r} must have the same classes; "
            f"only one of them has {', '.join(sorted(different))}"
        )


def spread(images: data.ArrayDataset, limit: int) -> data.ArrayDataset:
    """At most ``limit`` images, evenly from all over the data set."""
    count = min(limit, len(images))
    chosen = np.arange(count) * len(images) // count
    return data.ArrayDataset(images.images[chosen], images.labels[chosen], images.classes, images.name)


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


def fitting(recipe: Recipe, shape: tuple[int, int, int]) -> list[data.Transform]:
    """What makes images of ``shape`` fit the model."""
    if shape[1:] == (recipe.size, recipe.size):
        return []
    if not recipe.resize:
        raise UserError(
            f"the model reads images of {recipe.size}x{recipe.size} pixels, not {'x'.join(map(str, shape))}"
        )
    return [data.Resize(recipe.size)]


def composed(transforms: list[data.Transform]) -> data.Transform | None:
    """One transform; None for none, which spares the loader a copy."""
    return data.Compose(transforms) if transforms else None


@contextmanager
def interruptible() -> Iterator[None]:
    """KeyboardInterrupt for whatever error the block ends with once Ctrl-C was pressed.

    What is interrupted may turn it into an error of its own, as the import of a compiled module does.
    """
    pressed = False

    def press(number: int, frame: object) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)  # type: ignore[arg-type]

    # Only the main thread handles signals; who handles them otherwise, or ignores them, goes on doing so.
    takes = threading.current_thread() is threading.main_thread()
    takes = takes and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if takes:
        signal.signal(signal.SIGINT, press)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        if takes:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def run_on(backend: str | None, work: Callable[[Backend], int | None], interrupted: str = "interrupted") -> int:
    """Do ``work`` with a backend in use, the default one for None; the exit code, as of :func:`run_command`."""

    def on_backend() -> int | None:
        with choose_backend(backend) as chosen:
            return work(chosen)

    return run_command(on_backend, interrupted)


def run_command(work: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """Do ``work``, and say in one line what the user can put right; the exit code.

    That is the one that ``work`` returns, 0 for None; 130 after Ctrl-C, where ``interrupted`` is said, or what ``work``
    raises KeyboardInterrupt with.
    """
    try:
        with interruptible():
            return work() or 0
    except KeyboardInterrupt as error:
        print(str(error) or interrupted, file=sys.stderr)
        # Where Ctrl-C came amid the text that a data class or the like is made of, Python would remember it to the end
        # and exit by the signal. Another text makes it forget.
        exec("")
        return 130
    except (UserError, OSError, FloatingPointError) as error:
        return refuse(error)


def say(text: str) -> None:
    """Print at once, and do without when nobody reads any more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is left in the buffer would raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """The text with what the terminal's encoding has no sign for spelled out."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def one_line(error: BaseException) -> str:
    """The message of ``error`` without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def refuse(error: BaseException) -> int:
    """Say in one line why the command does not run; the exit code."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return 2
