"""Which backends the suite runs on, and how hypothesis behaves."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings
from numba.core import config

from numbacnn import backends
from tests.on_numpy import Captured, OnNumPy

# First calls compile, so no deadline; the fixtures here hold nothing that one example could leave to the next.
settings.register_profile(
    "numbacnn",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("numbacnn")


COVERED_PERCENT = 95
# What begins with one of these takes long: `-m "not slow"` leaves it out and answers in a minute.
SLOW = (
    "README.md",
    "docs/",
    *(f"tests/backends/cpu/test_{name}.py" for name in ("as_python", "kernel", "no_errors_in_kernels", "pool_pixels")),
    *(f"tests/backends/cpu/test_{name}.py" for name in ("precompile", "thread_pool", "threads", "tiles")),
    "tests/backends/cpu/test_winograd_range.py",
    "tests/backends/cuda/",
    "tests/backends/test_interrupts.py",
    "tests/backends/test_parity_conv.py",
    "tests/backends/test_sums.py",
    "tests/bench/",
    "tests/data/test_loader.py",
    "tests/distributed/",
    "tests/docs/",
    "tests/examples/",
    "tests/models/",
    *(f"tests/onnx/test_{name}.py" for name in ("damaged", "runtimes", "save", "suites", "torch", "torch_networks")),
    "tests/ops/test_memory_limits.py",
    "tests/test_installed.py",
    "tests/training/test_resume.py",
)
# What takes a minute and more begins first, so that no process is left with it at the end; the first of all compiles
# kernels that the others find in the cache.
FIRST = (
    "tests/backends/cpu/test_no_errors_in_kernels.py",
    "tests/backends/cuda/test_compile.py",
    "tests/backends/cuda/test_simulator.py",
    "tests/backends/cpu/test_threads.py",
    "tests/backends/cpu/test_as_python.py",
    "tests/onnx/test_save.py",
    "tests/examples/test_train.py",
)
CAPTURED = "cpu-captured"


def pytest_configure(config: pytest.Config) -> None:
    """Demand coverage of a run of the whole suite; a part of it covers what it covers."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    coverage = config.pluginmanager.getplugin("_cov")
    if whole and coverage is not None and not config.getoption("--backend"):
        coverage.options.cov_fail_under = COVERED_PERCENT


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        choices=backends.NAMES,
        help="run the tests of this backend; may be repeated; default: every backend that can be used here",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        if not config.ENABLE_CUDASIM and "[cuda" in item.name:
            item.add_marker(pytest.mark.gpu)
        if item.get_closest_marker("torch") and not find_spec("torch"):
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed"))
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(FIRST)))


def pytest_collection_finish() -> None:
    """Keep what was collected, which stays, out of each garbage collection to come."""
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = tuple(metafunc.config.getoption("--backend") or ())
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", _backend_names(chosen), indirect=True)
    fast = [name for name in _backend_names(chosen) if name != "reference"]
    if "fast_backend" in metafunc.fixturenames:
        metafunc.parametrize("fast_backend", fast, indirect=True)
    if "ours" in metafunc.fixturenames:
        fast = [*fast, *([CAPTURED] if "cpu" in fast and not config.DISABLE_JIT else [])]
        if "algorithm" in metafunc.fixturenames:
            pairs = [(name, algorithm) for name in fast for algorithm in _algorithms(name)]
            metafunc.parametrize(("ours", "algorithm"), pairs, indirect=["ours"])
        else:
            metafunc.parametrize("ours", fast, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[backends.Backend]:
    """A backend, the default one while the test runs; the test runs once for each."""
    with backends.use_backend(request.param) as module:
        yield module


@pytest.fixture
def fast_backend(request: pytest.FixtureRequest) -> Iterator[backends.Backend]:
    """A backend other than the reference, the default one while the test runs; the test runs once for each."""
    with backends.use_backend(request.param) as module:
        yield module


@pytest.fixture
def ours(request: pytest.FixtureRequest) -> OnNumPy:
    """A backend that is compared with the reference, on NumPy arrays; the test runs once for each."""
    return Captured(backends.get("cpu")) if request.param == CAPTURED else OnNumPy(backends.get(request.param))


def _algorithms(name: str) -> tuple[str, ...]:
    return backends.get("cpu" if name == CAPTURED else name).conv2d_algorithms()


@functools.cache
def _backend_names(chosen: tuple[str, ...]) -> list[str]:
    reasons = backends.available()
    for name in chosen:
        if reasons[name] is not None:
            raise pytest.UsageError(f"--backend {name}: {reasons[name]}")
    return list(dict.fromkeys(chosen)) or [name for name, reason in reasons.items() if reason is None]
