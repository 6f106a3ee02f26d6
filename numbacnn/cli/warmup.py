"""Compile and keep the kernels that a model needs: ``numbacnn warmup --help``."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import data, nn, ops
from ..backends import Backend
from ..command_line import Parser, UserError, one_line, say
from ..training import ClassAccuracy, evaluate, fit
from .backend import run_on
from .networks import add_network_options, network_of
from .recipes import RECIPES
from .train import OPTIMIZERS

__all__ = ["main", "new_parser"]


def new_parser(program: str) -> Parser:
    """The options."""
    parser = Parser(
        program,
        "Compile the kernels that a model needs for inputs of a shape, and keep them, so that the first run starts at "
        "once. What is kept already is not compiled again.",
    )
    add_network_options(parser)
    add = parser.add_argument
    add("--train", action="store_true", help="those of training as well, of a model that classifies")
    add("--optimizer", choices=OPTIMIZERS, help="for --train (default: that of the model's recipe, else sgd)")
    return parser


def kernel_folder(backend: Backend) -> Path | None:
    """Where a backend keeps compiled kernels; None if it cannot keep any."""
    if backend.name == "cpu":
        from ..backends.cpu.runtime.machine_code import cache_folder
    else:
        from ..backends.cuda.runtime.kernel import cache_folder
    return cache_folder()


def compiles(backend: Backend) -> bool:
    """Whether kernels are compiled, which the reference has none of and which Numba may be told not to."""
    if backend.name == "reference":
        return False
    from numba.core import config

    return not (config.DISABLE_JIT if backend.name == "cpu" else config.ENABLE_CUDASIM)


def kernel_name(file: Path) -> str:
    """The kernel that a file holds, without the types of its arguments.

    >>> kernel_name(Path("numbacnn.backends.cpu.convolution.direct.rows-0123abcd.code"))
    'convolution.direct.rows'
    """
    return file.name.partition("-")[0].removeprefix("numbacnn.backends.").removeprefix("cpu.")


def infer(model: nn.Layer, shape: tuple[int, ...]) -> None:
    """What a pass does, layer by layer and in one launch; of a model that classifies, naming images and evaluation."""
    x = np.zeros(shape, np.float32)
    y = model.predict(x)
    if y.ndim == 2:
        ops.softmax(y, 1, backend=model.backend)
        evaluate(model, [(x, np.zeros(len(y), np.int64))], nn.CrossEntropyLoss(), [ClassAccuracy(y.shape[1])])
    session = nn.InferenceSession(model)
    for _ in range(2):
        session(x)
    model.backend.synchronize()


def learn(model: nn.Layer, shape: tuple[int, ...], optimizer: str) -> None:
    """What an epoch does, with as many images as the input has."""
    output = model.output_shape(shape)
    if len(output) != 2 or len(shape) != 4:
        raise UserError(f"--train: the model gives {output} for {shape}, which must be (n, classes) for (n, c, h, w)")
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    numbers = np.arange(shape[0]) % output[1]
    dataset = data.ArrayDataset(images, numbers, [str(number) for number in range(output[1])])
    device = model.backend if model.backend.asynchronous else None
    images_of_all, again = (data.DataLoader(dataset, shape[0], backend=device) for _ in range(2))
    made = OPTIMIZERS[optimizer](model.parameters(), 1e-6)
    with np.errstate(all="ignore"):
        fit(model.train(), images_of_all, again, nn.CrossEntropyLoss(), made, 2)


def warm_up(arguments: argparse.Namespace, backend: Backend) -> None:
    """Everything that the command does once its options are read."""
    model, shape = network_of(arguments)
    recipe = RECIPES.get(arguments.model)
    optimizer = arguments.optimizer or (recipe.optimizer if recipe else "sgd")
    if not compiles(backend):
        say(f"{backend.name}: here it compiles nothing")
        return
    folder = kernel_folder(backend)
    if folder is None:
        raise UserError("compiled kernels cannot be kept: set NUMBA_CACHE_DIR to a folder that only you can write to")
    before, start = set(folder.iterdir()), time.perf_counter()
    infer(model, shape)
    if arguments.train:
        try:
            learn(model, shape, optimizer)
        except (ValueError, FloatingPointError) as error:
            raise UserError(f"--train: {one_line(error)}") from error
    seconds = time.perf_counter() - start
    made = Counter(kernel_name(file) for file in set(folder.iterdir()) - before if not file.name.startswith("."))
    for name, count in sorted(made.items()):
        say(f"  {name}{f', for {count} kinds of arguments' if count > 1 else ''}")
    what = "inference and training" if arguments.train else "inference"
    say(
        f"{sum(made.values())} kernels compiled in {seconds:.1f} s for {what} of {arguments.model} on {shape}, "
        f"by {backend.device_name()}; kept in {folder}"
    )


def main(argv: Sequence[str] | None = None, program: str = "numbacnn warmup") -> int:
    """Run the command and return its exit code."""
    parser = new_parser(program)
    arguments = parser.parse_args(argv)
    if arguments.optimizer and not arguments.train:
        parser.error(f"argument --optimizer: {arguments.optimizer} is for --train, which is not given")
    return run_on(arguments.backend, lambda backend: warm_up(arguments, backend))
