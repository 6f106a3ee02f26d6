"""Data sets in memory (MNIST's, CIFAR-10, folders of images, built-in shapes), files of images, batches, transforms."""

from .affine import RandomAffine as RandomAffine
from .affine import RandomRotation as RandomRotation
from .cifar import cifar10 as cifar10
from .colors import ColorJitter as ColorJitter
from .colors import Normalize as Normalize
from .dataset import ArrayDataset as ArrayDataset
from .files import DataFileError as DataFileError
from .folder import image_folder as image_folder
from .geometric import RandomCrop as RandomCrop
from .geometric import RandomHorizontalFlip as RandomHorizontalFlip
from .geometric import RandomResizedCrop as RandomResizedCrop
from .geometric import RandomVerticalFlip as RandomVerticalFlip
from .geometric import Resize as Resize
from .idx import IdxError as IdxError
from .idx import read_idx as read_idx
from .idx import write_idx as write_idx
from .image_files import ImageFiles as ImageFiles
from .imagenet import imagenet_classes as imagenet_classes
from .loader import DataLoader as DataLoader
from .mask_folder import mask_folder as mask_folder
from .mask_folder import picture_pairs as picture_pairs
from .mixing import BatchTransform as BatchTransform
from .mixing import CutMix as CutMix
from .mixing import MixUp as MixUp
from .mixing import RandomErasing as RandomErasing
from .mnist import fashion_mnist as fashion_mnist
from .mnist import mnist as mnist
from .multi_label import multi_label_folder as multi_label_folder
from .paired import PairTransform as PairTransform
from .pairs import PairDataset as PairDataset
from .photographs import PHOTOGRAPHS as PHOTOGRAPHS
from .photographs import Preprocessing as Preprocessing
from .photographs import photographs as photographs
from .photographs import read_image as read_image
from .rand_augment import RandAugment as RandAugment
from .shape_masks import shape_masks as shape_masks
from .shapes import shapes as shapes
from .sources import DatasetUnavailable as DatasetUnavailable
from .splits import Subset as Subset
from .splits import random_split as random_split
from .splits import train_test_split as train_test_split
from .transforms import Compose as Compose
from .transforms import Transform as Transform

__all__ = [
    "PHOTOGRAPHS",
    "ArrayDataset",
    "BatchTransform",
    "ColorJitter",
    "Compose",
    "CutMix",
    "DataFileError",
    "DataLoader",
    "DatasetUnavailable",
    "IdxError",
    "ImageFiles",
    "MixUp",
    "Normalize",
    "PairDataset",
    "PairTransform",
    "Preprocessing",
    "RandAugment",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "Subset",
    "Transform",
    "cifar10",
    "fashion_mnist",
    "image_folder",
    "imagenet_classes",
    "mask_folder",
    "mnist",
    "multi_label_folder",
    "photographs",
    "picture_pairs",
    "random_split",
    "read_idx",
    "read_image",
    "shape_masks",
    "shapes",
    "train_test_split",
    "write_idx",
]
