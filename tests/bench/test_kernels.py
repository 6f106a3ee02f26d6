"""The benchmark of the kernels beside the convolutions, on one image."""

from __future__ import annotations

import json

import pytest

from bench import kernels, machine
from bench.ceilings import IN_MEMORY, Traffic
from numbacnn import backends


@pytest.fixture
def ceilings(monkeypatch):
    found = {"peak_gflops": 1e6, "peak_gflops_1_thread": 1e6, "copy_gb_per_second": 10.0}
    monkeypatch.setattr(machine, "ceilings", lambda: found)
    monkeypatch.setattr(kernels, "PAUSE", 0.0)
    return found


def results(folder):
    return json.loads((folder / "kernels-cpu.json").read_text(encoding="utf-8"))


def test_rows_and_shares(tmp_path, capsys, monkeypatch, ceilings):
    monkeypatch.setattr(kernels, "last_cache_bytes", lambda: 1)
    monkeypatch.setattr(Traffic, "seconds", lambda self, mix: 1e-13 * mix.bytes)
    assert kernels.main(["--batch", "1", "--budget", "0.01", "--output-dir", str(tmp_path)]) == 0
    content = results(tmp_path)
    rows = content["rows"]
    assert [row["kernel"] for row in rows] == [case.name for case in kernels.cases(backends.get("cpu"), 1, 1, 2)]
    seconds = {row["kernel"]: row["milliseconds"] * 1e-3 for row in rows}
    shares = {row["kernel"]: row["share"] for row in rows}
    image = 4 * 64 * 56 * 56
    assert shares["relu"] == pytest.approx(1e-13 * 2 * image / seconds["relu"])
    assert shares["sgd_step"] == pytest.approx(1e-13 * 3 * image / seconds["sgd_step"])
    assert shares["max_pool2d 2x2"] == pytest.approx(1e-13 * 1.25 * image / seconds["max_pool2d 2x2"])
    pictures = 4 * 3 * 224 * 224
    assert shares["affine_images bilinear"] == pytest.approx(1e-13 * 2 * pictures / seconds["affine_images bilinear"])
    assert shares["mix_images"] == pytest.approx(1e-13 * 3 * pictures / seconds["mix_images"])
    product = "linear 1024x1024x1024"
    assert shares[product] == pytest.approx(2 * 1024**3 / seconds[product] / 1e15)
    assert {(row["algorithm"], row["threads"], row["layer"]) for row in rows} == {
        (None, content["machine"]["threads"], content["machine"]["threading_layer"])
    }
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed[-len(rows) - 1 : -1]] == [row["kernel"] for row in rows]


def test_what_the_caches_hold_has_no_share_of_the_memory(tmp_path, monkeypatch, ceilings):
    image = 4 * 64 * 56 * 56
    monkeypatch.setattr(kernels, "last_cache_bytes", lambda: 3 * image // IN_MEMORY)
    monkeypatch.setattr(Traffic, "seconds", lambda self, mix: 1e-13 * mix.bytes)
    assert kernels.main(["--batch", "1", "--budget", "0.01", "--output-dir", str(tmp_path)]) == 0
    shares = {row["kernel"]: row["share"] for row in results(tmp_path)["rows"]}
    assert shares["relu"] is None
    assert shares["relu_backward"] and shares["linear 256x400x120"]


def test_the_usual_images_are_many_times_what_the_caches_hold(monkeypatch):
    monkeypatch.setattr(kernels, "last_cache_bytes", lambda: 1 << 30)
    monkeypatch.setattr(kernels, "memory_bytes", lambda: 1 << 50)
    assert 2 * kernels.usual_batch() * kernels.IMAGE_BYTES >= IN_MEMORY << 30
    monkeypatch.setattr(kernels, "memory_bytes", lambda: 1 << 34)
    assert kernels.usual_batch() * kernels.IMAGE_BYTES * kernels.ARRAYS <= 1 << 33


@pytest.mark.parametrize("faster", ["the memory", "the peak"])
def test_a_share_that_is_impossible_is_not_written(faster, tmp_path, capsys, monkeypatch, ceilings):
    monkeypatch.setattr(kernels, "last_cache_bytes", lambda: 1)
    monkeypatch.setattr(Traffic, "seconds", lambda self, mix: 1e3 if faster == "the memory" else 0.0)
    ceilings["peak_gflops"] = 1e-6 if faster == "the peak" else 1e6
    assert kernels.main(["--batch", "1", "--budget", "0.01", "--output-dir", str(tmp_path)]) == 1
    first = "relu" if faster == "the memory" else "linear 1024x1024x1024"
    assert capsys.readouterr().err.startswith(f"error: nothing is written: {first} is at ")
    assert not list(tmp_path.iterdir())


def test_every_case_runs_on_every_backend(backend):
    few = kernels.cases(backend, 1, 2, 4)
    for case in few:
        if not case.name.startswith("linear"):
            case.run()
    backend.synchronize()
    assert all(bool(case.mix.bytes) != bool(case.operations) for case in few)


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
