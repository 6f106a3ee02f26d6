"""Passes of a convolution by PyTorch, on the CPU or on the GPU, where cuDNN picks the fastest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from numbacnn.backends.contract import ConvPass
from numbacnn.backends.geometry import Conv2dGeometry

from .contender import Contender
from .precision import FULL, LAYOUTS, Ways, bounded, suffix

__all__ = ["Tf32", "TorchConv", "conv_module", "torch_captured"]


class Tf32:
    """PyTorch's setting of the process, remembered here because asking for it takes time in every call."""

    allowed: ClassVar[bool | None] = None

    @classmethod
    def allow(cls, torch: Any, allowed: bool) -> None:
        """Whether cuDNN may round operands to 10 bits."""
        if cls.allowed is not allowed:
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = cls.allowed = allowed


class TorchConv:
    """One way in which PyTorch computes a convolution.

    Args:
        torch: the package.
        device: ``"cpu"`` or ``"cuda"``.
        precision: in ``"tf32"`` cuDNN may round operands to 11 bits; in ``"bf16"`` what goes in and what comes out is
            bfloat16.
        layout: the memory format of images and weights.
    """

    def __init__(self, torch: Any, device: str = "cpu", precision: str = FULL, layout: str = LAYOUTS[0]) -> None:
        self.name = "torch" + suffix(precision, layout)
        self.precision, self.layout = precision, layout
        self._torch, self._device = torch, device

    @classmethod
    def kinds(cls, torch: Any, device: str, ways: Ways) -> list[TorchConv]:
        """The ways to measure."""
        return [cls(torch, device, precision, layout) for precision in ways.precisions for layout in ways.layouts]

    @property
    def bound(self) -> float | None:
        """How far results may be off, relative to the largest magnitude; None for what float32 has to keep."""
        if self.precision != FULL:
            return bounded(self.precision)
        # On the GPU the algorithm that cuDNN finds fastest may be one that rounds more, by Winograd or FFT.
        return bounded("tf32") if self._device == "cuda" else None

    def contender(self, run: Callable[[], Any]) -> Contender:
        """What takes part with a pass of :meth:`conv2d` on the GPU."""
        torch = self._torch
        return Contender(
            run,
            self.to_numpy,
            torch.cuda.synchronize,
            self.bound,
            partial(torch_captured, torch),
            precision=self.precision,
            layout=self.layout,
        )

    @staticmethod
    def to_numpy(y: Any) -> np.ndarray:
        """The values of a result, in float32."""
        return np.asarray(y.float().cpu())

    def conv2d(self, g: Conv2dGeometry, x: Any, weight: Any, bias: Any, dy: Any) -> dict[ConvPass, Callable[[], Any]]:
        """A function for each pass of NumPy arrays that returns a new tensor; each gradient is computed alone.

        PyTorch pads both sides alike, so rows and columns that one side has more of are laid out by ``pad`` first, and
        that is timed too.
        """
        torch = self._torch
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        x, weight, bias, dy = (torch.from_numpy(array).to(self._device, dtype) for array in (x, weight, bias, dy))
        if self.layout == "channels_last":
            x, weight, dy = (value.contiguous(memory_format=torch.channels_last) for value in (x, weight, dy))
        stride, dilation = (g.sh, g.sw), (g.dh, g.dw)
        padding, more = _paddings(g)

        def padded() -> Any:
            return torch.nn.functional.pad(x, more) if any(more) else x

        like_x = padded()

        def backward(image: Any, mask: list[bool]) -> Any:
            gradients = torch.ops.aten.convolution_backward(
                dy, image, weight, None, stride, padding, dilation, False, (0, 0), g.groups, mask
            )
            return gradients[mask.index(True)]

        def forward() -> Any:
            return torch.nn.functional.conv2d(padded(), weight, bias, stride, padding, dilation, g.groups)

        def backward_input() -> Any:
            return backward(like_x, [True, False, False])[:, :, more[2] : more[2] + g.h, more[0] : more[0] + g.w]

        def backward_weight() -> Any:
            return backward(padded(), [False, True, False])

        return {
            "forward": partial(self._run, forward),
            "backward_input": partial(self._run, backward_input),
            "backward_weight": partial(self._run, backward_weight),
        }

    def _run(self, function: Callable[[], Any]) -> Any:
        if self._device == "cuda":
            Tf32.allow(self._torch, self.precision == "tf32")
        with self._torch.no_grad():
            return function()


def torch_captured(torch: Any, run: Callable[[], Any]) -> Callable[[], object]:
    """What does the work of ``run``, which has run before, in one launch on the GPU."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def conv_module(torch: Any, g: Conv2dGeometry, weight: np.ndarray, bias: np.ndarray) -> Any:
    """The convolution as a module, with a layer before it that pads what one side has more of."""
    padding, more = _paddings(g)
    conv = torch.nn.Conv2d(
        g.c, g.k, (g.kh, g.kw), stride=(g.sh, g.sw), padding=padding, dilation=(g.dh, g.dw), groups=g.groups
    )
    conv.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return torch.nn.Sequential(torch.nn.ZeroPad2d(more), conv) if any(more) else conv


def _paddings(g: Conv2dGeometry) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """What both sides have, rows and columns, and what is left on the left, right, above and below."""
    padding = (min(g.pt, g.pb), min(g.pl, g.pr))
    return padding, (g.pl - padding[1], g.pr - padding[1], g.pt - padding[0], g.pb - padding[0])
