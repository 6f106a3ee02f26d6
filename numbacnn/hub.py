"""A model as a folder, with what model hubs expect in it: weights, a configuration, a model card."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from . import __version__, models
from .files import replacing, user_path
from .io.arrays import CheckpointError, read_contents
from .io.json_text import parse_json
from .io.weights import check_path_and_model, load, save
from .models.architecture import Architecture, architecture_of
from .nn import Layer

__all__ = ["CONFIG", "from_pretrained", "read_config", "save_pretrained"]

_L = TypeVar("_L", bound=Layer)

CONFIG, _CARD = "config.json", "README.md"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TASKS = {"unet": "image-segmentation", "dcgan_generator": "unconditional-image-generation"}
"""What hubs call that which architectures other than classifiers do."""
_OWN = ("library_name", "numbacnn_version", "architecture", "model_args")
_LONGEST_CONFIG = 1 << 24
_LARGE = 1024
"""An argument above it is the size of some weight, or a few bytes of text could ask for all memory there is."""
_WIDE = 256
"""So is the width of a ResNet's blocks above this one, a product of two arguments."""


def save_pretrained(folder: str | os.PathLike[str], model: Layer, config: Mapping[str, Any] | None = None) -> None:
    """Write ``model`` to ``folder`` as model hubs expect it: ``model.safetensors``, ``config.json`` and ``README.md``.

    The configuration of a model of `numbacnn.models` names the function and its arguments, so that
    :func:`from_pretrained` makes it from the folder alone; not if its layers have been changed since. The README is
    a model card to be completed; one that is there already stays.

    Args:
        folder: made if it does not exist; files of these names in it are replaced, each at once and as a whole.
        model: any layer.
        config: what else is to be in the configuration, anything that JSON knows. What `Classifier` writes, and
            :func:`load_classifier` reads, are "classes", "image_size", "channels", "interpolation", "crop_pct", "mean"
            and "std".

    Raises:
        TypeError: ``folder`` and ``model`` in the other order, or ``config`` that is no dict of what JSON knows.
        ValueError: ``config`` with one of the names ``library_name``, ``numbacnn_version``, ``architecture`` and
            ``model_args``, which are written anyway.
        OSError: a file cannot be written.

    Example:
        >>> import tempfile
        >>> import numbacnn as nc
        >>> with tempfile.TemporaryDirectory() as folder, nc.use_backend("reference"):
        ...     nc.save_pretrained(folder, nc.models.lenet(num_classes=2), {"classes": ["cat", "dog"]})
        ...     sorted(os.listdir(folder)), nc.from_pretrained(folder).output_shape((1, 1, 28, 28))
        (['README.md', 'config.json', 'model.safetensors'], (1, 2))
    """
    check_path_and_model("save_pretrained", folder, model, path_name="folder")
    made_by = architecture_of(model)
    text = _config_text(made_by, config)
    folder = user_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / _WEIGHTS[0], model)
    _write(folder / CONFIG, text)
    if not (folder / _CARD).exists():
        _write(folder / _CARD, _card(folder.resolve().name, model, made_by))


@overload
def from_pretrained(
    folder: str | os.PathLike[str], model: None = None, strict: bool = True, ignore_mismatched_sizes: bool = False
) -> Layer: ...
@overload
def from_pretrained(
    folder: str | os.PathLike[str], model: _L, strict: bool = True, ignore_mismatched_sizes: bool = False
) -> _L: ...
def from_pretrained(
    folder: str | os.PathLike[str],
    model: Layer | None = None,
    strict: bool = True,
    ignore_mismatched_sizes: bool = False,
) -> Layer:
    """The model in ``folder``, which :func:`save_pretrained` wrote, in evaluation mode; or ``model`` with its weights.

    Without ``model``, the configuration must name a function of `numbacnn.models`; nothing else that it says is run.
    With ``model``, the configuration need not be there, and the weights may also be in ``pytorch_model.bin``, as in
    folders from other libraries. Nothing is downloaded.

    Args:
        folder: with ``model.safetensors`` and ``config.json``.
        model: a layer that takes the weights, as :func:`load` puts them into it, and stays in its mode.
        strict: whether missing and unexpected names are errors.
        ignore_mismatched_sizes: whether arrays of another shape than the model's are left out, such as those of a head
            for other classes, and not an error.

    Raises:
        FileNotFoundError: there is no such folder, or it lacks a file.
        CheckpointError: a file is damaged, or the configuration says what cannot be.
        ValueError: no ``model`` is given and the configuration names none of this package's, or the weights do not fit.
        TypeError: ``folder`` is no path or ``model`` no layer.

    Warns:
        UserWarning: arrays of another shape were left out; it names them.

    Example:
        >>> import tempfile, warnings
        >>> import numbacnn as nc
        >>> with tempfile.TemporaryDirectory() as folder, nc.use_backend("reference"), warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     nc.save_pretrained(folder, nc.models.lenet())
        ...     model = nc.from_pretrained(folder, nc.models.lenet(num_classes=7), ignore_mismatched_sizes=True)
        >>> model.output_shape((1, 1, 28, 28))
        (1, 7)
    """
    if model is not None or not isinstance(folder, (str, os.PathLike)):
        check_path_and_model("from_pretrained", folder, model, path_name="folder")
    folder = user_path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}; nothing is downloaded")
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise FileNotFoundError(f"the folder {str(folder)!r} has neither {' nor '.join(_WEIGHTS)}")
    if model is None:
        model = _made(folder / CONFIG, weights).eval()
    report = load(weights, model, strict, ignore_mismatched_sizes).report
    if report.mismatched_keys:
        told = f"{str(weights)!r}: weights of another shape are left out, and the model's stay\n{report}"
        warnings.warn(told, UserWarning, stacklevel=2)
    return model


def _config_text(made_by: Architecture | None, config: Mapping[str, Any] | None) -> str:
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"`config` of type {type(config).__name__} must be a dict")
    own: dict[str, Any] = {"library_name": "numbacnn", "numbacnn_version": __version__}
    if made_by is not None:
        own |= {"architecture": made_by.name, "model_args": made_by.arguments}
    for name in config or ():
        if name in _OWN:
            raise ValueError(f"`config` has {name!r}, which is written anyway")
    try:
        return json.dumps({**own, **(config or {})}, indent=2, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise TypeError(f"`config` must hold what JSON knows: {error}") from error


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _made(config: Path, weights: Path) -> Layer:
    """A new model as ``config`` says, whose size is bounded by that of the ``weights``."""
    if not config.is_file():
        raise FileNotFoundError(f"there is no {str(config)!r} to tell which model it is; give `model`")
    said = read_config(config)
    name, arguments = said.get("architecture"), said.get("model_args", {})
    if name not in models.__all__:
        known = ", ".join(models.__all__)
        what = "names no architecture" if name is None else f"names the architecture {name!r}"
        raise ValueError(f"{str(config)!r} {what}; those of this package are {known}; give `model` for another")
    lengths = read_contents(weights, lambda found: {size for entry in found.entries.values() for size in entry.shape})
    try:
        for argument, value in arguments.items():
            if isinstance(value, int) and value > _LARGE and value not in lengths:
                raise ValueError(f"`{argument}` {value} is no size of the weights in {weights.name!r}")
        width = arguments.get("groups", 1) * arguments.get("width_per_group", 64)
        if width > _WIDE and width not in lengths:
            raise ValueError(
                f"`groups` times `width_per_group`, {width}, is no size of the weights in {weights.name!r}"
            )
        model: Layer = getattr(models, name)(**arguments)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{str(config)!r} says what cannot be: {error}") from error
    return model


def read_config(path: Path) -> dict[str, Any]:
    """What a configuration says; CheckpointError for a file that is none, OSError for one that cannot be read."""
    try:
        if path.stat().st_size > _LONGEST_CONFIG:
            raise ValueError(f"it has more than {_LONGEST_CONFIG} bytes")
        said = parse_json(path.read_bytes())
        if not isinstance(said, dict):
            raise ValueError("it is no table")
    except ValueError as error:
        raise CheckpointError(f"{str(path)!r} is no readable configuration: {error}") from error
    return said


def _card(name: str, model: Layer, made_by: Architecture | None) -> str:
    """A model card: what is known, and headings for what is not."""
    count = sum(parameter.size for parameter in model.parameters())
    kind = f"`{made_by.name}`" if made_by else f"`{type(model).__name__}`"
    rows = [f"| `{key}` | {value} |" for key, value in (made_by.arguments if made_by else {}).items()]
    table = ["", "| argument | value |", "|---|---|", *rows] if rows else []
    call = f"nc.from_pretrained({name!r})" if made_by else f"nc.from_pretrained({name!r}, model)"
    task = [f"pipeline_tag: {_TASKS.get(made_by.name, 'image-classification')}"] if made_by else []
    first = [] if made_by else ["model = ...  # layers with the names and shapes of the weights"]
    return "\n".join(
        [
            *("---", "library_name: numbacnn", *task),
            *("tags:", "- numbacnn", "---", "", f"# {name}", ""),
            f"A {kind} of numbacnn {__version__}, with {count:,} parameters.",
            *(*table, "", "## Use", "", "```python", "import numbacnn as nc", "", *first, f"model = {call}"),
            *("y = model.predict(x)", "```", "", "`model.safetensors` holds the weights, `config.json` the rest."),
            *("", "## Training data", "", "## Preprocessing", "", "## Results", "", "## Limits and licence", ""),
        ]
    )
