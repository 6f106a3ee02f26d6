"""One function per operation: it checks the arguments, works out the sizes once, and calls a backend.

Every operation takes keyword-only ``backend``: a backend, its name, or None for the default. Arguments are never
modified and results never share memory with them; ``arguments.py`` says which dtypes go in and come out.
"""

from typing import TYPE_CHECKING

from ..namespaces import imported_when_asked, public_names
from .linear import *
from .pooling import *
from .softmax import *

if TYPE_CHECKING:
    from .activation import *
    from .conv import *
    from .elementwise import *
    from .group_normalization import *
    from .loss import *
    from .normalization import *
    from .response_norm import *
    from .spatial import *

# linear.py and softmax.py have the name of a function, and would stand for it once somebody imports them by themselves.
_WHEN_ASKED = {
    "activation": (
        *("celu", "celu_backward", "elu", "elu_backward", "gelu", "gelu_backward", "hardsigmoid"),
        *("hardsigmoid_backward", "hardswish", "hardswish_backward", "hardtanh", "hardtanh_backward", "leaky_relu"),
        *("leaky_relu_backward", "mish", "mish_backward", "prelu", "prelu_backward", "relu6", "relu6_backward"),
        *("selu", "selu_backward", "silu", "silu_backward", "softplus", "softplus_backward", "softsign"),
        *("softsign_backward",),
    ),
    "conv": (
        *("conv2d", "conv2d_backward", "conv2d_choice", "conv2d_geometry", "conv_transpose2d"),
        *("conv_transpose2d_backward", "conv_transpose2d_geometry", "corr2d"),
    ),
    "elementwise": (
        *("add", "concat", "concat_backward", "copy", "dropout", "dropout2d", "flatten", "multiply"),
        *("multiply_backward", "relu", "relu_backward", "sigmoid", "sigmoid_backward", "tanh", "tanh_backward"),
    ),
    "group_normalization": (
        "group_norm",
        "group_norm_backward",
        "instance_norm",
        "instance_norm_backward",
        "layer_norm",
        "layer_norm_backward",
    ),
    "loss": (
        *("count_classes", "count_correct", "nll_loss", "nll_loss_backward", "pointwise_loss"),
        *("pointwise_loss_backward", "softmax_cross_entropy", "softmax_cross_entropy_backward"),
    ),
    "normalization": ("batch_norm", "batch_norm_backward"),
    "response_norm": ("local_response_norm", "local_response_norm_backward"),
    "spatial": (
        *("channel_shuffle", "interpolate2d", "interpolate2d_backward", "pad2d", "pad2d_backward", "pad_channels"),
        *("pixel_shuffle", "pixel_unshuffle"),
    ),
}
__getattr__ = imported_when_asked(__name__, _WHEN_ASKED)

__all__ = public_names(globals(), (), _WHEN_ASKED)


def __dir__() -> list[str]:
    return __all__
