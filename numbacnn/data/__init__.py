"""Data sets in memory (MNIST's, CIFAR-10, folders of images, built-in shapes), files of images, batches, transforms."""

from .cifar import cifar10 as cifar10
from .dataset import ArrayDataset as ArrayDataset
from .files import DataFileError as DataFileError
from .folder import image_folder as image_folder
from .idx import IdxError as IdxError
from .idx import read_idx as read_idx
from .idx import write_idx as write_idx
from .imagenet import imagenet_classes as imagenet_classes
from .loader import DataLoader as DataLoader
from .mnist import fashion_mnist as fashion_mnist
from .mnist import mnist as mnist
from .pairs import PairDataset as PairDataset
from .photographs import photographs as photographs
from .photographs import read_image as read_image
from .shapes import shapes as shapes
from .sources import DatasetUnavailable as DatasetUnavailable
from .transforms import ColorJitter as ColorJitter
from .transforms import Compose as Compose
from .transforms import Normalize as Normalize
from .transforms import RandomCrop as RandomCrop
from .transforms import RandomHorizontalFlip as RandomHorizontalFlip
from .transforms import Resize as Resize
from .transforms import Transform as Transform

__all__ = [
    "ArrayDataset",
    "ColorJitter",
    "Compose",
    "DataFileError",
    "DataLoader",
    "DatasetUnavailable",
    "IdxError",
    "Normalize",
    "PairDataset",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Resize",
    "Transform",
    "cifar10",
    "fashion_mnist",
    "image_folder",
    "imagenet_classes",
    "mnist",
    "photographs",
    "read_idx",
    "read_image",
    "shapes",
    "write_idx",
]
