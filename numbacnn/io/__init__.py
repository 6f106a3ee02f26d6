"""Files of weights (``save``, ``load``), of models (``save_pretrained``, ``from_pretrained``) and of training runs."""

from ..files import replacing as replacing
from .arrays import CheckpointError as CheckpointError
from .checkpoint import load_checkpoint as load_checkpoint
from .checkpoint import save_checkpoint as save_checkpoint
from .pretrained import from_pretrained as from_pretrained
from .pretrained import save_pretrained as save_pretrained
from .weights import load as load
from .weights import save as save

__all__ = [
    "CheckpointError",
    "from_pretrained",
    "load",
    "load_checkpoint",
    "replacing",
    "save",
    "save_checkpoint",
    "save_pretrained",
]
