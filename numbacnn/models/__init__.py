"""Architectures, a function each, built from layers and containers.

Weights start as the layers', like PyTorch's; ``nn.init.xavier_uniform(model)`` draws them as Dive into Deep Learning
does. A layout is a choice between the book's network and torchvision's, whose state dicts then load key for key.
"""

from .alexnet import alexnet as alexnet
from .cifar_resnet import cifar_resnet as cifar_resnet
from .dcgan import dcgan_discriminator as dcgan_discriminator
from .dcgan import dcgan_generator as dcgan_generator
from .densenet import densenet as densenet
from .efficientnet import efficientnet_lite0 as efficientnet_lite0
from .googlenet import googlenet as googlenet
from .lenet import lenet as lenet
from .mobilenet import mobilenet_v2 as mobilenet_v2
from .nin import nin as nin
from .resnet import resnet as resnet
from .series import series_fcn as series_fcn
from .series import series_resnet as series_resnet
from .shufflenet import shufflenet_v2 as shufflenet_v2
from .squeezenet import squeezenet as squeezenet
from .unet import unet as unet
from .vgg import vgg as vgg

__all__ = [
    "alexnet",
    "cifar_resnet",
    "dcgan_discriminator",
    "dcgan_generator",
    "densenet",
    "efficientnet_lite0",
    "googlenet",
    "lenet",
    "mobilenet_v2",
    "nin",
    "resnet",
    "series_fcn",
    "series_resnet",
    "shufflenet_v2",
    "squeezenet",
    "unet",
    "vgg",
]
