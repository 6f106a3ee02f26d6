"""A model as PyTorch's modules, made from the layer tree, under the same state-dict keys; imports PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn as theirs

from numbacnn import nn

__all__ = ["to_torch"]


class _Branches(theirs.Module):
    """Modules side by side that all get the same input."""

    def forward(self, x: Any) -> Any:
        return self.joined([branch(x) for branch in self.children()])


class _Concat(_Branches):
    def joined(self, outputs: list[Any]) -> Any:
        return torch.cat(outputs, 1)


class _Add(_Branches):
    def joined(self, outputs: list[Any]) -> Any:
        return sum(outputs[1:], outputs[0])


class _DenseBlock(theirs.Module):
    """Modules that each append channels to what they get."""

    def forward(self, x: Any) -> Any:
        for child in self.children():
            x = torch.cat([x, child(x)], 1)
        return x


def to_torch(layer: nn.Layer) -> theirs.Module:
    """A module that computes what ``layer`` does, with weights of its own; TypeError where there is no counterpart."""
    kinds = {nn.Sequential: theirs.Sequential, nn.Concat: _Concat, nn.Add: _Add, nn.DenseBlock: _DenseBlock}
    for kind, container in kinds.items():
        if isinstance(layer, kind):
            module = container()
            for name, child in layer.named_children():
                module.add_module(name, to_torch(child))
            return module
    simple = {
        nn.ReLU: theirs.ReLU, nn.Sigmoid: theirs.Sigmoid, nn.Tanh: theirs.Tanh, nn.Identity: theirs.Identity,
        nn.Flatten: theirs.Flatten,
    }  # fmt: skip
    for kind, module_kind in simple.items():
        if isinstance(layer, kind):
            return module_kind()
    if isinstance(layer, nn.Dropout):
        return theirs.Dropout(layer.p)
    if isinstance(layer, nn.GlobalAvgPool2d):
        return theirs.AdaptiveAvgPool2d(1)
    if isinstance(layer, nn.Linear):
        return theirs.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    if isinstance(layer, nn.BatchNorm2d):
        return theirs.BatchNorm2d(
            layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        )
    if isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        window = layer.window()
        (top, bottom), (left, right) = window.padding
        if (top, left) == (bottom, right):
            return _windowed(layer, window.kernel, window.stride, (top, left), window.dilation)
    raise TypeError(f"{layer!r} has no counterpart in PyTorch")


def _windowed(layer: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> theirs.Module:
    if isinstance(layer, nn.Conv2d):
        return theirs.Conv2d(
            layer.in_channels, layer.out_channels, kernel, stride, padding, dilation, layer.groups,
            bias=layer.bias is not None, padding_mode=layer.padding_mode,
        )  # fmt: skip
    if isinstance(layer, nn.MaxPool2d):
        return theirs.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=layer.ceil_mode)
    return theirs.AvgPool2d(
        kernel, stride, padding, ceil_mode=layer.ceil_mode, count_include_pad=layer.count_include_pad
    )
