"""numba.cuda on an NVIDIA GPU: kernels of raw pointers, launched into one stream, memory from an arena.

The files here have the names and the functions of every backend. Behind them are three rooms, from above to below:

- ``convolution/``: the algorithms that ``conv.py`` chooses among;
- ``block/``: what a block of threads does together, the tile product and the sums;
- ``runtime/``: the device or its simulator, how a kernel is declared, compiled, kept, launched and captured, and where
  its arrays are.
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

name = "cuda"
asynchronous = True
