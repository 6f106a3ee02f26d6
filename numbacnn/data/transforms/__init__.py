"""What is done to batches of images: on any backend, with numbers that NumPy draws.

``transform.py`` says what a transform is, and does several in turn. ``crops_and_flips.py``, ``affine.py`` and
``colors.py`` have those of one image each, ``rand_augment.py`` what draws among such, ``mixing.py`` what puts other
things into images; ``pair_transform.py`` does to masks what is done to their pictures. ``arguments.py`` they share.
"""
