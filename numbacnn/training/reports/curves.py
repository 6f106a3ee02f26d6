"""A picture of the training curves."""

from __future__ import annotations

import importlib.util
import math
import os

from ...io import replacing
from ..callbacks import Callback, Run
from ..records.history import History

__all__ = ["PlotCurves"]


class PlotCurves(Callback):
    """Draw train loss, accuracies and metrics over the epochs to a PNG file, anew after every epoch.

    The picture is in the manner of Dive into Deep Learning. Needs matplotlib, which is imported when the first picture
    is drawn; the state of pyplot is not touched.

    Args:
        path: a ``.png`` file, replaced each time as a whole.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: another extension.
    """

    first_rank_only = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if os.path.splitext(path)[1].lower() != ".png":
            raise ValueError(f"`path` {os.fspath(path)!r} must end in .png")
        if importlib.util.find_spec("matplotlib") is None:
            raise ImportError('PlotCurves needs matplotlib: pip install "numbacnn[plot]"')
        self.path = path
        self._may_be_missing = True

    def on_epoch_begin(self, run: Run) -> None:
        self._may_be_missing = False

    def on_epoch_end(self, run: Run) -> None:
        self._draw(run.history, run.epochs)

    def on_fit_end(self, run: Run) -> None:
        if len(run.history) and self._may_be_missing:  # all epochs were finished before
            self._draw(run.history, run.epochs)

    def _draw(self, history: History, epochs: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(3.5, 2.5), dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        x = [record.epoch for record in history.records]
        marker = "." if len(x) == 1 else ""  # a line through one point is not seen
        for values, style, label in (
            ([record.train_loss for record in history.records], "-", "train loss"),
            ([record.train_accuracy for record in history.records], "m--", "train acc"),
            ([record.test_accuracy for record in history.records], "g-.", "test acc"),
        ):
            if not all(map(math.isnan, values)):
                axes.plot(x, values, style, marker=marker, label=label)
        names = dict.fromkeys(name for record in history.records for name in record.metrics)
        colours = {name: f"C{3 + i}" for i, name in enumerate(dict.fromkeys(n.partition("_")[2] for n in names))}
        for name in names:
            split, _, metric = name.partition("_")
            values = [record.metrics.get(name, math.nan) for record in history.records]
            if not all(map(math.isnan, values)):
                line, label = "--" if split == "train" else "-.", f"{split} {metric}"
                axes.plot(x, values, line, color=colours[metric], marker=marker, label=label)
        axes.set_xlabel("epoch")
        axes.set_xlim(1, max(epochs, 2))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
        axes.legend()
        with replacing(self.path) as temporary:
            figure.savefig(temporary, format="png")
        self._may_be_missing = False
