"""What a block of threads does together: the tile product, with sizes by ``gemm_plan.py``, and sums.

The product is ``gemm.py``, and on tensor cores ``tensor_gemm.py``; ``places.py`` says where their elements lie in
memory, ``fragments.py`` where those of the latter lie in shared memory and in the lanes of a warp, and ``ptx.py`` has
the instructions. ``pointwise.py`` is what is done to one element at a time, also within other kernels.
"""
