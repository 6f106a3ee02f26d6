"""One function per operation: it checks the arguments, works out the sizes once, and calls a backend.

Every operation takes keyword-only ``backend``: a backend, its name, or None for the default. Arguments are never
modified and results never share memory with them; ``arguments.py`` says which dtypes go in and come out.
"""

from .conv import conv2d as conv2d
from .conv import conv2d_backward as conv2d_backward
from .conv import conv2d_choice as conv2d_choice
from .conv import conv2d_geometry as conv2d_geometry
from .conv import corr2d as corr2d
from .elementwise import add as add
from .elementwise import concat as concat
from .elementwise import concat_backward as concat_backward
from .elementwise import copy as copy
from .elementwise import dropout as dropout
from .elementwise import flatten as flatten
from .elementwise import relu as relu
from .elementwise import relu_backward as relu_backward
from .elementwise import sigmoid as sigmoid
from .elementwise import sigmoid_backward as sigmoid_backward
from .elementwise import softmax as softmax
from .elementwise import tanh as tanh
from .elementwise import tanh_backward as tanh_backward
from .linear import linear as linear
from .linear import linear_backward as linear_backward
from .loss import count_correct as count_correct
from .loss import mean_squared_error as mean_squared_error
from .loss import mean_squared_error_backward as mean_squared_error_backward
from .loss import softmax_cross_entropy as softmax_cross_entropy
from .loss import softmax_cross_entropy_backward as softmax_cross_entropy_backward
from .normalization import batch_norm as batch_norm
from .normalization import batch_norm_backward as batch_norm_backward
from .pooling import avg_pool2d as avg_pool2d
from .pooling import avg_pool2d_backward as avg_pool2d_backward
from .pooling import global_avg_pool2d as global_avg_pool2d
from .pooling import global_avg_pool2d_backward as global_avg_pool2d_backward
from .pooling import max_pool2d as max_pool2d
from .pooling import max_pool2d_backward as max_pool2d_backward
from .pooling import pool2d_geometry as pool2d_geometry
