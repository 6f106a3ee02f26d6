"""A model with what it takes to name what is in a picture: its classes, and how its images are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from . import ops
from .data import Preprocessing
from .files import user_path
from .hub import CONFIG, from_pretrained, read_config, save_pretrained
from .io import CheckpointError
from .nn import Layer
from .ops.arguments import integer

__all__ = ["Classifier", "load_classifier"]

Named: TypeAlias = list[tuple[str, float]]
"""Classes with their probabilities, the likeliest first."""


class Classifier:
    """A model, the names of its classes, and how images are brought to what it reads.

    The model is put into evaluation mode.

    Args:
        model: (n, channels, h, w) to logits (n, classes), before any softmax.
        classes: a name for each logit.
        preprocessing: of the images.

    Raises:
        TypeError, ValueError: arguments of another type, a model that gives other shapes.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     model = nc.models.lenet(num_classes=2)
        >>> classifier = Classifier(model, ["cat", "dog"], Preprocessing(28, channels=1))
        >>> classifier.predict(np.zeros((1, 40, 40), np.uint8), top=1)[0][0] in ("cat", "dog")
        True
    """

    def __init__(self, model: Layer, classes: Sequence[str], preprocessing: Preprocessing) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"`model` of type {type(model).__name__} must be a Layer")
        if not isinstance(preprocessing, Preprocessing):
            raise TypeError(f"`preprocessing` of type {type(preprocessing).__name__} must be a data.Preprocessing")
        if not isinstance(classes, (list, tuple)) or not all(isinstance(name, str) for name in classes):
            raise TypeError(f"`classes` {classes!r} must be a list of names")
        given = model.output_shape((1, *preprocessing.image_shape))
        if given != (1, len(classes)):
            raise ValueError(f"the model gives {given}, which must be a number for each of {len(classes)} `classes`")
        self.model = model.eval()
        self.classes = tuple(classes)
        self.preprocessing = preprocessing

    def probabilities(self, images: Any) -> np.ndarray[Any, Any]:
        """(n, classes) float32, the softmax of the logits.

        Args:
            images: the path of a file, or several; or pixels (c, h, w) or (n, c, h, w) of uint8, of any size.

        Raises:
            ImportError, FileNotFoundError, DataFileError: as ``data.read_image``.
            TypeError, ValueError: pixels of another dtype or shape, no images.
        """
        scores = self.model.predict(self.preprocessing(images))
        return np.asarray(ops.softmax(scores, 1, backend=self.model.backend))

    def predict(self, images: Any, top: int | None = 5) -> Named | list[Named]:
        """The likeliest classes with their probabilities, the likeliest first; of several images a list of such lists.

        Args:
            images: as in :meth:`probabilities`.
            top: how many classes, at least 1, of those that there are; None for all.
        """
        count = len(self.classes) if top is None else integer("top", top, 1)
        found = [
            [(self.classes[index], float(row[index])) for index in np.argsort(-row, kind="stable")[:count].tolist()]
            for row in self.probabilities(images)
        ]
        is_one = images.ndim == 3 if isinstance(images, np.ndarray) else isinstance(images, (str, os.PathLike))
        return found[0] if is_one else found

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all of it to a folder as `save_pretrained` does; :func:`load_classifier` reads it."""
        save_pretrained(folder, self.model, {"classes": list(self.classes), **self.preprocessing.config()})

    def __repr__(self) -> str:
        return f"Classifier({type(self.model).__name__}, {len(self.classes)} classes, {self.preprocessing})"


def load_classifier(folder: str | os.PathLike[str], model: Layer | None = None) -> Classifier:
    """The classifier in ``folder``, which :meth:`Classifier.save` or `save_pretrained` wrote.

    Its configuration must have "classes" and "image_size"; of "channels" (3), "interpolation" ("bilinear"), "crop_pct"
    (1), "mean" (0) and "std" (1) it has those that are not as here, which is how `data.image_folder` and a loader
    without a transform read images.

    Args:
        folder: with ``model.safetensors`` and ``config.json``.
        model: a layer that takes the weights, where the configuration names none of this package's.

    Raises:
        FileNotFoundError: there is no such folder, or it lacks a file.
        CheckpointError: a file is damaged, or the configuration lacks something, or says what cannot be.
        TypeError, ValueError: as :func:`from_pretrained`.

    Example:
        >>> import tempfile
        >>> import numbacnn as nc
        >>> with tempfile.TemporaryDirectory() as folder, nc.use_backend("reference"):
        ...     classifier = Classifier(nc.models.lenet(3, 2), ["cat", "dog"], Preprocessing(28, mean=0.5))
        ...     classifier.save(folder)
        ...     load_classifier(folder)
        Classifier(Sequential, 2 classes, Preprocessing(size=(28, 28), channels=3, interpolation='bilinear', \
crop_pct=1.0, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)))
    """
    found = from_pretrained(folder, model)
    path = user_path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"there is no {str(path)!r} to tell classes and preprocessing")
    config = read_config(path)
    try:
        return Classifier(found, config["classes"], Preprocessing.from_config(config))
    except KeyError as error:
        raise CheckpointError(f"{str(path)!r} lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} says what cannot be: {error}") from error
