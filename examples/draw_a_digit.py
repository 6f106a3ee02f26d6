"""Train LeNet to read digits that are drawn in the page of ``numbacnn explore``.

``python -m examples.draw_a_digit --help``. The digits are scikit-learn's, enlarged; no download is needed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import numbacnn as nc
from numbacnn import data, nn, ops, optim, training
from numbacnn.backends import Backend
from numbacnn.cli.backend import add_backend_option, run_on
from numbacnn.command_line import Parser, UserError, integer, path, say
from numbacnn.explore.strokes import centred

SIZE, LARGE = 28, 112
STROKE = 7
"""Of 0..16: what is brighter is of the stroke."""
TESTED = 400
"""Of the 1797 digits, those that nothing is learned from."""
RATE = 0.005


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m examples.draw_a_digit",
        "Train LeNet on scikit-learn's digits, enlarged as numbacnn explore brings drawings to the size of its model.",
    )
    add = parser.add_argument
    add("--epochs", type=integer(1), default=30, help="passes over the training images")
    add("--seed", type=integer(0), default=0, help="of what is random: weights, order, how images are moved")
    add("--save", type=path, default=Path("runs", "digits"), help="folder for the model")
    add_backend_option(parser)
    return parser.parse_args(argv)


def enlarged_digits() -> tuple[data.ArrayDataset, data.ArrayDataset]:
    """Images (n, 1, 28, 28) uint8 to learn from and to test on, with edges as sharp as those of drawings."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(f'the digits are scikit-learn\'s: pip install "numbacnn[sklearn]" ({error})') from error
    digits, labels = load_digits(return_X_y=True)
    smooth = ops.interpolate2d(digits.reshape(-1, 1, 8, 8), (LARGE, LARGE), mode="bilinear", backend="reference")
    drawings = np.where(np.asarray(smooth) > STROKE, 255, 0).astype(np.uint8)
    images = np.stack([centred(drawing, SIZE)[np.newaxis] for (drawing,) in drawings])
    classes = tuple(map(str, range(10)))
    parts = slice(None, -TESTED), slice(-TESTED, None)
    train, test = (data.ArrayDataset(images[part], labels[part].astype(np.int64), classes, "digits") for part in parts)
    return train, test


def learn(arguments: argparse.Namespace, _: Backend) -> None:
    """Train, test and save."""
    train, test = enlarged_digits()
    nc.manual_seed(arguments.seed)
    model = nc.models.lenet(num_classes=10, pooling="max", batch_norm=True)
    moved = data.RandomAffine(12, (0.08, 0.08), (0.8, 1.1), (-15, 15), "bilinear")
    loaders = data.DataLoader(train, 64, True, arguments.seed, transform=moved), data.DataLoader(test, 200)
    optimizer = optim.Adam(model.parameters(), RATE)
    schedule = optim.OneCycleLR(optimizer, RATE, arguments.epochs * len(loaders[0]))
    bar = training.ProgressBar()
    history = training.fit(
        model, *loaders, nn.CrossEntropyLoss(), optimizer, arguments.epochs, callbacks=[bar], schedule=schedule
    )
    nc.Classifier(model, test.classes, data.Preprocessing(SIZE, channels=1)).save(arguments.save)
    accuracy = history.records[-1].test_accuracy
    say(f"wrote {arguments.save}, test acc {accuracy:.3f}: numbacnn explore --model {arguments.save}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parse_arguments(argv)
    return run_on(arguments.backend, partial(learn, arguments))


if __name__ == "__main__":
    sys.exit(main())
