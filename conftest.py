"""Which files are not searched for tests: those that need more than is installed, and texts that are no tests."""

from __future__ import annotations

from numbacnn.info import package_version

NEEDED = {
    "bench/torch_graph.py": "torch",
    "bench/torch_models.py": "torch",
    "bench/onnx_graph.py": "onnx",
    "tests/models/torch_peers.py": "torch",
    "numbacnn/sklearn": "scikit-learn",
    "docs/scikit-learn.md": "scikit-learn",
    "tests/sklearn": "scikit-learn",
    "numbacnn/explore/server.py": "starlette",
    "numbacnn/backends/cuda": "numba-cuda",
    "tests/backends/cuda/compile_only.py": "numba-cuda",
}
# Sphinx's settings; and steps that are done in a copy of the tree, by tests/docs.
collect_ignore = ["docs/conf.py", "docs/add-an-operation.md"]
collect_ignore += [path for path, package in NEEDED.items() if package_version(package) is None]
