"""Networks as people write them, exported by PyTorch to be trained further: outputs, and each weight's gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

WITHOUT_GRADIENT = {"non-local block": {"keys.bias"}}
"""Weights that change nothing: a softmax does not see what is added to all of its inputs."""
OTHER_NAMES = {"ConvNeXt block": {"scale"}, "norm by hand": {"w", "b"}, "window attention": {"b"}}
"""Weights that are no layer's, but operands: they have the names of the nodes."""


def networks(torch: Any) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """A function of the parts and of the inputs, and the parts: modules, and numbers that are weights."""
    tn, f = torch.nn, torch.nn.functional

    def conv(inputs: int, outputs: int, kernel: int = 3, groups: int = 1, stride: int = 1) -> Any:
        layer = tn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return tn.Sequential(layer, tn.BatchNorm2d(outputs), tn.ReLU())

    def gated(m: Any, x: Any) -> Any:
        y = f.hardswish(m.wide(x))
        return x + m.narrow(y * f.hardsigmoid(m.open(f.relu(m.close(f.adaptive_avg_pool2d(y, 1))))))

    def u_net(m: Any, x: Any) -> Any:
        a = m.down(x)
        b = m.up(m.low(f.max_pool2d(a, 2)))
        return m.out(torch.cat([a, b, f.interpolate(b[:, :, ::2, ::2], size=a.shape[-2:], mode="bilinear")], 1))

    def cbam(m: Any, x: Any) -> Any:
        n, c = x.shape[:2]
        gate = m.mlp(f.adaptive_avg_pool2d(x, 1).view(n, c)) + m.mlp(f.adaptive_max_pool2d(x, 1).view(n, c))
        x = x * torch.sigmoid(gate).view(n, c, 1, 1)
        return x * torch.sigmoid(m.where(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)))

    def convnext(m: Any, x: Any) -> Any:
        y = m.close(f.gelu(m.open(m.norm(m.depthwise(x).permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)
        return m.last(m.scale * y + x)

    def norm_by_hand(m: Any, x: Any) -> Any:
        y = m.conv(x)
        mean = y.mean(1, keepdim=True)
        variance = (y - mean).pow(2).mean(1, keepdim=True)
        return f.normalize(m.w[:, None, None] * (y - mean) / torch.sqrt(variance + 1e-6) + m.b[:, None, None], dim=1)

    def shuffled(m: Any, x: Any) -> Any:
        a, b = x.chunk(2, 1)
        y = torch.cat([a, m.branch(b)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    def non_local(m: Any, x: Any) -> Any:
        queries, keys, values = (part(x).flatten(2) for part in (m.queries, m.keys, m.values))
        shares = torch.softmax(queries.transpose(1, 2) @ keys, -1)
        return x + m.out((shares @ values.transpose(1, 2)).transpose(1, 2).reshape(x.shape[0], 3, 8, 8))

    def windows(m: Any, x: Any) -> Any:
        n = x.shape[0]
        parts = m.norm(x.permute(0, 2, 3, 1)).view(n, 2, 4, 2, 4, 4).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 4)
        q, k, v = m.qkv(parts).chunk(3, -1)
        y = m.out(((q * 0.5) @ k.transpose(-2, -1) + m.b).softmax(-1) @ v)
        return x + y.view(n, 2, 2, 4, 4, 4).permute(0, 1, 3, 2, 4, 5).reshape(n, 8, 8, 4).permute(0, 3, 1, 2)

    def channel_attention(m: Any, x: Any) -> Any:
        y = f.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        return x * torch.sigmoid(m.conv(y).transpose(-1, -2).unsqueeze(-1)).expand_as(x)

    return {
        "residual block": (
            lambda m, x: f.relu(m.second(m.first(x)) + m.shortcut(x)),
            {"first": conv(4, 8, stride=2), "second": conv(8, 8), "shortcut": conv(4, 8, 1, stride=2)},
        ),
        "inverted residual": (
            gated,
            {"wide": tn.Sequential(conv(4, 12, 1), conv(12, 12, 5, 12)), "close": tn.Conv2d(12, 3, 1),
             "open": tn.Conv2d(3, 12, 1), "narrow": conv(12, 4, 1)},
        ),
        "U-Net": (
            u_net,
            {"down": conv(4, 6), "low": conv(6, 8), "up": tn.ConvTranspose2d(8, 6, 2, 2), "out": conv(18, 3)},
        ),
        "CBAM": (
            cbam,
            {"mlp": tn.Sequential(tn.Linear(4, 2), tn.ReLU(), tn.Linear(2, 4)), "where": tn.Conv2d(2, 1, 7, padding=3)},
        ),
        "ConvNeXt block": (
            convnext,
            {"depthwise": tn.Conv2d(4, 4, 7, padding=3, groups=4), "norm": tn.LayerNorm(4, eps=1e-6),
             "open": tn.Linear(4, 16), "close": tn.Linear(16, 4), "scale": torch.full((4, 1, 1), 0.5),
             "last": conv(4, 4)},
        ),
        "norm by hand": (norm_by_hand, {"conv": tn.Conv2d(4, 5, 3), "w": torch.rand(5) + 0.5, "b": torch.rand(5)}),
        "ShuffleNet block": (shuffled, {"branch": tn.Sequential(conv(2, 2, 1), conv(2, 2, 3, 2), conv(2, 2, 1))}),
        "two inputs": (
            lambda m, x, z: torch.sigmoid(m.head(torch.abs(m.tower(x) - m.tower(z)).flatten(1))),
            {"tower": tn.Sequential(conv(4, 6), tn.MaxPool2d(2)), "head": tn.Linear(96, 1)},
        ),
        "non-local block": (
            non_local,
            {"queries": tn.Conv2d(4, 3, 1), "keys": tn.Conv2d(4, 3, 1), "values": tn.Conv2d(4, 3, 1),
             "out": tn.Conv2d(3, 4, 1)},
        ),
        "window attention": (
            windows,
            {"norm": tn.LayerNorm(4), "qkv": tn.Linear(4, 12), "out": tn.Linear(4, 4), "b": torch.randn(1, 16, 16)},
        ),
        "channel attention": (channel_attention, {"conv": tn.Conv1d(1, 1, 3, padding=1, bias=False)}),
    }  # fmt: skip


NAMES = [
    "residual block", "inverted residual", "U-Net", "CBAM", "ConvNeXt block", "norm by hand", "ShuffleNet block",
    "two inputs", "non-local block", "window attention", "channel attention",
]  # fmt: skip


def module_of(torch: Any, name: str) -> Any:
    """In evaluation mode, with statistics and weights that no two layers have in common."""
    torch.manual_seed(0)
    function, parts = networks(torch)[name]

    class Network(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            for key, part in parts.items():
                setattr(self, key, part if isinstance(part, torch.nn.Module) else torch.nn.Parameter(part))

        def forward(self, *inputs: Any) -> Any:
            return function(self, *inputs)

    model = Network().eval()
    with torch.no_grad():
        for key, state in [*model.named_parameters(), *model.named_buffers()]:
            if key.endswith("running_var") or (key.endswith("weight") and state.ndim == 1):
                state.uniform_(0.5, 1.5)
            elif key.endswith(("running_mean", "bias")):
                state.normal_(0, 0.2)
    return model


def test_every_network_has_a_test() -> None:
    torch = pytest.importorskip("torch")
    assert list(networks(torch)) == NAMES


def assert_near(found: Any, expected: Any, tolerance: float, what: str) -> None:
    expected = expected.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=what)


@pytest.mark.parametrize(("exporter", "opset"), [("script", 11), ("script", 13), ("script", 17), ("dynamo", 18)])
@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_pytorch(tmp_path: Path, name: str, exporter: str, opset: int) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    module, path = module_of(torch, name), str(tmp_path / "model.onnx")
    inputs = [torch.randn(2, 4, 8, 8, requires_grad=True) for _ in range(2 if name == "two inputs" else 1)]
    given = tuple(x.detach() for x in inputs)
    # Neither folds normalisation into weights then, which one could not train further.
    if exporter == "dynamo":
        pytest.importorskip("onnxscript")
        torch.onnx.export(module, given, path, dynamo=True, opset_version=opset, optimize=False, verbose=False)
    else:
        names = [f"x{i}" for i in range(len(given))]
        torch.onnx.export(
            module, given, path, dynamo=False, opset_version=opset, do_constant_folding=False, input_names=names,
            training=torch.onnx.TrainingMode.PRESERVE, dynamic_axes={name: {0: "n"} for name in names},
        )  # fmt: skip
    expected = module(*inputs)
    dy = torch.randn_like(expected)
    expected.backward(dy)
    graph = nc.onnx.load(path)
    with nn.enable_grad():
        y = graph(*[x.numpy() for x in given])
    dxs = graph.backward(dy.numpy())
    assert_near(y, expected, 1e-5, "y")
    for x, dx in zip(inputs, dxs if isinstance(dxs, tuple) else (dxs,), strict=True):
        assert_near(dx, x.grad, 1e-5, "dx")
    found = {key.replace("/", "."): parameter.grad for key, parameter in graph.named_parameters()}
    wanted = {key: weight.grad for key, weight in module.named_parameters()}
    unnamed = OTHER_NAMES.get(name, set())
    assert len(found) == len(wanted)
    assert wanted.keys() - found.keys() == unnamed
    for key in wanted.keys() - unnamed - WITHOUT_GRADIENT.get(name, set()):
        assert_near(found[key], wanted[key], 1e-4, key)
    for key in unnamed:  # by their numbers, which no other has
        assert any(
            gradient.size == wanted[key].numel()
            and np.allclose(gradient.ravel(), wanted[key].numpy().ravel(), rtol=1e-3, atol=1e-4)
            for gradient in found.values()
        ), key
