"""Modules that import only where a peer is installed are not searched for doctests elsewhere."""

from __future__ import annotations

from numbacnn.info import package_version

collect_ignore = [] if package_version("torch") else ["torch_models.py"]
