"""What a training run has left in its folder, for the page that shows it."""

from __future__ import annotations

import base64
import io
import math
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..files import user_path
from ..io.json_text import parse_json
from ..training import History, Mistakes, read_mistakes
from ..training.records.vector_curves import curve_pictures

__all__ = ["state_of"]

HISTORY, MISTAKES, PROGRESS = "history.jsonl", "mistakes.safetensors", "progress.json"
MOST_CLASSES = 30
"""Of a confusion matrix that can be read; of more, those with the most mistakes are shown."""
SILENCE, SILENT_WRITES = 30.0, 10
"""So many seconds, and times the seconds between its writes, without a sign of life make a run silent."""

_Stamp = tuple[int, int, int]
"""When a file was written, in nanoseconds, how many bytes it has, and its number on the disk, new with each."""


def state_of(folder: str | os.PathLike[str], seen: str | None = None) -> dict[str, Any]:
    """What is known of the run that trains, or has trained, in ``folder``, made of what JSON can say.

    Files are read when they have changed. One that is not there, is damaged or of another kind is None here, and for
    the latter two "errors" has a line that names it and says what is wrong with it: nothing is raised.

    Args:
        folder: where ``numbacnn train`` or `HistoryFile`, `MistakesFile` and `ProgressFile` write ``history.jsonl``,
            ``mistakes.safetensors`` and ``progress.json``.
        seen: the "version" of an earlier state. If it is still that, what comes of the files that hold whole epochs is
            left out.

    Returns:
        "folder", as text; "version", which changes with the files of whole epochs; "status", of which "state" is
        "running", "silent", "ended", "unknown" or "absent", "text" says how that is known, and "seconds_ago" is the age
        of the file that says so, or None; "progress", the object of `ProgressFile`; "errors".
        Unless ``seen``: "records" of the epochs, as `History.to_json` has them; "curves", an SVG picture of each
        figure; "mistakes", whose "confusion" has rows and columns for the classes of numbers "shown", whose "labels" of
        all classes are what rows add up to, and whose "worst" have an "image" as a data URI of a PNG file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     state = state_of(folder)
    >>> state["status"]["state"], state["records"], state["errors"]
    ('absent', [], [])
    """
    folder = user_path(folder)
    errors: list[str] = []
    history_path, mistakes_path, progress_path = (folder / name for name in (HISTORY, MISTAKES, PROGRESS))
    stamps = [_stamp(path, errors) for path in (history_path, mistakes_path, progress_path)]
    history, curves = _read(_history, history_path, stamps[0], errors) or (History(), [])
    progress = _read(_progress, progress_path, stamps[2], errors)
    version = f"{stamps[0]} {stamps[1]}"
    state = {
        "folder": str(folder),
        "version": version,
        "status": _status(folder, len(history), progress, stamps[0], stamps[2]),
        "progress": progress,
    }
    mistakes = _read(_mistakes, mistakes_path, stamps[1], errors)
    if version != seen:
        state |= {"records": [_without_infinity(record) for record in history.to_json()], "curves": curves}
        state["mistakes"] = mistakes
    return {**state, "errors": errors}


def _stamp(path: Path, errors: list[str]) -> _Stamp | None:
    """None where there is no such file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        errors.append(f"{str(path)!r} cannot be read: {_line(error)}")
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(read: Any, path: Path, stamp: _Stamp | None, errors: list[str]) -> Any:
    """What ``read`` makes of a file, from its cache while the stamp stays the same; None with an error, or without."""
    if stamp is None:
        return None
    found, error = read(path, stamp)
    if error:
        errors.append(error)
    return found


def _kept(function: Any) -> Any:
    """A function of a path that also takes its stamp, remembers, and returns (what it gives, the error)."""

    @lru_cache(maxsize=16)
    def read(path: Path, stamp: _Stamp) -> tuple[Any, str]:
        try:
            return function(path), ""
        except FileNotFoundError:
            return None, ""  # taken away since
        except OSError as error:
            return None, f"{str(path)!r} cannot be read: {_line(error)}"
        except (ValueError, ImportError) as error:
            return None, _line(error)

    return read


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@_kept
def _history(path: Path) -> tuple[History, list[str]]:
    try:
        history = History.from_json(parse_json(line) for line in path.read_text("utf-8").splitlines())
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no history of a run: {_line(error)}") from error
    return history, curve_pictures(history) if history.records else []


_FIELDS: dict[str, type] = {
    **dict.fromkeys(("epoch", "epochs", "batch", "batches"), int),
    "doing": str,
    **dict.fromkeys(("loss", "accuracy", "examples_per_second", "seconds_left", "every"), float),
}


@_kept
def _progress(path: Path) -> dict[str, Any]:
    try:
        progress = parse_json(path.read_text("utf-8"))
        if not isinstance(progress, dict) or progress.keys() != _FIELDS.keys():
            raise ValueError(f"it must be an object of {', '.join(_FIELDS)}")
        for name, kind in _FIELDS.items():
            value = progress[name]
            may_be_null = kind is float and name != "every"
            is_right = type(value) is kind or (kind is float and type(value) is int) or (may_be_null and value is None)
            if not is_right or (kind is not str and value is not None and not 0 <= value < math.inf):
                raise ValueError(f"its {name!r} is {value!r}")
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no progress of a run: {_line(error)}") from error
    return progress


@_kept
def _mistakes(path: Path) -> dict[str, Any]:
    mistakes = read_mistakes(path)
    return {
        "epoch": mistakes.epoch,
        "classes": list(mistakes.classes),
        "labels": mistakes.confusion.sum(axis=1).tolist(),
        **_shown(mistakes),
        "worst": [
            {
                "image": _picture(mistakes.images[i]),
                "index": int(mistakes.index[i]),
                "label": int(mistakes.label[i]),
                "predicted": int(mistakes.predicted[i]),
                "label_probability": _finite(float(mistakes.label_probability[i])),
                "predicted_probability": _finite(float(mistakes.predicted_probability[i])),
            }
            for i in range(len(mistakes.index))
        ],
    }


def _shown(mistakes: Mistakes) -> dict[str, Any]:
    """The rows and columns of the confusion matrix that can be read."""
    confusion = mistakes.confusion
    wrong = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
    shown = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    return {"shown": shown.tolist(), "confusion": confusion[np.ix_(shown, shown)].tolist()}


def _picture(image: np.ndarray[Any, Any]) -> str | None:
    """The data URI of a picture (c, h, w) of one channel or three; None of others."""
    if len(image) not in (1, 3) or not image.size:
        return None
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0).copy()).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _status(
    folder: Path, epochs: int, progress: dict[str, Any] | None, history: _Stamp | None, written: _Stamp | None
) -> dict[str, Any]:
    """Whether the run goes on, after so many epochs, and how that is known."""
    if progress is None or written is None:
        if history is None:
            return {"state": "absent", "text": f"there is no {HISTORY}, no run has begun", "seconds_ago": None}
        why = f"there is no {PROGRESS} that would say whether the run goes on, {HISTORY} alone"
        return {"state": "unknown", "text": why, "seconds_ago": _age(history)}
    age, of = _age(written), f"epoch {epochs} of {progress['epochs']}"
    if progress["doing"] == "nothing":
        return {"state": "ended", "text": f"{PROGRESS} says that the run has ended, after {of}", "seconds_ago": age}
    rule = f"the run writes it every {progress['every']:g} s, or after each batch that takes longer"
    if age <= max(SILENCE, SILENT_WRITES * progress["every"]):
        return {"state": "running", "text": f"{PROGRESS} is new; {rule}", "seconds_ago": age}
    why = f"{PROGRESS} is old; {rule}: the run was killed, or what it computes or compiles takes so long"
    return {"state": "silent", "text": why, "seconds_ago": age}


def _age(stamp: _Stamp) -> float:
    """Seconds by this machine's clock, that of the file's may be ahead of it."""
    return max(time.time() - stamp[0] / 1e9, 0.0)


def _without_infinity(record: dict[str, Any]) -> dict[str, Any]:
    metrics = {name: _finite(value) for name, value in record["metrics"].items()}
    return {name: _finite(value) for name, value in record.items() if name != "metrics"} | {"metrics": metrics}


def _finite(value: float | None) -> float | None:
    """A number that JSON has."""
    return value if value is not None and math.isfinite(value) else None
