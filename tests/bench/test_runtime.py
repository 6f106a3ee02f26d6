"""What runs kernels, compared: the command, its results and what it refuses."""

from __future__ import annotations

import json

import numba
import pytest

from bench import runtime, tables
from numbacnn.backends.cpu.runtime import threads

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off")


@pytest.mark.skipif(not threads.USES_WORKERS, reason="the threads are Numba's")
def test_a_run_writes_every_row_and_the_ratios(tmp_path, capsys):
    options = ["--network", "lenet", "--threads", "1", "--seconds", "0.01", "--output-dir", str(tmp_path)]
    assert runtime.main(options) == 0
    results = json.loads((tmp_path / "runtime-cpu.json").read_text())
    rows = {(row["work"], row["runtime"]): row for row in results["rows"]}
    assert set(rows) == {(work, name) for work in runtime.WORKS for name in ("workers", "omp")}
    assert all(
        row[name]["calls"] >= 5 and row[name]["median"] > 0 for row in rows.values() for name in runtime.SITUATIONS
    )
    (ratios,) = results["ratios"]
    assert (ratios["threads"], ratios["runtime"]) == (1, "omp")
    assert [name for name in ratios if name in runtime.SITUATIONS] == list(runtime.SITUATIONS)
    assert (
        tables.runtime_section(results).splitlines()[2].startswith("| threads | runtime | back to back | after 2 ms |")
    )
    assert "training step, 16 images" in capsys.readouterr().out


def test_ratios_are_geometric_means_over_the_first_runtime():
    def row(work, name, seconds):
        cells = {situation: {"mean": seconds} for situation in runtime.SITUATIONS}
        return {"network": "lenet", "work": work, "threads": 2, "runtime": name, **cells}

    rows = [row("a", "workers", 1.0), row("a", "omp", 2.0), row("b", "workers", 1.0), row("b", "omp", 8.0)]
    assert runtime.summary(rows) == [
        {"threads": 2, "runtime": "omp", **{name: pytest.approx(4.0) for name in runtime.SITUATIONS}}
    ]


def test_a_layer_that_is_set_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NUMBA_THREADING_LAYER", "omp")
    assert runtime.main(["--output-dir", str(tmp_path)]) == 2
    assert "NUMBA_THREADING_LAYER must not be set" in capsys.readouterr().err


def test_a_folder_that_is_no_checkout_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("NUMBA_THREADING_LAYER", raising=False)
    assert runtime.main(["--other", str(tmp_path), "--output-dir", str(tmp_path)]) == 2
    assert f"--other {tmp_path} must be a checkout" in capsys.readouterr().err
