"""Convolution's algorithms, and what they share.

``loops.py`` and ``im2col.py`` are the plain ones. ``direct.py`` is made of ``direct_data.py`` (forward, and the
gradient of the input), ``direct_weight.py`` and ``depthwise.py``; ``winograd.py`` of ``winograd_data.py`` and
``winograd_weight.py``, with ``winograd_transforms.py`` and ``winograd_range.py``. ``correlation.py`` says what a pass
is, whatever the algorithm; ``bands.py`` lays out the rows that a core works on, ``operands.py`` weights and biases.
"""
