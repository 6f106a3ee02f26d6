"""Files of weights (``save``, ``load``) and of training runs (``save_checkpoint``, ``load_checkpoint``)."""

from ..files import replacing as replacing
from .arrays import CheckpointError as CheckpointError
from .checkpoint import load_checkpoint as load_checkpoint
from .checkpoint import save_checkpoint as save_checkpoint
from .weights import Metadata as Metadata
from .weights import load as load
from .weights import save as save

__all__ = [
    "CheckpointError",
    "Metadata",
    "load",
    "load_checkpoint",
    "replacing",
    "save",
    "save_checkpoint",
]
