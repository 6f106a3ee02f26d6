"""One function per operation: it checks the arguments, works out the sizes once, and calls a backend.

Every operation takes keyword-only ``backend``: a backend, its name, or None for the default. Arguments are never
modified and results never share memory with them; ``arguments.py`` says which dtypes go in and come out.
"""

from ..namespaces import public_names
from .activation import *
from .conv import *
from .elementwise import *
from .group_norm import *
from .linear import *
from .loss import *
from .normalization import *
from .pooling import *
from .response_norm import *
from .softmax import *
from .spatial import *

__all__ = public_names(globals())


def __dir__() -> list[str]:
    return __all__
