"""Modules that import only where something more is installed are not searched for doctests elsewhere."""

from __future__ import annotations

from numbacnn.info import package_version

NEEDED = {
    "bench/torch_graph.py": "torch",
    "bench/torch_models.py": "torch",
    "bench/onnx_graph.py": "onnx",
    "numbacnn/backends/cuda": "numba-cuda",
    "tests/backends/cuda/compile_only.py": "numba-cuda",
}
collect_ignore = [path for path, package in NEEDED.items() if package_version(package) is None]
