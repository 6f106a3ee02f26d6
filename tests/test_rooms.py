"""Which room may import from which: arrows point down the table, and functions import only what they must."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import numbacnn

PACKAGE = Path(numbacnn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

ALLOWED = {
    "numbacnn": {
        "backends",
        "classifier",
        "data",
        "distributed",
        "drawing",
        "explain",
        "grids",
        "hub",
        "io",
        "models",
        "nn",
        "onnx",
        "ops",
        "optim",
        "profiling",
        "testing",
        "training",
    },
    "classifier": {"hub", "data", "io", "nn", "ops", "files"},
    "drawing": {"nn", "svg"},
    "grids": {"ops", "svg"},
    "svg": {"files"},
    "explore": {
        "backends",
        "classifier",
        "cli",
        "command_line",
        "data",
        "data.readers",
        "drawing",
        "explain",
        "files",
        "hub",
        "io",
        "models",
        "nn",
        "numbacnn",
        "onnx",
        "ops",
        "optim",
        "training",
        "training.records",
    },
    "sklearn": {"training", "models", "data", "optim", "nn", "ops", "backends"},
    "hub": {"numbacnn", "models", "io", "nn", "files"},
    "testing": {"nn", "ops"},
    "explain": {"nn", "ops", "backends.shared", "backends"},
    "info": {"numbacnn", "backends", "command_line", "cpu.runtime", "cpu.vector"},
    "profiling": {"training", "optim", "nn", "ops", "backends"},
    "models": {"io", "nn", "ops"},
    "onnx": {"numbacnn", "command_line", "data", "nn", "ops", "backends.shared", "backends", "files", "namespaces"},
    "distributed": {"nn", "ops", "backends", "cuda.runtime", "sharding", "namespaces", "command_line"},
    "training.reports": {"training", "training.records", "data.arrays", "io", "nn", "ops", "backends", "files"},
    "training": {"training.records", "io", "optim", "nn", "ops", "backends", "namespaces", "sharding"},
    "training.records": {"ops"},
    "data": {"data.datasets", "data.arrays", "data.readers", "data.transforms", "ops", "backends", "sharding"},
    "data.datasets": {"data.arrays", "data.readers", "io", "ops", "files"},
    "data.arrays": {"data.readers", "ops", "backends"},
    "data.readers": {"data.transforms", "io", "ops", "backends", "files"},
    "data.transforms": {"ops", "backends.shared", "backends"},
    "io": {"numbacnn", "nn", "ops", "files", "namespaces"},
    "optim": {"nn", "ops", "backends", "namespaces"},
    "nn": {"ops", "backends", "namespaces"},
    "ops": {"backends", "backends.shared", "namespaces"},
    "cli": {
        "backends",
        "classifier",
        "command_line",
        "cpu.runtime",
        "cuda.runtime",
        "data",
        "data.datasets",
        "distributed",
        "hub",
        "io",
        "models",
        "nn",
        "numbacnn",
        "ops",
        "optim",
        "profiling",
        "sharding",
        "training",
    },
    "__main__": {"cli"},
    "command_line": {"files"},
    "files": set(),
    "sharding": set(),
    "namespaces": set(),
    "backends": {"files"},
    "backends.shared": set(),
    "reference": {"reference.convolution", "backends.shared", "backends", "namespaces"},
    "reference.convolution": {"reference", "backends.shared", "backends"},
    "cpu": {"cpu.convolution", "cpu.vector", "cpu.runtime", "backends.shared", "backends", "namespaces"},
    "cpu.convolution": {"cpu.vector", "cpu.runtime", "backends.shared", "backends"},
    "cpu.vector": {"cpu.runtime", "backends.shared", "backends"},
    "cpu.runtime": {"backends"},
    "cuda": {"cuda.convolution", "cuda.block", "cuda.runtime", "backends.shared", "backends", "namespaces"},
    "cuda.convolution": {"cuda.block", "cuda.runtime", "backends.shared", "backends"},
    "cuda.block": {"cuda.runtime", "backends.shared", "backends"},
    "cuda.runtime": {"backends"},
}
"""Of each room, those that it imports from besides itself."""

HAVE_ROOMS = ("data", "training", "backends", "reference", "cpu", "cuda")
"""The rooms whose folders are rooms of their own."""

# What takes long to import, or is not installed everywhere, is imported when it is needed.
WHERE_NEEDED = {
    "IPython", "PIL", "cuda", "grp", "gzip", "importlib", "llvmlite", "matplotlib", "mpi4py", "nccl", "numba",
    "numba_cuda", "pooch", "pwd", "safetensors", "shtab", "shutil", "tarfile", "tensorboard", "tqdm", "urllib",
    "uvicorn", "zlib",
}  # fmt: skip
# Four import a compiled backend, and with it Numba, where they are asked for what only it knows, one the server, which
# may not be installed; the others what every program would pay for that has a layer or a model.
LAZY = {
    "info.py", "backends/autotune.py", "cli/warmup.py", "distributed/nccl.py", "explore/__main__.py", "models/unet.py",
    "nn/layer.py",
}  # fmt: skip

COMPILED = {"block_kernel", "device_function", "inlined", "kernel", "loading_kernel", "mapping", "njit"}
"""What functions are decorated with, or given to, to be compiled and kept."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in FILES}


def room_of(module: str) -> str:
    """The folder that a module is in, or the module itself, where it lies beside the folders."""
    parts, within = module.split(".")[1:], PACKAGE
    if parts[:2] in (["backends", "reference"], ["backends", "cpu"], ["backends", "cuda"]):
        parts, within = parts[1:], PACKAGE / "backends"
    if parts[:1] and parts[0] in HAVE_ROOMS and within.joinpath(*parts[:2]).is_dir():
        return ".".join(parts[:2])
    return parts[0] if parts else "numbacnn"


def imports_of(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Each import, but of those for type checkers, with the module that it names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_checkers = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(tree):
        if node in for_checkers:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node, f"{module}.{alias.name}" if f"{module}.{alias.name}" in MODULES else module


def test_every_room_is_in_the_table() -> None:
    assert {room_of(module) for module in MODULES} == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows_are_allowed(path: Path) -> None:
    room = room_of(name_of(path))
    for _, module in imports_of(path):
        if module.partition(".")[0] == "numbacnn":
            assert room_of(module) in {*ALLOWED[room], room}, f"{name_of(path)} imports {module}"


def test_no_arrow_points_up() -> None:
    """Rooms can be put in an order in which each imports from later ones alone; the package itself loads them all."""
    left = {room: others - {"numbacnn", "reference"} for room, others in ALLOWED.items() if room != "numbacnn"}
    while left:
        free = [room for room, others in left.items() if not others & set(left)]
        assert free, f"these import from each other: {sorted(left)}"
        left = {room: others for room, others in left.items() if room not in free}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_import_only_what_is_heavy_or_optional(path: Path) -> None:
    inside = {
        node
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    places = {(node.lineno, node.col_offset) for node in inside}
    for node, module in imports_of(path):
        if (node.lineno, node.col_offset) in places:
            top = module.partition(".")[0]
            lazy = top == "numbacnn" and path.relative_to(PACKAGE).as_posix() in LAZY
            assert top in WHERE_NEEDED or lazy, f"{name_of(path)}, line {node.lineno}: {module}"


@pytest.mark.parametrize("of", ["cpu", "cuda"])
def test_kernels_are_made_of_sources_that_name_their_folder(of: str) -> None:
    """Those of the backend and of ``shared/``: compiled code that the disk has would outlive a change elsewhere."""
    for path in (PACKAGE / "backends" / of).rglob("*.py"):
        elsewhere = {
            alias.asname or alias.name
            for node, module in imports_of(path)
            if isinstance(node, ast.ImportFrom) and room_of(module) == "backends" and node.level
            for alias in node.names
        }
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                makers = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
            else:
                makers = [node.func] if isinstance(node, ast.Call) else []
            if any(isinstance(maker, ast.Name) and maker.id in COMPILED for maker in makers):
                used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)} & elsewhere
                assert not used, f"{name_of(path)}, line {node.lineno}: {used}"
