"""Models in the format that other frameworks and runtimes read and write, without the package ``onnx``."""

from ..namespaces import public_names
from . import layer_nodes as layer_nodes
from .reader import load as load
from .writer import save as save

__all__ = public_names(globals())


def __dir__() -> list[str]:
    return __all__
