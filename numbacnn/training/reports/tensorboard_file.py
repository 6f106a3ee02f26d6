"""What TensorBoard shows of a run: figures, parameters, pictures, and the graph of the layers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...files import user_path
from ...nn.conv import Conv2d
from ...nn.flow import flow
from ...nn.layer import Layer
from ...nn.printing import known_shape
from ...ops.arguments import integer
from ..callbacks import Callback, Run
from ..records.history import EpochRecord
from ..records.panels import SPLITS
from .event_values import graph_event, histogram, picture, scalar, start_event, summary_event, tiled

__all__ = ["TensorBoardFile"]


class TensorBoardFile(Callback):
    """Write event files, which TensorBoard shows while a model trains: ``tensorboard --logdir FOLDER``.

    After each epoch, by its number: loss, accuracy and metrics, those of training and those of tests as two runs,
    "train" and "test", so that both are in one chart; the learning rate and the rates of examples. After every
    ``every`` epochs also histograms of the parameters, and the filters of the first `Conv2d`. Once, after the first
    epoch: the graph, whose nodes are the layers, if these tell the shapes of their outputs.

    In a folder that has event files the ones of a resumed run go on from its last epoch, and those of a new run take
    the place of the former. Needs the package tensorboard, which is imported when a run begins.

    Args:
        folder: where the folders "train" and "test" are; made if they are not there.
        every: after how many epochs there are histograms and pictures, 1 or more.
        images: pictures (n, c, h, w) of one channel or three, such as a batch of training images, shown once; or a
            function of the `Run` that gives such arrays by their names, which is called after every ``every`` epochs.
            Of one array 64 are shown, at most. Bytes are 0..255, other numbers 0..1; where some are outside of it, the
            smallest and the largest number of the array are what is black and white.

    Raises:
        ImportError: tensorboard is not installed.
        TypeError, ValueError: ``every`` or ``images`` of another kind; those of a function, after the epoch.

    Example:
        >>> import pathlib, tempfile
        >>> from numbacnn import nn, optim, use_backend
        >>> from numbacnn.training import fit
        >>> with use_backend("reference"):
        ...     model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
        >>> images, labels = np.ones((6, 1, 4, 4), np.float32), np.arange(6) % 2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     callback = TensorBoardFile(folder, images=images)
        ...     _ = fit(
        ...         model, [(images, labels)], [(images, labels)], nn.CrossEntropyLoss(),
        ...         optim.SGD(model.parameters()), 1, callbacks=[callback],
        ...     )
        ...     sorted(path.parent.name for path in pathlib.Path(folder).rglob("events*"))
        ['test', 'train']
    """

    first_rank_only = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int = 1,
        images: Any | Callable[[Run], Mapping[str, Any]] | None = None,
    ) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError('TensorBoardFile needs tensorboard: pip install "numbacnn[tensorboard]"')
        self.folder = folder
        self.every = integer("every", every, 1)
        self._images = images if images is None or callable(images) else tiled("images", images)
        self._writers: dict[str, Any] = {}
        self._has_graph = False

    def on_fit_begin(self, run: Run) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._has_graph = bool(run.history)
        for split in SPLITS:
            folder = user_path(self.folder) / split
            is_new = not any(folder.glob("*tfevents*"))
            writer = self._writers[split] = EventFileWriter(os.fspath(folder))
            # What has this step or a later one is of a run that was killed, or of one before.
            writer.add_event(start_event(len(run.history) + 1 if run.history else 0))
            for record in run.history.records if is_new else ():
                self._write_figures(split, record)
            writer.flush()
        if self._images is not None and not callable(self._images) and not run.history:
            self._write("train", [picture("images", self._images)], 0)

    def on_epoch_end(self, run: Run) -> None:
        record = run.history.records[-1]
        if not self._has_graph:
            self._has_graph = True
            self._write_graph(run.model)
        for split in SPLITS:
            self._write_figures(split, record)
        if record.epoch % self.every == 0:
            parameters = run.model.named_parameters()
            arrays = {name: parameter.backend.to_numpy(parameter.value) for name, parameter in parameters}
            values = [histogram(f"parameters/{name}", array) for name, array in arrays.items()]
            shown = self._images(run) if callable(self._images) else {}
            if not isinstance(shown, Mapping):
                raise TypeError(f"the function `images` gave a {type(shown).__name__}, must give arrays by their names")
            tiles = {name: tiled(f"images of {name!r}", array) for name, array in shown.items()} | _filters(run.model)
            self._write("train", values + [picture(name, tile) for name, tile in tiles.items()], record.epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_fit_end(self, run: Run) -> None:
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            writer.close()

    def _write_figures(self, split: str, record: EpochRecord) -> None:
        values = []
        for name, value in record.figures.items():
            prefix, _, title = name.partition("_")
            if prefix == split:
                values.append(scalar(title, value))
            elif split == "train" and prefix not in SPLITS:
                values.append(scalar({"lr": "learning_rate"}.get(name, name), value))
        self._write(split, values, record.epoch)

    def _write_graph(self, model: Layer) -> None:
        shape = known_shape(model)
        if shape is None:
            return
        try:
            nodes = flow(model, shape)
        except (NotImplementedError, TypeError, ValueError):  # of a layer of one's own
            return
        self._writers["train"].add_event(graph_event(nodes))

    def _write(self, split: str, values: list[Any], step: int) -> None:
        if values:
            self._writers[split].add_event(summary_event(step, values))


def _filters(model: Layer) -> dict[str, np.ndarray[Any, Any]]:
    """The picture of what the first convolution looks for, by its name."""
    for name, layer in model.named_layers():
        if isinstance(layer, Conv2d):
            weight = layer.backend.to_numpy(layer.weight.value)
            if weight.shape[1] not in (1, 3):
                weight = weight.reshape(-1, 1, *weight.shape[2:])
            low, high = weight.min(), weight.max()
            with np.errstate(all="ignore"):  # of weights that are not finite
                return {f"filters/{name}": tiled("weight", (weight - low) / ((high - low) or 1))}
    return {}
