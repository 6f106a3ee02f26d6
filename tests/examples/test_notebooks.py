"""The notebooks run, show what their files have, and what is compared there is noticed."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import numbacnn as nc
from examples.notebooks.execution import ROOT, differences

FOLDER = ROOT / "examples" / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))


def test_there_is_one_for_each_chapter() -> None:
    assert [path.stem for path in PATHS] == [
        *("1_convolution", "2_padding_and_stride", "3_channels", "4_pooling", "5_lenet"),
    ]
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert all(f"examples/notebooks/{path.name}" in page for path in PATHS)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_its_file_has(path: Path) -> None:
    command = [sys.executable, "-m", "examples.notebooks", "--check", path.stem]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{path.stem}: as in the file\n"), done.stdout + done.stderr


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_file_is_whole_small_and_of_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < 300_000
    # Pictures are letters and slashes, too.
    without_pictures = re.sub(r"base64,[^\\]*", "", text)
    assert not re.search(r"/home/|/root/|/tmp/|/usr/|[A-Z]:\\\\|site-packages", without_pictures)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert {output.output_type for output in cell.outputs} <= {"stream", "display_data", "execute_result"}
        assert not [output for output in cell.outputs if output.get("name") == "stderr"]
    pictures = [output for cell in cells for output in cell.outputs if "image/svg+xml" in output.get("data", {})]
    assert len(pictures) >= 4
    prose = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (FOLDER / link).exists(), link


def one(*outputs: Any, tags: tuple[str, ...] = ()) -> Any:
    cell = new_code_cell("cell", outputs=list(outputs), metadata={"tags": list(tags)})
    return new_notebook(cells=[new_markdown_cell("prose"), cell])


def printed(text: str, tags: tuple[str, ...] = ()) -> Any:
    return one(new_output("stream", name="stdout", text=text), tags=tags)


def shown(image: Any, tags: tuple[str, ...] = ()) -> Any:
    picture = nc.image_grid(image)
    bundle = {"image/svg+xml": picture.svg, "text/plain": "a picture"}
    return one(new_output("execute_result", data=bundle, execution_count=1), tags=tags)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (printed("loss 2.861, 12 steps"), printed("loss 2.862, 12 steps")),
        (printed("conv winograd/direct/direct\n-----"), printed("conv  direct\n---")),
        (printed("epoch 3, accuracy 0.91", tags=("trained",)), printed("epoch 3, accuracy 0.97")),
        (shown([[0.5, 0.2]]), shown([[0.505, 0.2]])),
        (shown([[0.5, 0.2]], tags=("trained",)), shown([[0.9, 0.2]])),
    ],
)
def test_what_another_processor_may_change_is_let_pass(old: Any, new: Any) -> None:
    assert differences(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (printed("loss 2.861"), printed("loss 2.864"), "cell 1, stdout: 2.864, the file has 2.861"),
        (printed("12 steps"), printed("13 steps"), "cell 1, stdout: 13, the file has 12"),
        (printed("right: True"), printed("right: False"), "cell 1, stdout: 'right: False', the file has 'right: True'"),
        (printed("accuracy 0.91", tags=("trained",)), printed("accuracy 0.5"), "0.5, the file has 0.91"),
        (printed("text"), one(), "cell 1 shows nothing, the file has stdout"),
        (one(), shown([[1]]), "cell 1 shows image/svg+xml, text/plain, the file has nothing"),
        (shown([[0.5, 0.2]]), shown([[0.55, 0.2]]), "cell 1, image/svg+xml: picture 0 is another"),
        (shown([[0.5, 0.2]]), shown([[0.5], [0.2]]), "cell 1, image/svg+xml: picture 0 is another"),
        (one(), one(new_output("stream", name="stderr", text="careful")), "cell 1 warns: careful"),
    ],
)
def test_what_is_another_is_noticed(old: Any, new: Any, said: str) -> None:
    assert any(said in line for line in differences(old, new))
    assert differences(copy.deepcopy(old), old) == []


def test_an_unknown_notebook_and_a_cell_that_fails_are_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.notebooks", "chess"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "chess: there are 1_convolution" in done.stderr

    from nbclient.exceptions import CellExecutionError

    from examples.notebooks.execution import executed

    path = tmp_path / "failing.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("import numbacnn\n1 / 0")]), path)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        executed(path)
