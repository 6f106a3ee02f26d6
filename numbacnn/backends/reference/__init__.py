"""The executable definition of every operation: plain NumPy, slow, written to be read.

In float64 it is what the other backends are tested against; in float32 it runs any model. Warnings about infinities
and NaN are NumPy's own, under ``np.errstate``.
"""

from __future__ import annotations

from .augment import flip_and_crop as flip_and_crop
from .augment import jitter_colors as jitter_colors
from .augment import normalize_images as normalize_images
from .augment import resize_images as resize_images
from .batch import gather_images as gather_images
from .batch import gather_labels as gather_labels
from .capture import capture as capture
from .capture import capture_in_parts as capture_in_parts
from .conv import choose_conv2d_algorithm as choose_conv2d_algorithm
from .conv import conv2d as conv2d
from .conv import conv2d_algorithms as conv2d_algorithms
from .conv import conv2d_backward_bias as conv2d_backward_bias
from .conv import conv2d_backward_input as conv2d_backward_input
from .conv import conv2d_backward_weight as conv2d_backward_weight
from .conv import conv2d_workspace as conv2d_workspace
from .elementwise import accumulate as accumulate
from .elementwise import add as add
from .elementwise import add_channels as add_channels
from .elementwise import dropout as dropout
from .elementwise import fill_zero as fill_zero
from .elementwise import increment as increment
from .elementwise import put_channels as put_channels
from .elementwise import relu as relu
from .elementwise import relu_backward as relu_backward
from .elementwise import sigmoid as sigmoid
from .elementwise import sigmoid_backward as sigmoid_backward
from .elementwise import take_channels as take_channels
from .elementwise import tanh as tanh
from .elementwise import tanh_backward as tanh_backward
from .linear import linear as linear
from .linear import linear_backward_bias as linear_backward_bias
from .linear import linear_backward_input as linear_backward_input
from .linear import linear_backward_weight as linear_backward_weight
from .loss import count_correct as count_correct
from .loss import softmax as softmax
from .loss import softmax_cross_entropy as softmax_cross_entropy
from .loss import softmax_cross_entropy_backward as softmax_cross_entropy_backward
from .loss import squared_error as squared_error
from .loss import squared_error_backward as squared_error_backward
from .memory import adopt as adopt
from .memory import asarray as asarray
from .memory import assign as assign
from .memory import copy as copy
from .memory import device_name as device_name
from .memory import empty as empty
from .memory import free_memory as free_memory
from .memory import is_array as is_array
from .memory import reshape as reshape
from .memory import synchronize as synchronize
from .memory import to_numpy as to_numpy
from .memory import zeros as zeros
from .normalization import batch_norm_eval as batch_norm_eval
from .normalization import batch_norm_eval_backward as batch_norm_eval_backward
from .normalization import batch_norm_train as batch_norm_train
from .normalization import batch_norm_train_backward as batch_norm_train_backward
from .normalization import update_running_average as update_running_average
from .optim import adam_step as adam_step
from .optim import clip_scale as clip_scale
from .optim import global_norm as global_norm
from .optim import sgd_step as sgd_step
from .pooling import avg_pool2d as avg_pool2d
from .pooling import avg_pool2d_backward as avg_pool2d_backward
from .pooling import max_pool2d as max_pool2d
from .pooling import max_pool2d_backward as max_pool2d_backward
from .pooling import max_pool2d_with_indices as max_pool2d_with_indices

name = "reference"
asynchronous = False
