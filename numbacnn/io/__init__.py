"""Files of weights (``save``, ``load``) and of training runs (``save_checkpoint``, ``load_checkpoint``)."""

from typing import TYPE_CHECKING

from ..files import replacing as replacing
from ..namespaces import imported_when_asked, public_names

if TYPE_CHECKING:
    from .arrays import CheckpointError as CheckpointError
    from .checkpoint import load_checkpoint as load_checkpoint
    from .checkpoint import save_checkpoint as save_checkpoint
    from .weights import Metadata as Metadata
    from .weights import load as load
    from .weights import save as save

_WHEN_ASKED = {
    "arrays": ("CheckpointError",),
    "checkpoint": ("load_checkpoint", "save_checkpoint"),
    "weights": ("Metadata", "load", "save"),
}
__getattr__ = imported_when_asked(__name__, _WHEN_ASKED)

__all__ = public_names(globals(), (), _WHEN_ASKED)


def __dir__() -> list[str]:
    return __all__
