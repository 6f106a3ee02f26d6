"""Inference of one model on a batch that stays on the device: ours and PyTorch in two ways, ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbacnn import nn
from numbacnn.backends import Backend, use_backend

from .conv_rows import Contender
from .train_contenders import Task

__all__ = ["images", "inference_flops", "inference_makers", "largest_difference", "training_flops"]

Makers = dict[str, Callable[[], Contender]]


def images(task: Task) -> np.ndarray:
    """A batch of pixels, 0 to 1."""
    return np.random.default_rng(task.seed).random((task.batch_size, *task.model.image_shape), np.float32)


def inference_makers(task: Task, backend: Backend, torch: Any, onnxruntime: Any, threads: int) -> Makers:
    """Who computes the logits of :func:`images`, by name, we first.

    Args:
        torch, onnxruntime: the packages, or None.
        threads: of ONNX Runtime; those of the others are settings of the process.
    """
    with use_backend(backend.name):
        model = task.network().eval()
    found: Makers = {
        "numbacnn": lambda: _ours(model.forward, task, backend),
        "numbacnn session": lambda: _ours(nn.InferenceSession(nn.fold_batch_norm(model)), task, backend),
    }
    if torch is not None:
        device = "cuda" if backend.name == "cuda" else "cpu"
        found["torch"] = lambda: _torch(torch, task, device)
        found["torch.compile"] = lambda: _torch(torch, task, device, torch.compile)
    if onnxruntime is not None and not backend.asynchronous:
        found["onnxruntime"] = lambda: _onnxruntime(onnxruntime, task, threads)
    return found


def _ours(model: Callable[[Any], Any], task: Task, backend: Backend) -> Contender:
    x = backend.asarray(images(task))
    wait = backend.synchronize if backend.asynchronous else None
    return Contender(lambda: model(x), backend.to_numpy, wait)


def _torch(torch: Any, task: Task, device: str, compiled: Callable[[Any], Any] = lambda model: model) -> Contender:
    model = compiled(task.torch_network(torch, device).eval())
    x = torch.from_numpy(images(task)).to(device)

    def run() -> Any:
        with torch.no_grad():
            return model(x)

    return Contender(run, lambda y: np.asarray(y.cpu()), torch.cuda.synchronize if device == "cuda" else None)


def _onnxruntime(onnxruntime: Any, task: Task, threads: int) -> Contender:
    from .onnx_graph import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its threads would otherwise go on looking for work on the cores that the next contender needs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    with use_backend("reference"):
        graph = to_onnx(task.network(), (task.batch_size, *task.model.image_shape))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = images(task)
    return Contender(lambda: session.run(None, {"x": x})[0], np.asarray)


def largest_difference(logits: np.ndarray, ours: np.ndarray) -> float:
    """Between the two, relative to the largest magnitude of ours; infinite for another shape.

    >>> largest_difference(np.array([[1.0, 2.0]]), np.array([[1.0, -4.0]]))
    1.5
    """
    if logits.shape != ours.shape:
        return np.inf
    scale = float(np.abs(ours).max())
    return float(np.abs(logits - ours).max()) / scale if scale else float(np.abs(logits).max())


def inference_flops(task: Task) -> int:
    """Floating-point operations of a forward pass, as ``summary`` counts them."""
    with use_backend("reference"):
        return task.model.ours().flops((task.batch_size, *task.model.image_shape))


def training_flops(task: Task) -> int:
    """Those of a step: backward as many again for the weights and for the inputs, but for the first layer's input."""
    shape = (task.batch_size, *task.model.image_shape)
    with use_backend("reference"):
        model = task.model.ours()
    return 3 * model.flops(shape) - _first_flops(model, shape)


def _first_flops(layer: nn.Layer, shape: tuple[int, ...]) -> int:
    """Of the first layer that has any."""
    children = layer.child_inputs(shape)
    if not children:
        return layer.flops(shape)
    return next((flops for _, child, inner in children if (flops := _first_flops(child, inner))), 0)
