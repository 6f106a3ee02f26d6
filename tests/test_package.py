"""The package as a whole: what importing it costs and offers."""

from __future__ import annotations

import re
import subprocess
import sys
from types import ModuleType

import pytest

import numbacnn as nc

HEAVY = (
    "numba",
    "matplotlib",
    "pooch",
    "tqdm",
    "safetensors",
    "numbacnn.backends.cpu",
    "numbacnn.onnx",
    "numbacnn.training",
)


def test_importing_loads_nothing_heavy() -> None:
    code = f"import sys, numbacnn; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_public_face_is_there_and_listed() -> None:
    names = ["backends", "data", "io", "models", "nn", "ops", "optim", "training"]
    names += ["load", "manual_seed", "save", "summary", "use_backend", "__version__"]
    for name in names:
        assert hasattr(nc, name) and name in dir(nc)
    with pytest.raises(AttributeError, match="module 'numbacnn' has no attribute 'nothing'"):
        _ = nc.nothing


@pytest.mark.parametrize("package", [nc, nc.nn, nc.ops, nc.optim], ids=lambda package: package.__name__)
def test_completion_shows_the_public_face_alone(package):
    names = [name for name in dir(package) if not name.startswith("__")]
    assert names == sorted(package.__all__)
    assert not {"Any", "annotations", "import_module", "TYPE_CHECKING", "public_names"} & set(names)
    modules = {name for name in names if isinstance(getattr(package, name), ModuleType)}
    ours = {"backends", "data", "explain", "io", "models", "nn", "onnx", "ops", "optim", "testing", "training"}
    expected = ours if package is nc else {"init"}
    assert modules <= expected
    assert {"Conv2d", "DenseBlock"} <= set(dir(nc.nn)) and {"conv2d", "linear"} <= set(dir(nc.ops))


def test_a_backend_that_is_missing_says_so():
    reasons = nc.backends.available()
    assert set(reasons) == {"reference", "cpu", "cuda"}
    assert reasons["reference"] is None
    for name, reason in reasons.items():
        if reason is not None:
            assert "\n" not in reason
            with pytest.raises(RuntimeError, match=re.escape(f"backend {name!r} cannot be used: {reason}")):
                nc.use_backend(name)
