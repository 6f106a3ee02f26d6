"""The layer graph: layers with explicit forward and backward, containers, losses, initialisation, receptive fields."""

from ..namespaces import public_names
from . import init as init
from .activation import *
from .containers import Add as Add
from .containers import Concat as Concat
from .containers import Sequential as Sequential
from .conv import *
from .conv_transpose import *
from .densenet_block import *
from .dropout import *
from .feature_extraction import outputs as outputs
from .feature_extraction import upto as upto
from .fold import *
from .grad_mode import enable_grad as enable_grad
from .graph import *
from .group_norm import *
from .layer import Layer as Layer
from .linear import *
from .loss import *
from .merge import *
from .normalization import *
from .pooling import *
from .receptive import *
from .reshape import *
from .response_norm import *
from .session import *
from .softmax import *
from .spatial import *
from .state import Buffer as Buffer
from .state import Counter as Counter
from .state import Parameter as Parameter
from .tied import *

__all__ = public_names(globals(), ["init"])


def __dir__() -> list[str]:
    return __all__
