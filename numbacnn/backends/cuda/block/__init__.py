"""What a block of threads does together: the tile product (``gemm.py``, with sizes by ``gemm_plan.py``) and sums.

``pointwise.py`` is what is done to one element at a time, also within other kernels.
"""
