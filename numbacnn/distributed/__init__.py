"""Training by several processes together, over MPI, to the bits of one.

`mpi4py` and an MPI are the extra ``distributed``; without them there is one process, and the same program runs.
"""

from ..namespaces import public_names
from .group import Group as Group
from .launch import init as init

__all__ = public_names(globals())


def __dir__() -> list[str]:
    return __all__
