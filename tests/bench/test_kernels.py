"""The benchmark of the kernels beside the convolutions, on one image."""

from __future__ import annotations

import json

import pytest

from bench import kernels, machine
from numbacnn import backends


def test_rows_and_shares(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "ceilings", lambda: {"peak_gflops": 100.0, "copy_gb_per_second": 10.0})
    assert kernels.main(["--batch", "1", "--budget", "0.01", "--output-dir", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "kernels-cpu.json").read_text(encoding="utf-8"))["rows"]
    assert [row["kernel"] for row in rows] == [case.name for case in kernels.cases(backends.get("cpu"), 1, 1, 2, 1)]
    relu = rows[0]
    assert relu["share"] == pytest.approx(2 * 4 * 64 * 56 * 56 / (relu["milliseconds"] * 1e-3) / 10e9)
    product = next(row for row in rows if row["kernel"] == "linear 1024x1024x1024")
    assert product["share"] == pytest.approx(2 * 1024**3 / (product["milliseconds"] * 1e-3) / 100e9)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed[-len(rows) - 1 : -1]] == [row["kernel"] for row in rows]


def test_every_case_runs_on_every_backend(backend):
    few = kernels.cases(backend, 1, 2, 4, 3)
    for case in few:
        if not case.name.startswith("linear"):
            case.run()
    backend.synchronize()
    assert all(bool(case.bytes) != bool(case.operations) for case in few)


@pytest.mark.skipif(backends.available()["cuda"] is None, reason="the cuda backend can be used")
def test_without_a_gpu_the_reason_is_given(tmp_path, capsys):
    assert kernels.main(["--backend", "cuda", "--output-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: backend 'cuda' cannot be used: {backends.available()['cuda']}\n"


def test_bad_options_exit_with_2(capsys):
    with pytest.raises(SystemExit) as error:
        kernels.main(["--batch", "0"])
    assert error.value.code == 2
    assert "'0' must be a whole number, 1 or more" in capsys.readouterr().err
