"""Importing is cheap: nothing compiles, and nothing heavy is loaded before somebody asks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module

import pytest

from numbacnn import io, nn, ops, optim, training

HEAVY = [
    *("numba", "matplotlib", "pooch", "tqdm", "safetensors", "sklearn", "torch", "PIL", "mpi4py"),
    *("urllib.request", "multiprocessing"),
]


def modules_after(statement, **variables):
    script = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "COVERAGE_PROCESS_CONFIG": "", **variables}
    if variables:
        environment.pop("NUMBA_CACHE_DIR", None)  # it would go before
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_import_loads_little_more_than_numpy():
    added = modules_after("import numbacnn") - modules_after("import numpy")
    assert not [name for name in HEAVY if name in added]


def test_the_help_of_the_command_loads_no_more_than_the_package():
    script = """
import contextlib, io
from numbacnn.cli.main import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["--help"])
"""
    added = modules_after(script) - modules_after("import numbacnn")
    assert not [name for name in added if name.startswith(("numbacnn.data", "numbacnn.models", "numbacnn.training"))]
    assert not [name for name in HEAVY if name in added]


def test_cpu_backend_adds_numba_and_nothing_of_cuda():
    added = modules_after("import numbacnn.backends.cpu") - modules_after("import numba, numba.extending")
    assert not [name for name in added if name.startswith(("numba.cuda", "numba_cuda", "cuda"))]
    assert not [name for name in HEAVY if name in added]


def test_no_kernel_compiles_at_import_or_while_a_model_is_built(tmp_path):
    """There are none that were compiled before, either."""
    script = """
from numba.core import event
started = []
class Listener(event.Listener):
    def on_start(self, e): started.append(e)
    def on_end(self, e): pass
with event.install_listener("numba:run_pass", Listener()), event.install_listener("numba:compile", Listener()):
    import numbacnn as nc
    import numbacnn.backends.cpu
    from numbacnn import data, io, models, training
    nc.summary(models.lenet(), (1, 1, 28, 28))
assert not started, started[:3]
"""
    modules_after(script, XDG_CACHE_HOME=str(tmp_path))


@pytest.mark.parametrize("package", [io, nn, ops, optim, training])
def test_names_that_are_imported_when_asked_are_those_of_their_modules(package):
    for module, names in package._WHEN_ASKED.items():
        found = import_module(f"{package.__name__}.{module}")
        assert set(names) <= set(found.__all__)
        # What modules offer to each other alone is no layer and no operation.
        assert not [name for name in set(found.__all__) - set(names) if name[0].isupper() and package is nn]
        assert package is not ops or set(names) == set(found.__all__)


NOT_AT_ONCE = [
    *("io", "models", "training", "nn.activation", "nn.conv", "nn.graph", "nn.loading", "nn.loss", "nn.pooling"),
    *("optim.adam", "optim.clip", "optim.flat_parameters", "optim.optimizer", "optim.parameter_groups", "optim.sgd"),
]
NOT_BY_A_STEP = [
    *("io.arrays", "io.checkpoint", "io.weights", "nn.graph", "nn.group_normalization", "nn.loading", "nn.merge"),
    *("optim.adam", "optim.clip", "optim.plateau", "optim.schedules", "training.reports.curves", "training.stopping"),
]
STEP = """
import numpy as np
from numbacnn import models, nn, optim, training, use_backend
with use_backend("reference"):
    model = models.lenet()
    step = training.TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
    step(np.zeros((1, 1, 28, 28), np.float32), np.zeros(1, int))
"""


@pytest.mark.parametrize(
    ("statement", "unused"),
    [("import numbacnn", NOT_AT_ONCE), (STEP, NOT_BY_A_STEP)],
    ids=["import", "a step of LeNet"],
)
def test_a_program_loads_what_it_uses(statement, unused):
    loaded = modules_after(statement)
    assert "numbacnn.nn.layer" in loaded
    assert not {f"numbacnn.{name}" for name in unused} & loaded


def test_a_program_loads_the_layers_that_it_uses():
    added = modules_after("import numbacnn as nc\nnc.nn.ReLU()")
    assert "numbacnn.nn.activation" in added
    assert not [name for name in ("graph", "group_normalization", "spatial", "loss") if f"numbacnn.nn.{name}" in added]
