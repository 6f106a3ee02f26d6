"""The machine that a benchmark ran on: what it is, and the rates that no kernel can pass."""

from __future__ import annotations

import os
import platform
from typing import Any, NamedTuple

import numba

import numbacnn
from numbacnn.backends import Backend
from numbacnn.backends.cpu.runtime import threads
from numbacnn.info import cpu_model, package_version

from . import gpu
from .ceilings import Mix, Traffic, last_cache_bytes, peak_gflops, traffic_of_memory

__all__ = ["Machine", "ceilings", "describe", "examine", "layer", "title", "versions"]

COPY = Mix(read=1 << 20, written=1 << 20)
COPIES = 5


class Machine(NamedTuple):
    """Where a backend computes: in a line, and all that is known of it, its ceilings among that."""

    title: str
    facts: dict[str, Any]

    @property
    def peak(self) -> float:
        """GFLOP/s in float32."""
        return float(self.facts["peak_gflops"])

    def peak_in(self, precision: str) -> float:
        """GFLOP/s with operands in one of PRECISIONS."""
        return float(self.facts.get(f"peak_gflops_{precision}", self.peak))

    @property
    def bandwidth(self) -> float:
        """GB/s of copying, read and written bytes counted."""
        return float(self.facts["copy_gb_per_second"])

    @property
    def limits(self) -> str:
        """The ceilings in a line."""
        origin = f" ({self.facts['peak_origin']})" if "peak_origin" in self.facts else ""
        one = self.facts.get("peak_gflops_1_thread")
        of_threads = f" on {self.facts['threads']} threads, {one:.1f} on one" if one else ""
        return f"ceilings: {self.peak:.1f} GFLOP/s in float32{of_threads}{origin}, copying {self.bandwidth:.1f} GB/s"

    def examined_again(self) -> Machine:
        """With the ceilings of the CPU measured once more, of which the higher ones count."""
        if "gpu" in self.facts:
            return self
        again = ceilings()
        return Machine(self.title, {**self.facts, **{key: max(self.facts[key], again[key]) for key in again}})


def examine(backend: Backend) -> Machine:
    """The machine of a backend; takes some seconds. UserError for a GPU that is only simulated."""
    if backend.name == "cuda":
        facts = gpu.describe()
        return Machine(gpu.title(facts), {**facts, "host": describe(), **gpu.ceilings(facts)})
    facts = describe()
    return Machine(title(facts), {**facts, **ceilings()})


def layer(backend: Backend) -> str | None:
    """What runs the chunks of our kernels on the threads; None on a GPU and where the compiler is off."""
    return None if backend.asynchronous or numba.config.DISABLE_JIT else threads.layer()


def title(facts: dict[str, Any]) -> str:
    """What :func:`describe` found, in a line."""
    layer = f" ({facts['threading_layer']})" if facts["threading_layer"] else ""
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads{layer}"


def describe() -> dict[str, Any]:
    """Processor, cores, threads in use and their layer, operating system."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": numba.get_num_threads(),
        "threading_layer": None if numba.config.DISABLE_JIT else threads.layer(),
        "last_cache_bytes": last_cache_bytes(),
        "os": platform.platform(),
    }


def versions(*others: str) -> dict[str, str | None]:
    """Versions of Python, of this project and what it stands on, and of the distributions ``others``."""
    return {
        "numbacnn": numbacnn.__version__,
        "python": platform.python_version(),
        **{name: package_version(name) for name in ("numpy", "numba", "llvmlite", *others)},
    }


def ceilings() -> dict[str, float]:
    """The rates with the threads in use, and the peak of one thread; takes some seconds."""
    threads = numba.get_num_threads()
    traffic = Traffic(threads, traffic_of_memory(last_cache_bytes()))
    copy = min(traffic.seconds(COPY) for _ in range(COPIES))
    one = peak_gflops(1)
    return {
        "peak_gflops": one if threads == 1 else max(one, peak_gflops(threads)),
        "peak_gflops_1_thread": one,
        "copy_gb_per_second": 1e-9 * COPY.bytes / copy,
    }
