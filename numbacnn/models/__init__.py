"""Architectures, a function each, built from layers and the three containers.

Weights start as the layers', like PyTorch's; ``nn.init.xavier_uniform(model)`` draws them as Dive into Deep Learning
does. A layout is a choice between the book's network and torchvision's, whose state dicts then load key for key.
"""

from .alexnet import alexnet as alexnet
from .densenet import densenet as densenet
from .efficientnet import efficientnet_lite0 as efficientnet_lite0
from .googlenet import googlenet as googlenet
from .lenet import lenet as lenet
from .nin import nin as nin
from .resnet import resnet as resnet
from .vgg import vgg as vgg

__all__ = ["alexnet", "densenet", "efficientnet_lite0", "googlenet", "lenet", "nin", "resnet", "vgg"]
