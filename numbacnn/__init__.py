"""Convolutional networks in NumPy and Numba: an explicit layer graph, readable kernels, no PyTorch.

>>> import numpy as np
>>> import numbacnn as nc
>>> nc.ops.corr2d(np.arange(9).reshape(3, 3), [[0, 1], [2, 3]])
array([[19., 25.],
       [37., 43.]], dtype=float32)
"""

__version__ = "0.1.0"
