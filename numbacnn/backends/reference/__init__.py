"""The executable definition of every operation: plain NumPy, slow, written to be read.

In float64 it is what the other backends are tested against; in float32 it runs any model. Warnings about infinities
and NaN are NumPy's own, under ``np.errstate``.
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

name = "reference"
asynchronous = False
