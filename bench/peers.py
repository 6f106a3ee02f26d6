"""Other libraries that do the same work, measured beside ours as yardsticks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbacnn.backends.contract import ConvPass
from numbacnn.backends.geometry import Conv2dGeometry

__all__ = ["NAMES", "Torch", "load"]


class Torch:
    """PyTorch on the CPU, with the same number of threads as we have."""

    name = "torch"

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch: Any = torch

    def conv2d(
        self, g: Conv2dGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dy: np.ndarray
    ) -> dict[ConvPass, Callable[[], Any]]:
        """A function for each pass that returns a new tensor; each gradient is computed alone.

        PyTorch pads both sides alike, so rows and columns that one side has more of are laid out by ``pad`` first, and
        that is timed too.
        """
        torch = self._torch
        x, weight, bias, dy = (torch.from_numpy(array) for array in (x, weight, bias, dy))
        stride, dilation = (g.sh, g.sw), (g.dh, g.dw)
        padding = (min(g.pt, g.pb), min(g.pl, g.pr))
        above, left = g.pt - padding[0], g.pl - padding[1]
        more = (left, g.pr - padding[1], above, g.pb - padding[0])

        def padded() -> Any:
            return torch.nn.functional.pad(x, more) if any(more) else x

        like_x = padded()

        def backward(image: Any, mask: list[bool]) -> Any:
            gradients = torch.ops.aten.convolution_backward(
                dy, image, weight, None, stride, padding, dilation, False, (0, 0), g.groups, mask
            )
            return gradients[mask.index(True)]

        @torch.no_grad()
        def forward() -> Any:
            return torch.nn.functional.conv2d(padded(), weight, bias, stride, padding, dilation, g.groups)

        @torch.no_grad()
        def backward_input() -> Any:
            return backward(like_x, [True, False, False])[:, :, above : above + g.h, left : left + g.w]

        @torch.no_grad()
        def backward_weight() -> Any:
            return backward(padded(), [False, True, False])

        return {"forward": forward, "backward_input": backward_input, "backward_weight": backward_weight}


def load(name: str, threads: int) -> Torch:
    """The peer called ``name``; ImportError, with what to install, if it is missing or broken."""
    try:
        return _PEERS[name](threads)
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries
        reason = " ".join(str(error).split())
        raise ImportError(f'peer {name} cannot be imported ({reason}): pip install "numbacnn[bench]"') from error


_PEERS = {"torch": Torch}
NAMES = tuple(_PEERS)
