"""Files that others made, read with care.

``opening.py`` opens them, and has the error for whatever is wrong in them. ``idx.py`` is the format of MNIST,
``pickled_arrays.py`` one of CIFAR-10's. ``picture.py`` decodes an image, ``image_files.py`` many when a batch needs
them, and ``photographs.py`` makes of them what a model reads.
"""
