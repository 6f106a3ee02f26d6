"""numba.cuda on an NVIDIA GPU: kernels of raw pointers, launched into one stream, memory from an arena.

The files here have the names and the functions of every backend. Behind them are three rooms, from above to below:

- ``convolution/``: the algorithms that ``conv.py`` chooses among;
- ``block/``: what a block of threads does together, the tile product and the sums;
- ``runtime/``: the device or its simulator, how a kernel is declared, compiled, kept, launched and captured, and where
  its arrays are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...namespaces import imported_when_asked
from ..rare import RARE
from .batch import *
from .capture import *
from .conv import *
from .elementwise import *
from .linear import *
from .loss import *
from .memory import *
from .normalization import *
from .optim import *
from .pooling import *

if TYPE_CHECKING:
    from .activation import *
    from .augment import *
    from .group_normalization import *
    from .pointwise_losses import *
    from .response_norm import *
    from .softmaxes import *
    from .spatial import *

__getattr__ = imported_when_asked(__name__, RARE)

name = "cuda"
asynchronous = True
