"""Modules that import only where a peer is installed are not searched for doctests elsewhere."""

from __future__ import annotations

from numbacnn.info import package_version

NEEDED = {"torch_models.py": "torch", "onnx_graph.py": "onnx"}
collect_ignore = [module for module, package in NEEDED.items() if package_version(package) is None]
