"""Which files of a backend are read when one of their functions is first asked for: most networks need none of them."""

from __future__ import annotations

__all__ = ["RARE"]

RARE = {
    "activation": ("pointwise", "pointwise_backward", "prelu", "prelu_backward"),
    "augment": (
        "adjust_images",
        "affine_images",
        "flip_and_crop",
        "jitter_colors",
        "mix_images",
        "normalize_images",
    ),
    "group_normalization": ("group_norm", "group_norm_backward"),
    "pointwise_losses": ("pointwise_loss", "pointwise_loss_backward", "pointwise_loss_sum"),
    "response_norm": ("local_response_norm", "local_response_norm_backward"),
    "softmaxes": ("softmax", "softmax_backward"),
    "spatial": ("pad2d", "pad2d_backward", "rearrange", "resample2d", "resample2d_backward"),
}
"""Their functions by file, alike in every backend; none has the name of a file, which it would stand for."""
