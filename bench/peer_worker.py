"""An ONNX graph run by another library, alone in its process; ``bench.peers`` starts it.

Each library has as many threads as it is told and is otherwise as it comes: ONNX Runtime's threads go on watching for
work after a call. OpenVINO, MNN and ncnn, which may round to fewer bits where the processor can, are told to compute in
float32. MNN and ncnn read files of their own, which their converters put beside the graph's.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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


def mnn_runner(graph: str, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """What computes the graph's only output for ``x``, by MNN."""
    import _tools  # MNN's; the package's own module for it installs others when it is imported
    import MNN

    converted = str(Path(graph).with_suffix(".mnn"))
    options = {"-f": "ONNX", "--modelFile": graph, "--MNNModel": converted, "--bizCode": "bench"}
    _tools.mnnconvert(["mnnconvert", *(word for pair in options.items() for word in pair)])
    settings = {"backend": "CPU", "precision": "high", "numThread": threads}
    runtime = MNN.nn.create_runtime_manager((settings,))
    network = MNN.nn.load_module_from_file(converted, [], [], runtime_manager=runtime)
    images = MNN.expr.const(x, list(x.shape))
    return lambda: np.array(network.onForward([images])[0].read())


def ncnn_runner(graph: str, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """What computes the graph's only output for ``x``, a single image, by ncnn."""
    import ncnn
    import pnnx

    shape = ",".join(map(str, x.shape))
    command = [pnnx.EXEC_PATH, graph, f"inputshape=[{shape}]", "fp16=0", "device=cpu"]
    subprocess.run(command, cwd=Path(graph).parent, capture_output=True, check=True)
    network = ncnn.Net()
    network.opt.num_threads = threads
    network.opt.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage"):
        setattr(network.opt, name, False)
    for load, kind in ((network.load_param, "param"), (network.load_model, "bin")):
        if load(str(Path(graph).with_suffix(f".ncnn.{kind}"))):
            raise RuntimeError(f"ncnn cannot read the {kind} file that pnnx made")
    image = ncnn.Mat(x[0]).clone()  # what it is made of may go

    def run() -> np.ndarray:
        extractor = network.create_extractor()
        extractor.input("in0", image)
        return np.array(extractor.extract("out0")[1])[None]

    return run


RUNNERS = {
    "onnxruntime": onnxruntime_runner,
    "openvino": openvino_runner,
    "mnn": mnn_runner,
    "ncnn": ncnn_runner,
}


def main(library: str, threads: str, graph: str, inputs: str) -> None:
    """Serve ``outputs``, which writes them to a file, and ``sample``, which tells the seconds of a call."""

    @functools.cache
    def runner() -> Callable[[], np.ndarray]:
        # Made amid a request, so that what a library prints does not come between the answers.
        return RUNNERS[library](graph, np.load(inputs), int(threads))

    serve({"outputs": lambda path: np.save(path, runner()()), "sample": lambda: timed(runner())})


if __name__ == "__main__":
    main(*sys.argv[1:])
