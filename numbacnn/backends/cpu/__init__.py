"""Numba on all cores: serial kernels, compiled one by one, whose chunks a few threads share out among themselves.

The files here have the names and the functions of every backend. Behind them are three rooms, from above to below:

- ``convolution/``: the algorithms that ``conv.py`` chooses among;
- ``vector/``: what kernels are built of, from a vector to a register tile, and how images lie in memory;
- ``runtime/``: how a kernel is declared, compiled, kept, launched and captured, and where its arrays are.
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

name = "cpu"
asynchronous = False
