"""What kernels are built of: explicit vectors, register tiles, sums, activations, and how images lie in memory.

``simd.py`` has the vectors, ``tiles.py`` the tiles of sums that stay in registers, ``pool_pixels.py`` what pooling does
to a pixel, ``row_sums.py`` and ``row_maps.py`` what normalisation does to rows of pixels; ``layout.py`` says how images
lie.
"""
