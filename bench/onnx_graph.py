"""A model in evaluation mode as an ONNX graph, written from the layer tree; needs the package ``onnx``."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from numbacnn import nn

__all__ = ["to_onnx"]

OPSET = 17
IR_VERSION = 8


def to_onnx(model: nn.Layer, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The graph from ``x`` of ``shape`` (n, c, h, w) to ``y`` in float32, with the weights in it.

    TypeError for a layer that has no counterpart here.
    """
    graph = _Graph()
    last = graph.add(model, "x", shape)
    graph.node("Identity", [last], "y")
    described = helper.make_graph(
        graph.nodes,
        "model",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, model.output_shape(shape))],
        graph.constants,
    )
    result = helper.make_model(described, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(result)
    return result


class _Graph:
    """Nodes and constants, in the order in which they are computed."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """The name of what the new node computes."""
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, state: Any) -> str:
        """The name of a parameter or buffer."""
        name = f"w{len(self.constants)}"
        array = np.ascontiguousarray(state.backend.to_numpy(state.value))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, layer: nn.Layer, x: str, shape: tuple[int, ...]) -> str:
        """The name of the layer's output for the input ``x`` of ``shape``."""
        if isinstance(layer, (nn.Concat, nn.Add)):
            outputs = [self.add(branch, x, inner) for _, branch, inner in layer.child_inputs(shape)]
            return self.node("Sum", outputs) if isinstance(layer, nn.Add) else self.node("Concat", outputs, axis=1)
        if isinstance(layer, nn.Sequential):
            for _, child, inner in layer.child_inputs(shape):
                x = self.add(child, x, inner)
            return x
        if isinstance(layer, nn.DenseBlock):
            for _, child, inner in layer.child_inputs(shape):
                x = self.node("Concat", [x, self.add(child, x, inner)], axis=1)
            return x
        if isinstance(layer, (nn.Identity, nn.Dropout)):
            return x
        if isinstance(layer, (nn.ReLU, nn.Sigmoid, nn.Tanh)):
            return self.node({nn.ReLU: "Relu"}.get(type(layer), type(layer).__name__), [x])
        if isinstance(layer, nn.Flatten):
            return self.node("Flatten", [x], axis=1)
        if isinstance(layer, nn.GlobalAvgPool2d):
            return self.node("GlobalAveragePool", [x])
        if isinstance(layer, nn.Linear):
            bias = [] if layer.bias is None else [self.constant(layer.bias)]
            return self.node("Gemm", [x, self.constant(layer.weight), *bias], transB=1)
        if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
            bias = [] if layer.bias is None else [self.constant(layer.bias)]
            return self.node("Conv", [x, self.constant(layer.weight), *bias], group=layer.groups, **_window(layer))
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) and layer.affine and layer.track_running_stats:
            states = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            return self.node("BatchNormalization", [x, *map(self.constant, states)], epsilon=layer.eps)
        if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)) and not layer.ceil_mode:
            return self._pool(layer, x)
        raise TypeError(f"{layer!r} has no counterpart in the ONNX graph")

    def _pool(self, layer: Any, x: str) -> str:
        options = _window(layer)
        if isinstance(layer, nn.MaxPool2d):
            return self.node("MaxPool", [x], **options)
        del options["dilations"]  # always 1, and no attribute before opset 19
        return self.node("AveragePool", [x], count_include_pad=int(layer.count_include_pad), **options)


def _window(layer: Any) -> dict[str, Any]:
    window = layer.window()
    (top, bottom), (left, right) = window.padding
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "dilations": window.dilation,
        "pads": [top, left, bottom, right],
    }
