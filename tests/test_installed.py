"""The package where it is no checkout: a wheel, an archive on the path, without docstrings."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from numba.core import config

ROOT = Path(__file__).parents[1]
# What a user does first, with two kernels of their own to compile.
SCRIPT = """
import numpy as np
import numbacnn as nc
from numbacnn import nn, optim, training
nc.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 2))
loss = nn.CrossEntropyLoss()
step = training.TrainingStep(model, loss, optim.SGD(model.parameters(), lr=0.1))
x, y = np.random.default_rng(0).random((8, 1, 8, 8), np.float32), np.arange(8) % 2
for _ in range(3):
    step(x, y)
print(nc.__file__, step.totals()[2], repr(model)[:10])
"""
# What `numbacnn` does where it is installed, away from the checkout; the kernels that it lacks once it has warmed up.
COMMAND = """
import os, sys
from glob import glob
from importlib.metadata import distributions
(found,) = distributions(name="numbacnn", path=[sys.argv[1]])
(script,) = found.entry_points.select(group="console_scripts", name="numbacnn")
main, shapes = script.load(), ["--dataset=shapes", "--limit=1"]
def kept(): return set(glob(os.path.join(os.environ["NUMBA_CACHE_DIR"], "*", "*")))
assert main(["train", "--model=lenet", "--epochs=1", "--backend=reference", *shapes]) == 0
assert main(["warmup", "--model=runs/lenet", "--backend=cpu"]) == 0
before = kept()
assert main(["evaluate", "--model=runs/lenet", "--backend=cpu", *shapes]) == 0
print(kept() - before)
"""

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT or config.ENABLE_CUDASIM), reason="the usual way to run")


def run(folder: Path, *options: str, path: Path | None, script: str = SCRIPT) -> str:
    """What the script prints, started in ``folder`` with ``path`` in front of everything else, or only the checkout."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(path or ROOT)}
    environment |= {"COVERAGE_PROCESS_CONFIG": "", "NUMBACNN_COMPILE_PROCESSES": "0"}
    command = [sys.executable, *options, "-c", script, str(path)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_docstrings_and_assertions(tmp_path: Path) -> None:
    assert run(tmp_path, "-OO", path=None).split()[1:] == ["24", "Sequential"]


def test_in_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for source in sorted((ROOT / "numbacnn").rglob("*.py")):
            target.write(source, source.relative_to(ROOT))
    assert run(tmp_path, path=archive).startswith(str(archive))


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="needs hatchling")
def test_from_a_wheel(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "numbacnn", tree / "numbacnn", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=tree, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert {"numbacnn/py.typed", "numbacnn/data/datasets/imagenet_classes.txt"} <= set(names)
        page = [path.relative_to(ROOT).as_posix() for path in (ROOT / "numbacnn" / "explore" / "page").iterdir()]
        assert len(page) > 10 and set(page) <= set(names)
        assert not any(name.startswith(("tests", "bench", "docs")) for name in names)
        archive.extractall(tmp_path / "site")
    assert run(tmp_path, path=tmp_path / "site").startswith(str(tmp_path / "site"))
    lines = run(tmp_path, path=tmp_path / "site", script=COMMAND).splitlines()
    (compiled,) = (line for line in lines if " kernels compiled in " in line)
    assert re.match(r"[1-9]\d* .* for inference of runs/lenet on \(1, 1, 28, 28\), by cpu; kept in ", compiled)
    assert re.fullmatch(r"loss \d+\.\d{3}, acc \d\.\d{3}", lines[-2]) and lines[-1] == "set()"
