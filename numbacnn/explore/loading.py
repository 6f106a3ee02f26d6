"""The model that the options name, with its classes, how it reads images, and where its weights come from."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import backends, data, io, models, nn, optim, training
from ..backends import use_backend
from ..classifier import Classifier
from ..cli.classifiers import IMAGENET, pretrained
from ..cli.networks import NAMES, saved_model
from ..cli.recipes import RECIPES
from ..command_line import UserError, one_line, path, say
from ..hub import CONFIG
from ..onnx.messages import read_model
from ..onnx.reader import Import
from .practice import practice_set
from .session import Subject

__all__ = ["subject_of"]

CLASSES = 10
"""Of a model by its name, unless ``--classes`` or its weights say otherwise."""
SAMPLES = 10
EPOCHS, BATCH_SIZE, RATE = 4, 128, 0.005
"""Of the LeNet that is trained where no model is named: some seconds, 99 % of the built-in test images."""


def subject_of(arguments: argparse.Namespace) -> Subject:
    """The model that the options name, on the default backend, in evaluation mode.

    Raises:
        UserError: options that do not go together, a model that cannot be read or is no classifier of images.
    """
    _check(arguments)
    if arguments.pretrained:
        return _of_classifier(pretrained(), f"{IMAGENET}", "Trained on ImageNet.")
    if arguments.onnx:
        return _of_onnx(arguments)
    if arguments.model:
        return _of_name(arguments) if arguments.model in NAMES else _of_folder("--model", arguments.model, arguments)
    if arguments.run and (arguments.run / CONFIG).is_file():
        return _of_folder("--run", str(arguments.run), arguments)
    return _trained_now()


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that would be ignored."""
    if arguments.weights and arguments.model not in NAMES:
        raise UserError(f"--weights {arguments.weights}: --model must name one of {', '.join(NAMES)}, which takes them")
    if not (arguments.onnx or arguments.model) and (given := _told(arguments)):
        raise UserError(f"--{given[0]} is for --model and --onnx")


def _told(arguments: argparse.Namespace) -> list[str]:
    """Which of the options are given that tell what a model does not tell itself."""
    return [name for name in ("classes", "shape", "mean", "std") if getattr(arguments, name) is not None]


def _of_name(arguments: argparse.Namespace) -> Subject:
    name: str = arguments.model
    size = 224 if name == IMAGENET else RECIPES[name].size
    shape = arguments.shape or (1, 1 if size == 28 else 3, size, size)
    preprocessing = _preprocessing(arguments, shape)
    classes = _class_names(arguments.classes, None if arguments.classes else CLASSES)
    build: Callable[[int, int], nn.Layer] = models.efficientnet_lite0 if name == IMAGENET else RECIPES[name].build
    model = build(shape[1], len(classes))
    if arguments.weights is None:
        note = "Its weights are random: what it says of an image means nothing. --weights FILE gives it others."
        return _subject(f"--model {name}", name, note, model, classes, preprocessing, is_trained=False)
    try:
        io.load(arguments.weights, model)
    except (OSError, ValueError) as error:
        raise UserError(f"--weights {arguments.weights}: {one_line(error)}") from error
    return _subject(f"--model {name}", name, f"Weights of {arguments.weights}.", model, classes, preprocessing)


def _of_folder(option: str, text: str, arguments: argparse.Namespace) -> Subject:
    """A classifier that says all itself, or a model with what the options say of it."""
    found, title = saved_model(option, text), path(text).resolve().name
    if isinstance(found, Classifier):
        if given := _told(arguments):
            raise UserError(f"--{given[0]}: the model in {text} says itself what it is")
        return _of_classifier(found, title, f"Weights of {text}.")
    if arguments.shape is None:
        raise UserError(f"{option} {text}: the folder does not tell the size of images, which --shape must")
    classes = _class_names(arguments.classes, _count(f"{option} {text}", found, arguments.shape))
    preprocessing = _preprocessing(arguments, arguments.shape)
    return _subject(f"{option} {text}", title, f"Weights of {text}.", found, classes, preprocessing)


def _of_onnx(arguments: argparse.Namespace) -> Subject:
    file: Path = arguments.onnx
    option = f"--onnx {file}"
    try:
        content = read_model(file)
        loaded = Import(content, file, arguments.shape)
        model = loaded.graph()
    except (OSError, ValueError) as error:
        raise UserError(f"{option}: {one_line(error)}") from error
    if len(loaded.shapes) != 1:
        raise UserError(f"{option}: the model takes {len(loaded.shapes)} inputs, must take one image")
    shape = arguments.shape
    if shape is None:
        # Sizes that the file leaves open are tried with several; that one of them works does not make it the model's.
        assert content.graph is not None
        initializers = {tensor.name for tensor in content.graph.initializer}
        (info,) = (info for info in content.graph.input if info.name in loaded.inputs and info.name not in initializers)
        of_tensor = info.type.tensor_type if info.type else None
        dims = of_tensor.shape.dim if of_tensor and of_tensor.shape else []
        if not dims or not all(dim.dim_value > 0 for dim in dims[1:]):
            raise UserError(f"{option}: the file leaves the size of images open, which --shape must tell")
        shape = (1, *loaded.shapes[0][1:])
    preprocessing = _preprocessing(arguments, shape, option)
    classes = _class_names(arguments.classes, _count(option, model, shape))
    return _subject(option, file.name, f"Weights of {file}.", model, classes, preprocessing)


def _trained_now() -> Subject:
    """A LeNet for the shapes that the package draws itself."""
    say(f"no model is named: training LeNet on the built-in shapes, {EPOCHS} epochs; --model names another")
    train, test = practice_set(), data.shapes("test")
    chosen = backends.get().name
    # The definitions in plain NumPy would take an hour.
    with use_backend("cpu" if chosen == "reference" else chosen):
        nn.init.manual_seed(0)
        model = models.lenet()
        nn.init.xavier_uniform(model)
        history = training.fit(
            model,
            data.DataLoader(train, BATCH_SIZE, True, 0),
            data.DataLoader(test, BATCH_SIZE),
            nn.CrossEntropyLoss(),
            optim.Adam(model.parameters(), RATE),
            EPOCHS,
            callbacks=[training.ProgressBar()],
        )
    model.to(chosen)
    last = history.records[-1]
    right, seconds = last.test_accuracy, sum(record.seconds for record in history.records)
    note = (
        f"Trained when this page was started, in {seconds:.0f} s, on drawings of {len(train.classes)} shapes, "
        f"{right:.1%} of whose test images it names right. It knows nothing else."
    )
    return _of_classifier(Classifier(model, train.classes, data.Preprocessing(28, channels=1)), "LeNet", note)


def _of_classifier(classifier: Classifier, title: str, note: str) -> Subject:
    preprocessing, classes = classifier.preprocessing, classifier.classes
    return Subject(title, note, True, classifier.model, classes, preprocessing, _samples(classes, preprocessing))


def _subject(
    option: str,
    title: str,
    note: str,
    model: nn.Layer,
    classes: tuple[str, ...],
    preprocessing: data.Preprocessing,
    is_trained: bool = True,
) -> Subject:
    count = _count(option, model, (1, *preprocessing.image_shape))
    if count != len(classes):
        raise UserError(f"--classes: {len(classes)} names or numbers, and the model gives {count}")
    samples = _samples(classes, preprocessing)
    return Subject(title, note, is_trained, model.eval(), classes, preprocessing, samples)


def _count(option: str, model: nn.Layer, shape: tuple[int, ...]) -> int:
    """The number of classes of a model that is a classifier of images of ``shape``."""
    try:
        given: Any = model.output_shape(shape)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"{option}: the model cannot take images of {shape}: {one_line(error)}") from error
    if len(given) != 2 or not all(isinstance(size, int) for size in given):
        raise UserError(f"{option}: the model gives {given} for an image, must give a number for each class")
    return int(given[1])


def _preprocessing(
    arguments: argparse.Namespace, shape: tuple[int, ...], option: str = "--shape"
) -> data.Preprocessing:
    if len(shape) != 4:
        raise UserError(f"{option}: the input {shape} must be images, N,C,H,W")
    values = {name: getattr(arguments, name) for name in ("mean", "std") if getattr(arguments, name) is not None}
    try:
        channels = shape[1]
        each = {name: value[0] if len(value) == 1 else value for name, value in values.items()}
        return data.Preprocessing((shape[2], shape[3]), channels, **each)
    except (ValueError, TypeError) as error:
        raise UserError(f"images of {shape}: {one_line(error)}") from error


def _class_names(text: str | None, count: int | None) -> tuple[str, ...]:
    """What ``--classes`` says: how many, "imagenet", a file with a name on each line, or names with commas between."""
    if text is None:
        return tuple(f"class {i}" for i in range(count or 0))
    if text.isascii() and text.isdigit():
        if int(text) < 2:
            raise UserError(f"--classes {text}: there must be 2 or more")
        return tuple(f"class {i}" for i in range(int(text)))
    if text == "imagenet":
        return data.imagenet_classes()
    if "," not in text:
        try:
            lines = path(text).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError, argparse.ArgumentTypeError) as error:
            rule = "a number, imagenet, a file with a name on each line, or names with commas between"
            raise UserError(f"--classes {text}: it must be {rule}: {one_line(error)}") from error
        return tuple(line.strip() for line in lines if line.strip())
    return tuple(name.strip() for name in text.split(","))


def _samples(classes: tuple[str, ...], preprocessing: data.Preprocessing) -> data.ArrayDataset:
    """An image of each class of the model's data set, where that is on this machine, else drawings to look at."""
    channels, height, width = preprocessing.image_shape
    for read in (data.fashion_mnist, data.mnist, data.cifar10):
        if len(classes) != CLASSES or set(classes) == set(data.shapes("test", 1).classes):
            break
        try:
            images = read("test", download=False)
        except (data.DatasetUnavailable, FileNotFoundError, ValueError):
            continue
        if images.classes == classes and images.image_shape[0] == channels:
            first = [int(np.flatnonzero(images.labels == label)[0]) for label in range(CLASSES)]
            return data.ArrayDataset(np.asarray(images.images[first]), images.labels[first], classes, images.name)
    return data.shapes("test", SAMPLES, max(8, height, width), channels)
