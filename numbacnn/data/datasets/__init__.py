"""Data sets to begin with, and your own in folders.

``mnist.py`` and ``cifar.py`` have those that ``sources.py`` finds, in a folder, in the user's cache or on the network;
``shapes.py`` and ``shape_masks.py`` draw theirs. ``folder.py``, ``mask_folder.py`` and ``multi_label.py`` read folders
of images: one for each class, with masks, with a table of labels. ``imagenet.py`` has names of classes.
"""
