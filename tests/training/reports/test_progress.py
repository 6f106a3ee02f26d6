"""Progress on terminals, in files and in pipes that nobody reads."""

from __future__ import annotations

import io
import os
import re
import sys
from types import SimpleNamespace

import pytest

from numbacnn import nn
from numbacnn.training import Accuracy, Callback, History, ProgressBar, Run, fit
from tests.recorder import Recorder
from tests.training.toy import loaders, model_and_optimizer, record


class Terminal(io.StringIO):
    """Text that believes it is a terminal, until it is hung up."""

    hung_up = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.hung_up:
            raise OSError(5, "Input/output error")
        return super().write(text)


def train(*callbacks: Callback, epochs: int = 2) -> None:
    model, optimizer = model_and_optimizer()
    history = fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs, callbacks=callbacks)
    assert len(history) == epochs


def test_a_plain_line_per_epoch_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    train(ProgressBar(stream))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    figures = r"loss \d\.\d{3}, train acc \d\.\d{3}, test acc \d\.\d{3}, \d+\.\d examples/sec"
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(rf"epoch {epoch}/2: {figures}{', 00:00 left' * (epoch == 1)}", line)
    assert stream.getvalue().replace("\n", "").isprintable()


def test_metrics_are_said_at_the_end_of_an_epoch() -> None:
    stream = io.StringIO()
    model, optimizer = model_and_optimizer()
    progress, metrics = ProgressBar(stream), {"top2": Accuracy(k=2)}
    fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1, callbacks=[progress], metrics=metrics)
    assert ", train_top2 1.000, test_top2 1.000, " in stream.getvalue()


def test_the_figures_of_another_set_have_its_name() -> None:
    stream = io.StringIO()
    model, optimizer = model_and_optimizer()
    progress, metrics = ProgressBar(stream, test_name="val"), {"top2": Accuracy(k=2)}
    fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1, callbacks=[progress], metrics=metrics)
    assert re.search(r", val acc \d\.\d{3}, train_top2 1\.000, val_top2 1\.000, ", stream.getvalue())
    assert "test" not in stream.getvalue()


def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    train(ProgressBar())
    out, err = capsys.readouterr()
    assert out.count("\n") == 2
    assert not err


def test_a_bar_per_epoch_on_a_terminal() -> None:
    terminal = Terminal()
    train(ProgressBar(terminal))
    text = terminal.getvalue()
    for epoch in (1, 2):
        assert re.search(rf"epoch {epoch}/2: 100%.*3/3.*loss \d\.\d+, train acc \d\.\d+, test acc \d\.\d+", text)
    assert text.endswith("\n")
    assert text.count("\n") == 2


@pytest.mark.parametrize(
    ("resumed", "expected"),
    [
        # 4 s for each of the batches, of which there are three in an epoch; then 100 s for each epoch.
        (0, ["00:32 left", "00:28 left", "00:24 left", "03:20 left", "02:46 left", "02:13 left", "01:40 left"]),
        # What an epoch took before it was resumed says nothing.
        (1, ["00:20 left", "00:16 left", "00:12 left", "01:40 left", "01:06 left", "00:33 left", ""]),
    ],
)
def test_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch, resumed: int, expected: list[str]) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(
        "numbacnn.training.reports.progress.time", SimpleNamespace(perf_counter=lambda: float(next(clock)))
    )
    progress = ProgressBar(io.StringIO())
    run = Run(*(None,) * 3, History([record(1)] * resumed), epochs=3, batches=3, epoch=resumed)  # type: ignore[arg-type]
    progress.on_fit_begin(run)
    left = []
    for epoch in (1, 2):
        run.epoch, run.batch = resumed + epoch, 0
        progress.on_epoch_begin(run)
        for _ in range(3):
            run.batch += 1
            left.append(progress._left(run))
        if epoch == 1:
            run.history.records.append(record(run.epoch, seconds=100.0))
            left.append(progress._left(run))
    assert left == expected


def test_the_bar_tells_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tqdm.std.tqdm.update", lambda bar, n=1: bar.display())
    terminal = Terminal()
    train(ProgressBar(terminal))
    amid = [bar for bar in terminal.getvalue().split("\r") if "train acc" in bar and "test acc" not in bar]
    # Of each epoch's three batches; after the last one of all, nothing is left.
    assert [re.search(r"train acc \d\.\d+(, \d\d:\d\d left)?", bar)[1] is not None for bar in amid] == [True] * 5 + [
        False
    ]


def test_the_bar_says_nothing_of_what_is_not_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["numbacnn.training.fit"], "REPORT_SECONDS", 1e9)
    monkeypatch.setattr("tqdm.std.tqdm.update", lambda bar, n=1: bar.display())
    terminal, recorder = Terminal(), Recorder()
    model, optimizer = model_and_optimizer()
    model.to(recorder)
    loss = nn.CrossEntropyLoss().to(recorder)
    fit(model, *loaders(), loss, optimizer, 1, callbacks=[ProgressBar(terminal)])
    assert "nan" not in terminal.getvalue()
    assert "test acc" in terminal.getvalue()


def test_the_bar_is_closed_when_training_is_interrupted() -> None:
    class Interrupt(Callback):
        def on_batch_end(self, run: Run) -> None:
            raise KeyboardInterrupt

    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt):
        train(ProgressBar(terminal), Interrupt())
    assert terminal.getvalue().endswith("\n")


def test_training_goes_on_after_the_reader_of_a_pipe_has_gone() -> None:
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "w")
    os.close(read_end)
    train(ProgressBar(stream))
    with pytest.raises(BrokenPipeError):
        stream.close()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_training_goes_on_after_the_stream_is_closed(kind: type[io.StringIO]) -> None:
    class Close(Callback):
        def on_batch_end(self, run: Run) -> None:
            if run.epoch == 2:
                stream.close()

    stream = kind()
    train(ProgressBar(stream), Close(), epochs=3)


@pytest.mark.parametrize("batch", [1, 3])
def test_training_goes_on_after_the_terminal_has_hung_up(batch: int) -> None:
    class HangUp(Callback):
        def on_batch_end(self, run: Run) -> None:
            terminal.hung_up = run.batch >= batch

    terminal = Terminal()
    train(ProgressBar(terminal), HangUp(), epochs=3)


def test_no_standard_output_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    train(ProgressBar())
