"""What PyTorch writes, by both of its exporters, is loaded and computes what PyTorch does, forwards and backwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def _shuffled(x: Any) -> Any:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def modules(torch: Any) -> dict[str, Any]:
    """Small models; of a tuple the first is a function of x and of the modules after it."""
    tn, f = torch.nn, torch.nn.functional
    return {
        "conv": tn.Sequential(tn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False), tn.BatchNorm2d(8), tn.ReLU6()),
        "gate": (
            lambda x, a, b: x * torch.sigmoid(b(f.hardswish(a(f.adaptive_avg_pool2d(x, 1))))),
            tn.Conv2d(4, 2, 1), tn.Conv2d(2, 4, 1),
        ),
        "activations": tn.Sequential(
            tn.Hardsigmoid(), tn.Hardswish(), tn.SiLU(), tn.Mish(), tn.ELU(), tn.CELU(2.0), tn.SELU(),
            tn.LeakyReLU(0.2), tn.PReLU(4), tn.Softplus(), tn.Softsign(), tn.Hardtanh(-0.5, 0.7),
        ),
        "gelu": tn.Sequential(tn.GELU(), tn.GELU("tanh")),
        "group norm": tn.GroupNorm(2, 4),
        "instance norm": tn.Sequential(tn.InstanceNorm2d(4, affine=True), tn.InstanceNorm2d(4)),
        "layer norm": (lambda x, norm: norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), tn.LayerNorm(4)),
        "view": (lambda x, head: head(x.view(x.size(0), -1)), tn.Linear(256, 10)),
        "head": tn.Sequential(tn.AdaptiveAvgPool2d(1), tn.Flatten(), tn.Dropout(0.2), tn.Linear(4, 10)),
        "log softmax": tn.LogSoftmax(1),
        "adaptive": tn.AdaptiveAvgPool2d(4),
        "mean": (lambda x: x.mean([2, 3]),),
        "pools": tn.Sequential(tn.MaxPool2d(3, 2, 1, ceil_mode=True), tn.AvgPool2d(3, 2, 1, count_include_pad=False)),
        "nearest": tn.Upsample(scale_factor=2),
        "bilinear": tn.Upsample(scale_factor=2, mode="bilinear"),
        "corners": tn.Upsample(size=(13, 11), mode="bilinear", align_corners=True),
        "cubic": (lambda x: f.interpolate(x, size=(12, 12), mode="bicubic"),),
        "twice": (lambda x: f.interpolate(x, size=(x.shape[2] * 2, x.shape[3] * 2)),),
        "pixels": tn.Sequential(tn.PixelUnshuffle(2), tn.PixelShuffle(2)),
        "shuffle": (_shuffled,),
        "chunks": (lambda x: torch.cat([part * 2 for part in x.chunk(2, 1)], 1),),
        "split": (lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1),),
        "focus": (lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2]], 1),),
        "crop": (lambda x: x[:, :, 1:-1, 1:-1],),
        "padding": (lambda x: f.pad(f.pad(x, (1, 2, 0, 1)), (0, 0, 0, 0, 1, 1)),),
        "reflection": tn.ReflectionPad2d(1),
        "circular": tn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        "transposed": tn.ConvTranspose2d(4, 3, 3, 2, 1, 1),
        "clamps": (lambda x: x.clamp(min=-0.3) + x.clamp(max=0.2),),
        "arithmetic": (lambda x: (x - 0.5) / 0.25 * x + 1 / (x.abs() + 1),),
        "broadcast": (lambda x: x * torch.arange(4.0).view(1, 4, 1, 1) + torch.ones(8),),
        "extremes": (lambda x: torch.maximum(x, -x) - torch.minimum(x, x * 2),),
        "sums": (lambda x: x.amax((2, 3), keepdim=True) + x.sum(1, keepdim=True),),
        "glu": (lambda x: f.glu(x, 1),),
        "residual": (lambda x, conv: x + conv(x), tn.Conv2d(4, 4, 3, padding="same", groups=2)),
        "squeeze": (lambda x: x.mean(1).unsqueeze(1).squeeze(1),),
        "rows": (lambda x, linear: linear(x), tn.Linear(8, 5)),
        "product": (lambda x: x @ torch.ones(8, 3),),
        "lines": (lambda x, conv: conv(x.flatten(2)), tn.Conv1d(4, 6, 3, padding=1)),
    }  # fmt: skip


NAMES = [
    "conv", "gate", "activations", "gelu", "group norm", "instance norm", "layer norm", "view", "head", "log softmax",
    "adaptive", "mean", "pools", "nearest", "bilinear", "corners", "cubic", "twice", "pixels", "shuffle", "chunks",
    "split", "focus", "crop", "padding", "reflection", "circular", "transposed", "clamps", "arithmetic", "broadcast",
    "extremes", "sums", "glu", "residual", "squeeze", "rows", "product", "lines",
]  # fmt: skip


def module_of(torch: Any, name: str) -> Any:
    torch.manual_seed(0)
    found = modules(torch)[name]
    if not isinstance(found, tuple):
        return found.eval()

    class Model(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList(found[1:])

        def forward(self, x: Any) -> Any:
            return found[0](x, *self.parts)

    return Model().eval()


def test_every_model_has_a_test() -> None:
    torch = pytest.importorskip("torch")
    assert list(modules(torch)) == NAMES


@pytest.mark.parametrize("batch", ["fixed", "open"])
@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_pytorch(tmp_path: Path, name: str, exporter: str, batch: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    module, path = module_of(torch, name), str(tmp_path / "model.onnx")
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    given = x.detach()
    if exporter == "dynamo":
        pytest.importorskip("onnxscript")
        dims = {0: torch.export.Dim("n")} if batch == "open" else None
        torch.onnx.export(
            module, (given,), path, dynamo=True, verbose=False, dynamic_shapes=None if dims is None else (dims,)
        )
    else:
        axes = {"x": {0: "n"}} if batch == "open" else None
        torch.onnx.export(module, (given,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    expected = module(x)
    expected.backward(torch.ones_like(expected))
    graph = nc.onnx.load(path)
    with nn.enable_grad():
        y = graph(given.numpy())
    dx = graph.backward(np.ones_like(y))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx, x.grad.numpy(), rtol=1e-3, atol=1e-3)
    if batch == "open":
        more = torch.randn(5, 4, 8, 8)
        np.testing.assert_allclose(graph(more.numpy()), module(more).detach().numpy(), rtol=1e-4, atol=1e-4)
