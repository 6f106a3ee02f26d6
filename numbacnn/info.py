"""What numbacnn finds on this machine: ``python -m numbacnn.info``.

Every line is asked for on its own, so that one broken package or tool leaves the others readable.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import __version__, backends
from .command_line import Parser, printable, say

__all__ = ["collect", "cpu_model", "gpus", "main", "new_parser", "package_version", "register_tile"]

PACKAGES = ("numpy", "numba", "llvmlite", "safetensors", "tqdm")
# Distribution: what it adds, and how to get it.
EXTRAS = {
    "pooch": ("downloads of data sets", 'pip install "numbacnn[data]"'),
    "pillow": ("folders of images", 'pip install "numbacnn[data]"'),
    "matplotlib": ("plots", 'pip install "numbacnn[plot]"'),
    "tensorboard": ("what TensorBoard shows of a run", 'pip install "numbacnn[tensorboard]"'),
    "mpi4py": ("training by several processes", 'pip install "numbacnn[distributed]"'),
    "nccl4py": ("gradients from GPU to GPU", 'pip install "numbacnn[distributed-cuda]"'),
    "torch": ("a peer in benchmarks", 'pip install "numbacnn[bench]"'),
    "onnxruntime": ("a peer in benchmarks", "pip install onnxruntime"),
    "numba-cuda": ("kernels on NVIDIA GPUs", 'pip install "numbacnn[cuda]"'),
}
LAYERS = {
    "workers": "threads of its own, which watch for work for some tenths of a millisecond and then sleep",
    "omp": "OpenMP is not fork-safe: in a forked child kernels run serially",
    "tbb": "Threading Building Blocks: in a forked child kernels run serially",
    "workqueue": "Numba's own threads: launches are serialised, and in a forked child kernels run serially",
}
SMOKE_SIZE = 1 << 20
TOOL_TIMEOUT = 5.0


def collect() -> dict[str, Any]:
    """Everything that ``python -m numbacnn.info`` prints, as values that JSON can hold.

    A part that cannot be found out is ``{"error": reason}``; nothing is raised. It takes about a second, because one
    kernel is compiled, or loaded from the cache, and run.

    >>> collect()["backends"]["reference"] is None
    True
    """
    return {
        "numbacnn": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "os": _attempt(platform.platform),
        "packages": {name: package_version(name) for name in PACKAGES},
        "cpu": _attempt(_cpu),
        "threads": _attempt(_threads),
        "kernel_cache": _attempt(_kernel_cache),
        "backends": _attempt(backends.available),
        "extras": {name: {"version": package_version(name), "install": how} for name, (_, how) in EXTRAS.items()},
        "data": _attempt(_data),
        "gpus": _attempt(gpus),
        "smoke_test": _attempt(_smoke_test),
    }


def package_version(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def cpu_model() -> str:
    """The processor as its maker calls it, or the next best name that the system has."""
    try:
        if platform.system() == "Linux":
            for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition(":")
                if name.strip() == "model name" and value.strip():
                    return value.strip()
        if platform.system() == "Darwin":
            return _output_of("sysctl", "-n", "machdep.cpu.brand_string").strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return platform.processor() or platform.machine() or "unknown"


def register_tile() -> tuple[int, int]:
    """Rows and float32 columns of the sums that the CPU backend's products keep in registers, where they are most."""
    from .backends.cpu.vector.simd import VECTOR_BYTES
    from .backends.cpu.vector.tiles import LARGEST

    return LARGEST.rows, LARGEST.vectors * VECTOR_BYTES // 4


def _cpu() -> dict[str, Any]:
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    instructions = next((name for name in ("avx512f", "avx2", "neon") if features.get(name)), "baseline")
    return {
        "model": cpu_model(),
        "llvm_name": llvmlite.binding.get_host_cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": instructions,
        "tile": list(register_tile()),
    }


def _threads() -> dict[str, Any]:
    from numba.core import config

    from .backends.cpu.runtime import threads

    if config.DISABLE_JIT:
        return {"number": 1, "layer": None, "remark": "NUMBA_DISABLE_JIT is set: kernels run as plain Python"}
    layer = threads.layer()
    return {"number": threads.number(), "layer": layer, "remark": LAYERS.get(layer, "")}


def _kernel_cache() -> dict[str, Any]:
    from .backends.cpu.runtime.machine_code import cache_folder

    folder = cache_folder()
    if folder is None:
        return {"folder": None, "writable": False, "files": 0, "bytes": 0}
    sizes = [entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()]
    return {"folder": str(folder), "writable": True, "files": len(sizes), "bytes": sum(sizes)}


def _data() -> dict[str, Any]:
    folder = os.environ.get("NUMBACNN_DATA") or None
    cache = None
    if package_version("pooch"):
        import pooch

        cache = str(pooch.os_cache("numbacnn"))
    return {
        "NUMBACNN_DATA": folder,
        "exists": folder is not None and os.path.isdir(folder),
        "download_cache": cache,
    }


def gpus() -> list[dict[str, str]]:
    """Name and driver version of each GPU that nvidia-smi knows; none where there is no nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return []
    table = _output_of("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    rows = [line.rpartition(",") for line in table.splitlines() if "," in line]
    return [{"name": name.strip(), "driver": driver.strip()} for name, _, driver in rows]


def _smoke_test() -> dict[str, Any]:
    cpu: Any = backends.get("cpu")
    x = np.linspace(-1, 1, SMOKE_SIZE, dtype=np.float32)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        y = cpu.relu(x)
        seconds.append(time.perf_counter() - start)
    return {"right": bool((y == np.maximum(x, 0)).all()), "first_seconds": seconds[0], "second_seconds": seconds[1]}


def _output_of(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=TOOL_TIMEOUT, check=True
    ).stdout


def _attempt(probe: Callable[[], Any]) -> Any:
    try:
        return probe()
    except Exception as error:  # a report on what is broken must not break
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Labels and texts, in the order of printing."""
    lines = [("numbacnn", found["numbacnn"]), ("python", found["python"]), ("os", _text(found["os"], str))]
    lines += [(name, version or "missing, although numbacnn needs it") for name, version in found["packages"].items()]
    lines += [
        ("cpu", _text(found["cpu"], "{model} ({llvm_name}), {usable_cores} of {cores} cores usable".format_map)),
        ("instructions", _text(found["cpu"], _instructions_text)),
        ("threads", _text(found["threads"], "{number}".format_map)),
        ("threading layer", _text(found["threads"], _layer_text)),
        ("kernel cache", _text(found["kernel_cache"], _cache_text)),
    ]
    states = found["backends"]
    if "error" in states:
        lines.append(("backends", _text(states, str)))
    else:
        lines += [(f"backend {name}", f"missing: {why}" if why else "available") for name, why in states.items()]
    for name, extra in found["extras"].items():
        missing = f"missing ({EXTRAS[name][0]}): {extra['install']}"
        lines.append((name, extra["version"] or missing))
    lines += [
        ("data folder", _text(found["data"], _data_text)),
        ("download cache", _text(found["data"], lambda data: data["download_cache"] or "none without pooch")),
        ("gpu", _text(found["gpus"], _gpu_text)),
        ("smoke test", _text(found["smoke_test"], _smoke_text)),
    ]
    return lines


def _text(part: Any, describe: Callable[[Any], str]) -> str:
    return f"unknown ({part['error']})" if isinstance(part, dict) and "error" in part else describe(part)


def _instructions_text(cpu: dict[str, Any]) -> str:
    rows, columns = cpu["tile"]
    return f"{cpu['instructions']}, register tile {rows}x{columns} float32"


def _layer_text(threads: dict[str, Any]) -> str:
    return f"{threads['layer'] or 'none'} ({threads['remark']})"


def _cache_text(cache: dict[str, Any]) -> str:
    if not cache["writable"]:
        return "not writable, so every process compiles its kernels anew: set NUMBA_CACHE_DIR to a writable folder"
    return f"{cache['folder']}, writable, {cache['bytes'] / 1e6:.1f} MB in {cache['files']} files"


def _data_text(data: dict[str, Any]) -> str:
    if data["NUMBACNN_DATA"] is None:
        return "NUMBACNN_DATA is not set"
    return data["NUMBACNN_DATA"] + ("" if data["exists"] else " (no such folder)")


def _gpu_text(gpus: list[dict[str, str]]) -> str:
    return "; ".join(f"{gpu['name']}, driver {gpu['driver']}" for gpu in gpus) or "none found"


def _smoke_text(test: dict[str, Any]) -> str:
    verdict = "right" if test["right"] else "WRONG"
    first, then = test["first_seconds"] * 1e3, test["second_seconds"] * 1e3
    return f"relu of {SMOKE_SIZE:,} numbers is {verdict}: {first:.1f} ms with compiling or loading, {then:.2f} ms then"


def new_parser(program: str) -> Parser:
    """The options of the command."""
    parser = Parser(program, "What numbacnn finds on this machine.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str] | None = None, program: str = "python -m numbacnn.info") -> int:
    """Print what was found; ``--json`` prints the dictionary of :func:`collect`."""
    arguments = new_parser(program).parse_args(argv)
    found = collect()
    if arguments.json:
        text = json.dumps(found, indent=2)
    else:
        lines = _lines(found)
        width = max(len(label) for label, _ in lines)
        text = "\n".join(f"{label:{width}}  {value}" for label, value in lines)
    # A folder's name may hold what the terminal's encoding has no sign for.
    say(printable(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
