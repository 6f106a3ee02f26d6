"""Notebooks that are executed, and compared with what they had before."""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

from numbacnn import backends

__all__ = ["ROOT", "differences", "executed", "write"]

ROOT = Path(__file__).parents[2]
TRAINED = "trained"
"""The tag of cells whose numbers come from training: they differ a little from one kind of processor to another."""
TRAINED_TOLERANCE = 0.15
"""Of their numbers, relative to those above 1; of others it is one in the last digit behind the point."""
SHADES = 3
"""Of 255, by which the pixels of pictures differ at most."""
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
PICTURE = re.compile(r"data:image/png;base64,([^\"]*)")
Content = dict[str, str]
"""What an output shows, by its type."""


class _ThisPython(KernelSpecManager):
    """Has one kernel, which is the Python that runs this, whatever others are installed for the user."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def executed(path: Path, timeout: int = 300) -> Any:
    """The notebook with new outputs, those of the built-in images; CellExecutionError if a cell raises an error."""
    notebook = nbformat.read(path, as_version=4)
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=_ThisPython())
    client = NotebookClient(notebook, km=manager, timeout=timeout, record_timing=False, coalesce_streams=True)
    with tempfile.TemporaryDirectory() as folder:
        client.resources = {"metadata": {"path": folder}}
        # There, too, no data set is found, and no settings of the user's own are read.
        own = {"NUMBACNN_DATA": folder, "IPYTHONDIR": folder, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        kept = {name: value for name, value in os.environ.items() if name != "NUMBACNN_BACKEND"}
        client.execute(env={**kept, **own, "PYTHONPATH": paths}, cleanup_kc=True)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def write(notebook: Any, path: Path) -> None:
    """The notebook as a file that is the same whoever writes it, but for the outputs."""
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def differences(committed: Any, computed: Any) -> list[str]:
    """Where two executions of a notebook show something else, a line each.

    Pictures and numbers may differ a little, and pictures of what was trained altogether. Warnings and other text for
    the standard error are none of what a notebook shows.
    """
    found = []
    for number, (old, new) in enumerate(zip(committed.cells, computed.cells, strict=True)):
        if old.cell_type != "code":
            continue
        trained = TRAINED in old.metadata.get("tags", [])
        old_outputs, new_outputs = _shown(old), _shown(new)
        found += [f"cell {number} warns: {output['stderr']}" for output in new_outputs if "stderr" in output]
        if [sorted(output) for output in old_outputs] != [sorted(output) for output in new_outputs]:
            found.append(f"cell {number} shows {_types(new_outputs)}, the file has {_types(old_outputs)}")
            continue
        for before, after in zip(old_outputs, new_outputs, strict=True):
            found += [f"cell {number}, {kind}: {text}" for kind in before
                      if (text := _difference(kind, before[kind], after[kind], trained))]  # fmt: skip
    return found


def _shown(cell: Any) -> list[Content]:
    return [
        {output.name: output.text} if output.output_type == "stream" else dict(output.data) for output in cell.outputs
    ]


def _types(outputs: list[Content]) -> str:
    return "; ".join(", ".join(sorted(output)) for output in outputs) or "nothing"


def _difference(kind: str, before: str, after: str, trained: bool) -> str:
    if trained and kind in ("text/html", "image/svg+xml"):
        return ""
    pictures = [[_pixels(picture) for picture in PICTURE.findall(text)] for text in (before, after)]
    for i, (old, new) in enumerate(zip(*pictures, strict=False)):
        if old.shape != new.shape or np.abs(old - new).max(initial=0) > SHADES:
            return f"picture {i} is another"
    before, after = _comparable(before), _comparable(after)
    if NUMBER.sub("#", before) != NUMBER.sub("#", after):
        return _first_difference(NUMBER.sub("#", before), NUMBER.sub("#", after))
    for old, new in zip(*(NUMBER.findall(text) for text in (before, after)), strict=True):
        was, is_now = (float(text.replace(",", "")) for text in (old, new))
        _, point, digits = old.partition(".")
        tolerance = 1.5 * 10.0 ** -len(digits) if point and digits.isdigit() else 1e-6 * abs(was)
        if trained:
            tolerance = max(tolerance, TRAINED_TOLERANCE * max(1.0, abs(was)))
        if abs(was - is_now) > tolerance:
            return f"{new}, the file has {old}"
    return ""


def _pixels(picture: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA")).astype(int)


def _comparable(text: str) -> str:
    """Without pictures, with single spaces, and without what depends on the processor, the names of algorithms."""
    names = "|".join(backends.get("cpu").conv2d_algorithms())
    text = re.sub(rf"\b({names})(/({names}))*\b", "algorithm", PICTURE.sub("", text))
    return " ".join(re.sub("-{3,}", "", text).split())


def _first_difference(before: str, after: str) -> str:
    at = next((i for i, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), 0)
    start = max(at - 20, 0)
    return f"{after[start : at + 40]!r}, the file has {before[start : at + 40]!r}"
