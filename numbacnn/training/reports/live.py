"""Curves that grow while a model trains."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from typing import Any, TextIO

from ...ops.arguments import flag
from ..callbacks import Callback, Run
from ..records.character_curves import ASCII, BRAILLE, character_curves
from ..records.history import History
from ..records.vector_curves import curves_html

__all__ = ["LiveCurves"]


class LiveCurves(Callback):
    """Show the curves of loss, accuracies and metrics while a model trains, anew after every epoch.

    In a notebook it is a figure below the cell, which is replaced. On a terminal the curves are drawn by characters,
    by Braille patterns or, where the encoding does not have these, in ASCII, as wide as the terminal. Where the
    terminal can do it they stay below what else is printed: put it after `ProgressBar` among the callbacks.
    Elsewhere nothing is shown, unless ``always``. When the other end of ``stream`` goes away, training goes on in
    silence.

    Args:
        stream: where to write; by default, the notebook or standard output.
        always: whether to write where there is neither a notebook nor a terminal, as to a file: after every epoch,
            below what was there, ``COLUMNS`` of the environment wide, else 80 columns.

    >>> import io
    >>> import numpy as np
    >>> from numbacnn import nn, optim, use_backend
    >>> from numbacnn.training import fit
    >>> with use_backend("reference"):
    ...     model = nn.Linear(4, 2)
    >>> batches = [(np.ones((3, 4), np.float32), np.ones((3, 2), np.float32))] * 2
    >>> stream = io.StringIO()
    >>> curves = LiveCurves(stream, always=True)
    >>> history = fit(model, batches, None, nn.MSELoss(), optim.SGD(model.parameters()), 1, callbacks=[curves])
    >>> "train" in stream.getvalue()
    True
    """

    first_rank_only = True

    def __init__(self, stream: TextIO | None = None, always: bool = False) -> None:
        self.always = flag("always", always)
        self._stream: TextIO | None = stream if stream is not None else sys.stdout
        self._in_notebook = stream is None and _is_notebook()
        self._figure: Any = None
        """What replaces the figure in a notebook."""
        self._lines = 0
        """Of the picture that is on the terminal right above the cursor."""
        self._is_below = False
        """Whether the cursor is above it."""

    def on_fit_begin(self, run: Run) -> None:
        self._figure, self._lines, self._is_below = None, 0, False

    def on_epoch_begin(self, run: Run) -> None:
        """Leave a line above the picture for what is printed meanwhile, such as a bar."""
        if self._lines:
            lines = self._drawn(run)
            self._write(f"\r\x1b[{self._lines}A\x1b[J\n{_text(lines)}\x1b[{len(lines) + 1}A")
            self._is_below = True

    def on_epoch_end(self, run: Run) -> None:
        if self._in_notebook:
            self._show(run)
        elif self._stream is not None:
            self._draw(run)

    def on_fit_end(self, run: Run) -> None:
        if self._is_below:  # an epoch was not finished
            self._draw(run)

    def _show(self, run: Run) -> None:
        from IPython.display import display

        figure = _Figure(run.history, run.epochs)
        if self._figure is None:
            self._figure = display(figure, display_id=True)
        else:
            self._figure.update(figure)

    def _draw(self, run: Run) -> None:
        with suppress(OSError, ValueError):  # ValueError is what a closed file raises
            is_terminal = self._stream is not None and self._stream.isatty()
            if is_terminal or self.always:
                lines = self._drawn(run)
                self._write(("\r\x1b[J" if self._is_below else "") + _text(lines))
                self._lines = len(lines) if is_terminal and _may_move() else 0
                self._is_below = False

    def _drawn(self, run: Run) -> list[str]:
        columns, rows = shutil.get_terminal_size()
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        characters = BRAILLE if BRAILLE.are_in(encoding) else ASCII
        # What is wider than the terminal, or higher, could not be drawn over.
        return character_curves(run.history, characters, columns - 1, rows - 2, run.epochs)[: max(rows - 2, 1)]

    def _write(self, text: str) -> None:
        try:
            if self._stream is not None:
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError):
            self._stream, self._lines, self._is_below = None, 0, False


class _Figure:
    """The curves of a run, as a notebook shows them."""

    def __init__(self, history: History, epochs: int) -> None:
        self._html = curves_html(history, epochs)
        self._text = repr(history)

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _is_notebook() -> bool:
    """Whether this is a kernel, whose front end shows figures, and no terminal of IPython's."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def _may_move() -> bool:
    """Whether terminals take ANSI's sequences; of those of Windows the older ones do not."""
    return os.environ.get("TERM") != "dumb" and (os.name != "nt" or "WT_SESSION" in os.environ)
