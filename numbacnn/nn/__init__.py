"""The layer graph: layers with explicit forward and backward, containers, losses, initialisation, receptive fields."""

from typing import TYPE_CHECKING

from ..namespaces import imported_when_asked, public_names
from . import init as init
from .layer import Layer as Layer
from .state import Buffer as Buffer
from .state import Counter as Counter
from .state import Parameter as Parameter

if TYPE_CHECKING:
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
    from .group_normalization import *
    from .linear import *
    from .loading import IncompatibleKeys as IncompatibleKeys
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
    from .sync_batch_norm import SyncBatchNorm as SyncBatchNorm
    from .tied import *

_WHEN_ASKED = {
    "activation": (
        *("CELU", "ELU", "GELU", "SELU", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "Mish"),
        *("PReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softplus", "Softsign", "Tanh"),
    ),
    "containers": ("Add", "Concat", "Sequential"),
    "conv": ("Conv1d", "Conv2d"),
    "conv_transpose": ("ConvTranspose1d", "ConvTranspose2d"),
    "densenet_block": ("DenseBlock",),
    "dropout": ("Dropout", "Dropout2d"),
    "feature_extraction": ("outputs", "upto"),
    "fold": ("fold_batch_norm",),
    "grad_mode": ("enable_grad",),
    "graph": ("Graph",),
    "group_normalization": ("GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "LayerNorm"),
    "linear": ("Linear",),
    "loading": ("IncompatibleKeys",),
    "loss": (
        *("BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "Loss", "MSELoss", "NLLLoss"),
        *("SmoothL1Loss",),
    ),
    "merge": ("Concatenate", "Product", "Sum"),
    "normalization": ("BatchNorm1d", "BatchNorm2d"),
    "pooling": (
        *("AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool1d", "AvgPool2d", "GlobalAvgPool2d", "LPPool2d"),
        *("MaxPool1d", "MaxPool2d"),
    ),
    "receptive": ("ReceptiveField", "Window", "WHOLE_IMAGE", "receptive_field"),
    "reshape": ("Flatten", "Reshape", "Unflatten"),
    "response_norm": ("LocalResponseNorm",),
    "session": ("InferenceSession",),
    "softmax": ("LogSoftmax", "Softmax"),
    "spatial": (
        *("ChannelShuffle", "CircularPad2d", "ConstantPad2d", "PixelShuffle", "PixelUnshuffle", "ReflectionPad2d"),
        *("ReplicationPad2d", "Upsample", "ZeroPad2d", "ZeroPadChannels"),
    ),
    "sync_batch_norm": ("SyncBatchNorm",),
    "tied": ("tied_copy",),
}
__getattr__ = imported_when_asked(__name__, _WHEN_ASKED)

__all__ = public_names(globals(), ["init"], _WHEN_ASKED)


def __dir__() -> list[str]:
    return __all__
