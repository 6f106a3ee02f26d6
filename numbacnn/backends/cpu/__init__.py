"""Numba on all cores: serial kernels, compiled one by one, whose chunks a few threads share out among themselves.

The files here have the names and the functions of every backend. Behind them are three rooms, from above to below:

- ``convolution/``: the algorithms that ``conv.py`` chooses among;
- ``vector/``: what kernels are built of, from a vector to a register tile, and how images lie in memory;
- ``runtime/``: how a kernel is declared, compiled, kept, launched and captured, and where its arrays are.
"""

from __future__ import annotations

from .activation import *
from .augment import *
from .batch import *
from .capture import *
from .conv import *
from .elementwise import *
from .group_norm import *
from .linear import *
from .loss import *
from .memory import *
from .normalization import *
from .optim import *
from .pointwise_loss import *
from .pooling import *
from .response_norm import *
from .softmax import *
from .spatial import *

name = "cpu"
asynchronous = False
