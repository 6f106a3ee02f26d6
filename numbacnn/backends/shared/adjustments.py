"""What ``adjust_images`` does to an image: the numbers of its kinds, and what their amount is.

Values are in 0..1 and stay there. Gray is 0.2989 red + 0.587 green + 0.114 blue, and of one channel the channel. All
are as torchvision has them for floating numbers; equalization counts levels floor(255.999 x), of 0..255.
"""

from __future__ import annotations

__all__ = [
    "AUTOCONTRAST",
    "BRIGHTNESS",
    "COLOR",
    "CONTRAST",
    "EQUALIZE",
    "KEEP",
    "LEVELS",
    "POSTERIZE",
    "SHARPNESS",
    "SOLARIZE",
    "TO_LEVELS",
]

KEEP = 0
"""The image itself."""
BRIGHTNESS = 1
"""The amount times x."""
COLOR = 2
"""The amount times x, and what is missing to 1 of the pixel's gray; an image of one channel stays."""
CONTRAST = 3
"""The amount times x, and what is missing to 1 of the mean gray of the image."""
SHARPNESS = 4
"""The amount times x, and what is missing to 1 of the mean of the 3 x 3 pixels around it, in which the pixel counts
five times. The outermost pixels stay."""
POSTERIZE = 5
"""x rounded down to a multiple of one over the amount, of which there are as many as the amount, from 0 up."""
SOLARIZE = 6
"""1 - x where x is at least the amount."""
AUTOCONTRAST = 7
"""Of each channel the smallest value becomes 0 and the largest 1; a channel of one value stays."""
EQUALIZE = 8
"""Of each channel as many pixels of each level, as far as can be."""

LEVELS = 256
TO_LEVELS = 255.999
