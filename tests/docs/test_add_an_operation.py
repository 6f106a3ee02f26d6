"""The guide to adding an operation does what it says, in a copy of the tree."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from numba.core import config

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "add-an-operation.md"
STEP = re.compile(
    r"^In `([^`\n]+)`, (?:at the end|before `([^`\n]+)`|in place of `([^`\n]+)`):\n\n```python\n(.*?)^```$", re.M | re.S
)
COMMAND = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
COPIED = ("numbacnn", "tests", "bench", "conftest.py", "pyproject.toml", "README.md", "LICENSE")


class Step(NamedTuple):
    path: str
    before: str
    in_place_of: str
    code: str


def steps() -> list[Step]:
    return [Step(*found) for found in STEP.findall(GUIDE.read_text(encoding="utf-8"))]


def apply(step: Step, tree: Path) -> None:
    path = tree / step.path
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    anchor = step.before or step.in_place_of
    if anchor:
        assert len(re.findall(f"^{re.escape(anchor)}", text, re.M)) == 1, f"{anchor!r} in {step.path}"
        start = re.search(f"^{re.escape(anchor)}", text, re.M).start()
        end = start if step.before else start + len(anchor) + 1
        text = text[:start] + step.code + text[end:]
    else:
        text += step.code
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the guide needs, with its steps done."""
    copy = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy(source, copy / name)
    for step in steps():
        apply(step, copy)
    return copy


def test_it_touches_six_files_of_the_package_and_a_table() -> None:
    package = {step.path for step in steps() if step.path.startswith("numbacnn/")}
    assert len(package - {"numbacnn/nn/__init__.py"}) == 6 and len(package) == 7
    assert {step.path for step in steps()} - package == {"tests/test_soft_pool2d.py"}


def test_no_step_is_overlooked() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert text.count("```python\n") == len(steps()) == len(re.findall(r"^In `", text, re.M))


def test_the_code_is_formatted(tree: Path) -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *{step.path for step in steps()}],
            cwd=tree, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(bool(config.DISABLE_JIT or config.ENABLE_CUDASIM), reason="the guide is for the usual way to run")
@pytest.mark.parametrize("number", [0, 1], ids=["cpu", "simulator"])
def test_its_commands_run(tree: Path, number: int) -> None:
    words = shlex.split(COMMAND.findall(GUIDE.read_text(encoding="utf-8"))[number])
    start = words.index("python")
    environment = {**os.environ, "PYTHONPATH": str(tree), "CI": "1", "COVERAGE_PROCESS_CONFIG": ""}
    environment.update(setting.split("=") for setting in words[:start])
    done = subprocess.run(
        [sys.executable, *words[start + 1 :], "-q", "-p", "no:cacheprovider"],
        cwd=tree, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
