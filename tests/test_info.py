"""The report on the machine: what it says, and that nothing that is broken or missing breaks it."""

from __future__ import annotations

import io
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn
from numbacnn import backends, info
from numbacnn.backends.cpu.runtime import threads

CPU = backends.available()["cpu"] is None
LABELS = [
    *("numbacnn", "python", "os", "numpy", "numba", "llvmlite", "safetensors", "tqdm", "cpu", "instructions"),
    *("threads", "threading layer", "kernel cache", "backend reference", "backend cpu", "backend cuda"),
    *(
        "pooch",
        "pillow",
        "matplotlib",
        "tensorboard",
        "mpi4py",
        "nccl4py",
        "torch",
        "onnxruntime",
        "numba-cuda",
        "data folder",
        "download cache",
        "gpu",
        "smoke test",
    ),
]


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The lines of the report by label; their texts stand in one column."""
    assert info.main([]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = [re.split(r"( {2,})", line, maxsplit=1) for line in captured.out.splitlines()]
    assert len({len(label + gap) for label, gap, _ in lines}) == 1
    return {label: text for label, _, text in lines}


@pytest.fixture(autouse=True)
def no_gpu_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def gpu_tool(folder: Path, program: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!{sys.executable}\n{program}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_report_has_a_line_for_everything(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys)
    assert list(lines) == LABELS
    assert lines["numbacnn"] == numbacnn.__version__
    assert lines["numpy"] == np.__version__
    assert lines["backend reference"] == "available"
    assert lines["gpu"] == "none found"


@pytest.mark.skipif(not CPU, reason="the cpu backend cannot be used")
def test_the_report_on_the_cpu_backend(capsys: pytest.CaptureFixture[str]) -> None:
    from numba.core import config

    lines = printed(capsys)
    found = info.collect()
    rows, columns = info.register_tile()
    assert f"register tile {rows}x{columns} float32" in lines["instructions"]
    assert found["cpu"]["instructions"] in {"avx512f", "avx2", "neon", "baseline"}
    assert "relu of 1,048,576 numbers is right: " in lines["smoke test"]
    assert found["smoke_test"]["right"] is True
    assert 0 < found["smoke_test"]["second_seconds"] < 60
    if not config.DISABLE_JIT:
        assert found["threads"]["number"] == threads.number()
        assert found["threads"]["layer"] == threads.layer()
        assert info.LAYERS[threads.layer()] in lines["threading layer"]


def test_json_holds_what_collect_gives(capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main(["--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    collected = json.loads(json.dumps(info.collect()))
    assert content.keys() == collected.keys()
    for key in ("numbacnn", "python", "packages", "cpu", "backends", "extras", "data", "gpus"):
        assert content[key] == collected[key]


@pytest.mark.parametrize("layer", ["workers", "omp", "tbb", "workqueue", "another"])
def test_every_threading_layer_is_explained(layer: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "_threads", lambda: {"number": 3, "layer": layer, "remark": info.LAYERS.get(layer, "")})
    lines = printed(capsys)
    assert lines["threads"] == "3"
    assert lines["threading layer"].startswith(layer)
    assert ("serial" in lines["threading layer"]) == (layer not in ("workers", "another"))


def test_extras_that_are_missing_say_how_to_get_them(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package(name: str) -> str:
        raise info.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(info.importlib.metadata, "version", no_package)
    lines = printed(capsys)
    assert list(lines) == LABELS
    for name, (_, how) in info.EXTRAS.items():
        assert lines[name].startswith("missing (") and lines[name].endswith(how)
    assert lines["numba"] == "missing, although numbacnn needs it"
    assert lines["download cache"] == "none without pooch"


def test_extras_are_those_of_the_package() -> None:
    tomllib = pytest.importorskip("tomllib")
    file = Path(__file__).parents[1] / "pyproject.toml"
    declared = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name, (_, how) in info.EXTRAS.items():
        if "numbacnn[" in how:
            extra = how.partition("[")[2].partition("]")[0]
            assert any(requirement.startswith(name) for requirement in declared[extra]), how


def fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("broken\nin two lines")


@pytest.mark.parametrize(
    ("owner", "name", "labels"),
    [
        (info.platform, "platform", ["os"]),
        (backends, "available", ["backends"]),
        (backends, "get", ["smoke test"]),
        (info, "register_tile", ["cpu", "instructions"]),
        (info, "_threads", ["threads", "threading layer"]),
        (info, "_kernel_cache", ["kernel cache"]),
        (info, "_data", ["data folder", "download cache"]),
        (info, "gpus", ["gpu"]),
    ],
)
def test_a_broken_part_leaves_the_others(
    owner: Any, name: str, labels: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, fails)
    lines = printed(capsys)
    unknown = [label for label, text in lines.items() if text == "unknown (RuntimeError: broken in two lines)"]
    assert unknown == labels
    assert {*LABELS} - {*lines} <= {"backend reference", "backend cpu", "backend cuda"}


@pytest.mark.parametrize("module", ["llvmlite.binding", "numba", "pooch"])
def test_a_package_that_cannot_be_imported(module: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    lines = printed(capsys)
    assert list(lines) == LABELS
    assert lines["backend reference"] == "available"


def test_a_backend_that_cannot_be_used(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "available", lambda: {"reference": None, "cpu": "Numba needs NumPy 2.4 or less"})
    assert printed(capsys)["backend cpu"] == "missing: Numba needs NumPy 2.4 or less"


def test_a_kernel_cache_that_cannot_be_written(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_code = pytest.importorskip("numbacnn.backends.cpu.runtime.machine_code")
    monkeypatch.setattr(machine_code, "cache_folder", lambda: None)
    assert printed(capsys)["kernel cache"].startswith("not writable")
    assert info.collect()["kernel_cache"]["folder"] is None


def test_the_kernel_cache_is_measured(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_code = pytest.importorskip("numbacnn.backends.cpu.runtime.machine_code")
    folder = tmp_path / "kernels"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.nbc").write_bytes(bytes(500_000))
    monkeypatch.setattr(machine_code, "cache_folder", lambda: folder)
    monkeypatch.setattr(info, "_smoke_test", lambda: {"right": False, "first_seconds": 0.5, "second_seconds": 0.001})
    lines = printed(capsys)
    assert lines["kernel cache"] == f"{folder}, writable, 1.5 MB in 3 files"
    assert lines["smoke test"].endswith("numbers is WRONG: 500.0 ms with compiling or loading, 1.00 ms then")


def test_the_data_folder(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBACNN_DATA", raising=False)
    assert printed(capsys)["data folder"] == "NUMBACNN_DATA is not set"
    monkeypatch.setenv("NUMBACNN_DATA", str(tmp_path))
    assert printed(capsys)["data folder"] == str(tmp_path)
    monkeypatch.setenv("NUMBACNN_DATA", str(tmp_path / "nowhere"))
    assert printed(capsys)["data folder"] == f"{tmp_path / 'nowhere'} (no such folder)"


@pytest.mark.skipif(os.name == "nt", reason="a script stands for the tool")
@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("print('NVIDIA H200, 580.95.05')", "NVIDIA H200, driver 580.95.05"),
        ("print('A, B, 1')\nprint('C, 2')", "A, B, driver 1; C, driver 2"),
        ("print('No devices were found')", "none found"),
        ("import os; os.write(1, bytes([255, 254, 44, 49]))", "��, driver 1"),
        ("raise SystemExit(9)", "unknown (CalledProcessError: "),
        ("import time; time.sleep(60)", "unknown (TimeoutExpired: "),
    ],
)
def test_gpus_are_asked_for_with_a_time_limit(
    program: str, text: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_tool(tmp_path, program)
    if "sleep" in program:
        monkeypatch.setattr(info, "TOOL_TIMEOUT", 0.3)
    start = time.monotonic()
    assert printed(capsys)["gpu"].startswith(text)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows", "Other"])
def test_the_processor_has_a_name_wherever_it_is_asked_for(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(info.platform, "system", lambda: system)
    monkeypatch.setattr(info.platform, "processor", lambda: "")
    monkeypatch.setattr(info.platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(pathlib.Path, "read_text", no_file)
    info.cpu_model.cache_clear()
    try:
        assert info.cpu_model() == "riscv64"
    finally:
        info.cpu_model.cache_clear()


def test_a_terminal_without_the_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBACNN_DATA", "/daten/größe")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert info.main([]) == 0
    assert "/daten/gr\\xf6\\xdfe (no such folder)" in terminal.buffer.getvalue().decode("ascii")


def test_a_process_of_its_own_imports_no_extra_and_no_gpu_code_without_a_driver() -> None:
    program = (
        "import sys, numbacnn.info\n"
        "numbacnn.info.main([])\n"
        "heavy = ['torch', 'matplotlib', 'onnxruntime']\n"
        "if 'no NVIDIA driver' in str(numbacnn.backends.available()['cuda']):\n"
        "    heavy += ['numba.cuda', 'numba_cuda']\n"
        "assert not [name for name in heavy if name in sys.modules]\n"
    )
    real = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run([sys.executable, "-c", program], env=real, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "smoke test" in done.stdout
