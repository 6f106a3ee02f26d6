"""Data sets in memory (MNIST's, CIFAR-10, folders of images, built-in shapes), files of images, batches, transforms."""

from .arrays.array_dataset import ArrayDataset as ArrayDataset
from .arrays.pair_dataset import PairDataset as PairDataset
from .arrays.splits import Subset as Subset
from .arrays.splits import random_split as random_split
from .arrays.splits import train_test_split as train_test_split
from .datasets.cifar import cifar10 as cifar10
from .datasets.folder import image_folder as image_folder
from .datasets.imagenet import imagenet_classes as imagenet_classes
from .datasets.mask_folder import mask_folder as mask_folder
from .datasets.mask_folder import picture_pairs as picture_pairs
from .datasets.mnist import fashion_mnist as fashion_mnist
from .datasets.mnist import mnist as mnist
from .datasets.multi_label import multi_label_folder as multi_label_folder
from .datasets.shape_masks import shape_masks as shape_masks
from .datasets.shapes import shapes as shapes
from .datasets.sources import DatasetUnavailable as DatasetUnavailable
from .loader import DataLoader as DataLoader
from .readers.idx import IdxError as IdxError
from .readers.idx import read_idx as read_idx
from .readers.idx import write_idx as write_idx
from .readers.image_files import ImageFiles as ImageFiles
from .readers.opening import DataFileError as DataFileError
from .readers.photographs import PHOTOGRAPHS as PHOTOGRAPHS
from .readers.photographs import Preprocessing as Preprocessing
from .readers.photographs import photographs as photographs
from .readers.photographs import read_image as read_image
from .transforms.affine import RandomAffine as RandomAffine
from .transforms.affine import RandomRotation as RandomRotation
from .transforms.colors import ColorJitter as ColorJitter
from .transforms.colors import Normalize as Normalize
from .transforms.crops_and_flips import RandomCrop as RandomCrop
from .transforms.crops_and_flips import RandomHorizontalFlip as RandomHorizontalFlip
from .transforms.crops_and_flips import RandomResizedCrop as RandomResizedCrop
from .transforms.crops_and_flips import RandomVerticalFlip as RandomVerticalFlip
from .transforms.crops_and_flips import Resize as Resize
from .transforms.mixing import BatchTransform as BatchTransform
from .transforms.mixing import CutMix as CutMix
from .transforms.mixing import MixUp as MixUp
from .transforms.mixing import RandomErasing as RandomErasing
from .transforms.pair_transform import PairTransform as PairTransform
from .transforms.rand_augment import RandAugment as RandAugment
from .transforms.transform import Compose as Compose
from .transforms.transform import Transform as Transform

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
