"""Convolution's algorithms; ``tables.py`` says where the numbers of a convolution lie, for the tile product."""
