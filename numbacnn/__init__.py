"""Convolutional networks in NumPy and Numba: an explicit layer graph, readable kernels, no PyTorch.

>>> import numpy as np
>>> import numbacnn as nc
>>> nc.ops.corr2d(np.arange(9).reshape(3, 3), [[0, 1], [2, 3]])
array([[19., 25.],
       [37., 43.]], dtype=float32)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import backends as backends
from . import nn as nn
from . import ops as ops
from . import optim as optim
from .backends import use_backend as use_backend
from .backends.precision import precision as precision
from .nn.init import manual_seed as manual_seed

if TYPE_CHECKING:
    from . import data as data
    from . import distributed as distributed
    from . import explain as explain
    from . import io as io
    from . import models as models
    from . import onnx as onnx
    from . import testing as testing
    from . import training as training
    from .classifier import Classifier as Classifier
    from .classifier import load_classifier as load_classifier
    from .drawing import draw as draw
    from .grids import image_grid as image_grid
    from .hub import from_pretrained as from_pretrained
    from .hub import save_pretrained as save_pretrained
    from .io import load as load
    from .io import save as save
    from .nn.summary import summary as summary
    from .nn.tune import tune as tune
    from .profiling import profile as profile

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "backends",
    "data",
    "distributed",
    "draw",
    "explain",
    "from_pretrained",
    "image_grid",
    "io",
    "load",
    "load_classifier",
    "manual_seed",
    "models",
    "nn",
    "onnx",
    "ops",
    "optim",
    "precision",
    "profile",
    "save",
    "save_pretrained",
    "summary",
    "testing",
    "training",
    "tune",
    "use_backend",
]

# Not every program reads files or trains, so these are imported when they are first used.
# The estimators need more than is installed everywhere, and so are not among the names above.
_LAZY_MODULES = ("data", "distributed", "explain", "io", "models", "onnx", "sklearn", "testing", "training")
_LAZY_FUNCTIONS = {
    "Classifier": "classifier",
    "draw": "drawing",
    "from_pretrained": "hub",
    "image_grid": "grids",
    "load": "io",
    "load_classifier": "classifier",
    "profile": "profiling",
    "save": "io",
    "save_pretrained": "hub",
    "summary": "nn.summary",
    "tune": "nn.tune",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return import_module(f".{name}", __name__)
    if name in _LAZY_FUNCTIONS:
        return getattr(import_module(f".{_LAZY_FUNCTIONS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(["__version__", *__all__])
