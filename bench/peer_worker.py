"""An ONNX graph run by another library, alone in its process; ``bench.peers`` starts it.

Each library has as many threads as it is told and is otherwise as it comes: ONNX Runtime's threads go on watching for
work after a call. OpenVINO, which may round to fewer bits where the processor can, is told to compute in float32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .worker import serve, timed


def onnxruntime_runner(graph: str, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """What computes the graph's only output for ``x``, by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def openvino_runner(graph: str, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """What computes the graph's only output for ``x``, by OpenVINO."""
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(graph, "CPU", settings)
    return lambda: compiled(x, share_inputs=True)[0]


RUNNERS = {"onnxruntime": onnxruntime_runner, "openvino": openvino_runner}


def main(library: str, threads: str, graph: str, inputs: str) -> None:
    """Serve ``outputs``, which writes them to a file, and ``sample``, which tells the seconds of a call."""
    run = RUNNERS[library](graph, np.load(inputs), int(threads))
    serve({"outputs": lambda path: np.save(path, run()), "sample": lambda: timed(run)})


if __name__ == "__main__":
    main(*sys.argv[1:])
