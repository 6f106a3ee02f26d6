"""What kernels are built of: explicit vectors, register tiles, sums, activations, and how images lie in memory.

``simd.py`` has the vectors, ``tiles.py`` the tiles of sums that stay in registers, ``pool_pixels.py`` and
``row_sums.py`` what pooling and normalisation do to a pixel and a row; ``layout.py`` says how images lie.
"""
