"""What the loop over epochs asks of all processes, and of the first one alone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.distributed.launching import lines_of, start, with_mpi

pytestmark = with_mpi

PROGRAM = """
import json, sys
import numpy as np
import numbacnn as nc
from numbacnn import distributed, nn, optim
from numbacnn.training import Callback, CheckpointFile, HistoryFile, fit

group = distributed.init()
own, firsts = [], []

class Everywhere(Callback):
    def on_epoch_end(self, run):
        own.append(run.epoch)
        run.stop = group.rank == 1 and run.epoch == 2

class OnFirst(Callback):
    first_rank_only = True

    def on_epoch_end(self, run):
        firsts.append(run.epoch)

class Strange(Callback):
    # Stops in one process alone, before the first epoch.
    first_rank_only = True

    def on_fit_begin(self, run):
        run.stop = True

with nc.use_backend("reference"):
    model = nn.Linear(3, 2)
batches = [(np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32))] * 2
loss, optimizer = nn.MSELoss(), optim.SGD(model.parameters(), 0.1)
callbacks = [OnFirst(), Everywhere(), HistoryFile(sys.argv[1]), CheckpointFile(sys.argv[2])]
history = fit(model, batches, None, loss, optimizer, 5, group=group, callbacks=callbacks)
none = fit(model, batches, None, loss, optimizer, 5, group=group, callbacks=[Strange()])
every = group.gather_metrics((own, firsts, len(history), len(none), list(map(float, model.weight.value.ravel()))))
if group.rank == 0:
    print(json.dumps(every))
if "differ" in sys.argv:
    fit(model, batches, None, loss, optimizer, 3, start_epoch=group.rank, group=group)
"""


def test_callbacks_that_write_are_the_first_process_s_and_any_process_may_stop(tmp_path: Path) -> None:
    files = [tmp_path / "history.jsonl", tmp_path / "checkpoint.safetensors"]
    (line,) = lines_of(3, "-c", PROGRAM, *map(str, files))
    first, *others = json.loads(line)
    assert first[:4] == [[1, 2], [1, 2], 2, 0]
    for other in others:
        assert other[:4] == [[1, 2], [], 2, 0]
        assert other[4] == first[4]
    assert len(files[0].read_text().splitlines()) == 2 and sorted(tmp_path.iterdir()) == sorted(files)


def test_processes_that_are_about_to_do_different_things_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / "history.jsonl", tmp_path / "checkpoint.safetensors"]
    done = start(2, "-c", PROGRAM, *map(str, files), "differ")
    assert done.returncode == 1
    assert "the processes of `group` have [0, 1] as `start_epoch`, must have the same" in done.stderr
