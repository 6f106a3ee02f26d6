"""Other libraries that do the same work, measured beside ours as yardsticks."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from numbacnn.backends.contract import ConvPass
from numbacnn.backends.geometry import Conv2dGeometry

from .command import UserError

__all__ = ["NAMES", "Torch", "import_onnxruntime", "import_torch", "load"]

TF32_BOUND = 1e-2
"""How far results with operands of 10 bits may be off, relative to the largest magnitude."""


class Torch:
    """PyTorch on the CPU, with the same number of threads as we have, or on the GPU, where cuDNN picks the fastest.

    Args:
        torch: the package.
        device: ``"cpu"`` or ``"cuda"``.
        tf32: whether cuDNN may round operands to 10 bits, which makes it several times as fast.
    """

    def __init__(self, torch: Any, device: str = "cpu", tf32: bool = False) -> None:
        self.name = "torch-tf32" if tf32 else "torch"
        # In full float32 too the algorithm that cuDNN finds fastest may be one that rounds more, by Winograd or FFT.
        self.bound = TF32_BOUND if device == "cuda" else None
        self.wait: Callable[[], object] | None = torch.cuda.synchronize if device == "cuda" else None
        self._torch = torch
        self._device = device
        self._tf32 = tf32

    def to_numpy(self, x: Any) -> np.ndarray:
        """A tensor's values; waits for them."""
        return np.asarray(x.cpu())

    def capture(self, run: Callable[[], Any]) -> Callable[[], object] | None:
        """What does the work of ``run``, which has run before, in one launch on the GPU; None on the CPU."""
        if self._device == "cpu":
            return None
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph):
            run()
        return graph.replay

    def conv2d(
        self, g: Conv2dGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dy: np.ndarray
    ) -> dict[ConvPass, Callable[[], Any]]:
        """A function for each pass that returns a new tensor; each gradient is computed alone.

        PyTorch pads both sides alike, so rows and columns that one side has more of are laid out by ``pad`` first, and
        that is timed too.
        """
        torch = self._torch
        x, weight, bias, dy = (torch.from_numpy(array).to(self._device) for array in (x, weight, bias, dy))
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

        return {
            "forward": self._in_precision(forward),
            "backward_input": self._in_precision(backward_input),
            "backward_weight": self._in_precision(backward_weight),
        }

    def _in_precision(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """``function`` with or without TF32, which is a setting of the process."""
        if self._device == "cpu":
            return function

        def run() -> Any:
            if _tf32.allowed is not self._tf32:
                _tf32.allow(self._torch, self._tf32)
            return function()

        return run


class _Tf32:
    """PyTorch's setting, remembered here because asking for it takes time in every call."""

    allowed: bool | None = None

    def allow(self, torch: Any, allowed: bool) -> None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.allowed = allowed


_tf32 = _Tf32()


def import_torch(threads: int, device: str) -> Any:
    """PyTorch with so many threads on the CPU, full float32 on the GPU.

    ImportError, with what to install, if it is missing or broken; UserError if it finds no GPU where ``device`` is one.
    """
    torch = _import("torch")
    torch.set_num_threads(threads)
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"peer torch {torch.__version__} finds no GPU that it can use")
        torch.backends.cudnn.benchmark = True
        _tf32.allow(torch, False)
    return torch


def import_onnxruntime() -> Any:
    """ONNX Runtime; ImportError, with what to install, if it or ``onnx`` is missing or broken."""
    _import("onnx", "onnxruntime")
    return _import("onnxruntime")


def _import(package: str, peer: str | None = None) -> Any:
    """The package, which the peer of that name, or of another, needs."""
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries
        reason = " ".join(str(error).split())
        raise ImportError(
            f'peer {peer or package} cannot be imported ({reason}): pip install "numbacnn[bench]"'
        ) from error


def load(name: str, threads: int, device: str = "cpu") -> list[Torch]:
    """What the peer called ``name`` takes part with; the first one computes with our precision.

    Raises what :func:`import_torch` raises.
    """
    return _PEERS[name](threads, device)


def _torch(threads: int, device: str) -> list[Torch]:
    torch = import_torch(threads, device)
    return [Torch(torch, device, tf32) for tf32 in ((False, True) if device == "cuda" else (False,))]


_PEERS = {"torch": _torch}
NAMES = tuple(_PEERS)
