"""The executable definition of every operation: plain NumPy, slow, written to be read.

In float64 it is what the other backends are tested against; in float32 it runs any model. Warnings about infinities
and NaN are NumPy's own, under ``np.errstate``.
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

name = "reference"
asynchronous = False
