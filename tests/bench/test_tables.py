"""The tables of the README and the documentation are those of the committed results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench import tables

ROW = {"task": "train", "model": "nin", "batch_size": 128, "threads": 2, "layer": "omp", "contender": "numbacnn",
       "algorithm": "loops 3", "milliseconds": 2.0, "gflops": 12.0, "share_of_peak": 0.12, "best_peer": "torch",
       "ratio": 1.5}  # fmt: skip
PEER = {"algorithm": "eager", "layer": None, "best_peer": None, "ratio": None}
RESULTS: dict[str, Any] = {
    "machine": {"cpu": "one", "cores": 2, "threads": 2, "threading_layer": "omp", "peak_gflops": 100.0,
                "peak_gflops_1_thread": 60.0},
    "versions": {"numpy": "2.0"},
    "measured": "2026-01-02T03:04:05",
    "commit": "0123456789abcdef",
    "missing": {"openvino": "not installed"},
    "rows": [
        ROW,
        {**ROW, **PEER, "contender": "torch", "milliseconds": 3.0},
        {**ROW, "task": "infer", "batch_size": 1, "contender": "numbacnn session",
         "best_peer": "onnxruntime", "ratio": 0.5},
        {**ROW, **PEER, "task": "infer", "batch_size": 1, "contender": "onnxruntime", "milliseconds": 1.0},
    ],
    "start": [{"contender": "numbacnn", "kernel_cache": "empty", "seconds": 12.5},
              {"contender": "torch", "kernel_cache": None, "seconds": 3.0}],
}  # fmt: skip
MODELS = """\
one, 2 cores, 2 threads (omp); numpy 2.0; float32 peak 100 GFLOP/s (60 on one thread); measured 2026-01-02 at \
0123456789. Times are medians of interleaved calls; the ratio is the best peer's time over ours.

| task | model | batch | threads | contender | algorithm | ms | GFLOP/s | of peak | torch ms | onnxruntime ms \
| best peer | ratio |
|---|---|---:|---|---|---|---:|---:|---:|---:|---:|---|---:|
| train | nin | 128 | 2 (omp) | numbacnn | loops 3 | 2.00 | 12.0 | 12 % | 3.00 |  | torch | 1.50 |
| infer | nin | 1 | 2 (omp) | numbacnn session | loops 3 | 2.00 | 12.0 | 12 % |  | 1.00 | onnxruntime | 0.50 |

From the start of a process to the end of LeNet's first training step:

| contender | kernel cache | s |
|---|---|---:|
| numbacnn | empty | 12.50 |
| torch |  | 3.00 |

Missing: openvino: not installed"""


SECTIONS = [(page, name) for page, sections in tables.PAGES.items() for name in sections]


@pytest.mark.parametrize(("page", "name"), SECTIONS)
def test_pages_show_the_committed_results(page, name):
    """Where there are none, the section is empty."""
    text = (tables.ROOT / page).read_text(encoding="utf-8")
    file, make = tables.PAGES[page][name]
    results = tables.found_results().get(file)
    if results is None:
        assert f"<!-- bench:{name} -->\n<!-- end -->\n" in text
    else:
        assert tables.replace_section(text, name, make(results)) == text


def test_the_ladder_of_one_convolution():
    row = {"problem": tables.LADDER, "pass": "forward", "peer": "torch", "peer_gflops": 150.0}
    rows = [
        {**row, "algorithm": "loops", "gflops": 50.0, "share_of_peak": 0.125},
        {**row, "algorithm": "direct", "gflops": 200.0, "share_of_peak": 0.5},
    ]
    lines = tables.ladder_section({**RESULTS, "rows": [*rows, {**rows[0], "problem": "another"}]}).splitlines()
    assert lines[2:] == [
        "| | forward |",
        "|---|---|",
        "| `loops` | 50.0, 12 % |",
        "| `direct` | 200, 50 %, 4.0 |",
        "| the best peer | 150, 38 % (torch) |",
    ]


def test_the_summary():
    row = {"task": "train", "model": "lenet", "batch_size": 16, "threads": 2, "contender": "numbacnn captured"}
    rows = [
        {**row, "ratio": 2.0},
        {**row, "model": "nin", "ratio": 8.0},
        {**row, "model": "plain-0.0", "ratio": 1.5},
        {**row, "task": "infer", "batch_size": 1, "contender": "numbacnn session", "ratio": 1.25},
        {**row, "threads": 1, "ratio": 9.0},
        {**row, "contender": "torch", "ratio": None},
    ]
    settings = {"drawn": {"plain-0.0": "conv 3"}, "peers": ["torch", "onnxruntime"]}
    lines = tables.summary_section({**RESULTS, "rows": rows, "settings": settings}).splitlines()
    assert "The fastest of torch, onnxruntime over ours, on 2 threads" in lines[0]
    assert lines[2:] == [
        "| | batch | the package's | drawn | least |",
        "|---|---:|---:|---:|---|",
        "| training step | 16 | 4.00 | 1.50 | 1.50 (plain-0.0) |",
        "| inference session | 1 | 1.25 |  | 1.25 (lenet) |",
    ]


def test_the_section_of_models():
    assert tables.models_section(RESULTS) == MODELS


def test_the_section_of_memory():
    row = {"model": "nin", "batch_size": 128, "contender": "numbacnn", "bytes": 3 << 20, "ratio": 1.25}
    rows = [row, {**row, "contender": "torch", "bytes": 15 << 18, "ratio": None}]
    assert tables.memory_section({**RESULTS, "rows": rows}).splitlines() == [
        f"{MODELS.splitlines()[0].partition(' Times')[0]} MiB that a model and its training add to a process that has "
        "imported everything.",
        "",
        "| model | batch | contender | MiB | ratio |",
        "|---|---:|---|---:|---:|",
        "| nin | 128 | numbacnn | 3.00 | 1.25 |",
        "| nin | 128 | torch | 3.75 |  |",
        "",
        "Missing: openvino: not installed",
    ]


def test_of_many_peers_the_best_one_has_a_column(monkeypatch):
    monkeypatch.setattr(tables, "MOST_PEERS", 1)
    lines = tables.models_section(RESULTS).splitlines()
    assert lines[2].endswith("| of peak | best peer's ms | best peer | ratio |")
    assert lines[4].endswith("| 12 % | 3.00 | torch | 1.50 |")
    assert lines[5].endswith("| 12 % | 1.00 | onnxruntime | 0.50 |")


def test_each_precision_of_a_convolution_has_a_row():
    row = {"problem": "n1c1h3k1r1", "pass": "forward", "algorithm": "implicit_gemm", "auto": True, "gflops": 10.0,
           "milliseconds": 2.0, "share_of_peak": 0.1, "precision": "float32", "peer": "cudnn", "peer_milliseconds": 3.0,
           "ratio": 1.5}  # fmt: skip
    alone = {"precision": "bf16", "peer": None, "peer_milliseconds": None, "ratio": None}
    results = {**RESULTS, "settings": {"peers": ["cudnn"]}, "rows": [row, {**row, **alone}], "missing": {}}
    assert tables.conv_section(results).splitlines()[2:] == [
        "| problem | pass | precision | implicit_gemm | auto's GFLOP/s | of peak | best peer | its ms | ratio |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
        "| `n1c1h3k1r1` | forward | float32 | **2.00** | 10.0 | 10 % | cudnn | 3.00 | 1.50 |",
        "| `n1c1h3k1r1` | forward | bf16 | **2.00** | 10.0 | 10 % |  |  |  |",
    ]


def test_the_section_of_models_without_peers():
    alone = {"rows": [{**ROW, "best_peer": None, "ratio": None}], "start": [], "missing": {}}
    lines = tables.models_section({**RESULTS, **alone}).splitlines()
    assert lines[0].endswith("Times are medians of interleaved calls.")
    assert lines[2:] == [
        "| task | model | batch | threads | contender | algorithm | ms | GFLOP/s | of peak |",
        "|---|---|---:|---|---|---|---:|---:|---:|",
        "| train | nin | 128 | 2 (omp) | numbacnn | loops 3 | 2.00 | 12.0 | 12 % |",
    ]


def test_sections_with_results_are_rewritten(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.main() == 1
    assert capsys.readouterr().err.startswith(f"error: nothing in {tmp_path}: run ")
    (tmp_path / "models-cpu.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    monkeypatch.setattr(tables, "PAGES", {"README.md": {"all": ("models-cpu", tables.models_section)}})
    before = "a\n<!-- bench:conv-cpu -->\nkept\n<!-- end -->\n<!-- bench:all -->\n{}<!-- end -->\nb\n"
    (tmp_path / "README.md").write_text(before.format(""), encoding="utf-8")
    assert tables.main() == 0
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == before.format(MODELS + "\n")


def of(**changed: Any) -> dict[str, Any]:
    return {**RESULTS, **changed}


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        ({"models-cpu": of(), "conv-cpu": of(measured="2026-01-02T23:00:00")}, []),
        (
            {"models-cpu": of(commit="0123-dirty")},
            ["models-cpu: its commit is 0123-dirty: measure the code of a commit as it is"],
        ),
        (
            {"models-cpu": {key: value for key, value in RESULTS.items() if key != "commit"}},
            ["models-cpu: its commit is unknown: measure the code of a commit as it is"],
        ),
        (
            {"models-cpu": of(rows=[ROW, {**ROW, "share_of_peak": 1.06}, {**ROW, "share_of_peak": 1.05}])},
            ["models-cpu: train nin 128 numbacnn loops 3 is at 106% of its ceiling, and no more than 105% is possible"],
        ),
    ],
)
def test_results_that_cannot_be_shown_are_refused(
    found: Any, faults: Any, tmp_path: Any, capsys: Any, monkeypatch: Any
) -> None:
    assert tables.faults(found) == faults
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "results_of", found.get)
    monkeypatch.setattr(tables, "SECTIONS", dict.fromkeys(found))
    monkeypatch.setattr(tables, "PAGES", {"README.md": {name: (name, lambda results: "new") for name in found}})
    before = "".join(f"<!-- bench:{name} -->\n<!-- end -->\n" for name in found)
    (tmp_path / "README.md").write_text(before, encoding="utf-8")
    assert tables.main() == bool(faults)
    assert capsys.readouterr().err.splitlines() == [f"error: {line}" for line in faults]
    assert ("new" in (tmp_path / "README.md").read_text(encoding="utf-8")) is not bool(faults)


@pytest.mark.parametrize(
    ("found", "older"),
    [
        ({"models-cpu": of(), "conv-cpu": of(measured="2026-01-02T23:00:00")}, []),
        # another machine, which one cannot always have on the same day: what it measured is old all the same
        (
            {"models-cpu": of(), "kernels-cuda": of(measured="2025-12-30T01:00:00", commit="fedcba9876543210")},
            ["kernels-cuda"],
        ),
        (
            {"models-cpu": of(library="ab12"), "conv-cpu": of(measured="2026-01-01T23:59:59", library="cd34")},
            ["conv-cpu"],
        ),
        # the package is the same, what measures it has changed
        ({"models-cpu": of(library="ab12"), "conv-cpu": of(commit="fedcba9876543210", library="ab12")}, []),
        (
            {"conv-cpu": of(measured="2026-01-02T01:00:00", commit="fedcba9876543210"), "models-cpu": of()},
            ["conv-cpu"],
        ),
    ],
)
def test_results_of_an_older_package_say_so(found: Any, older: list[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(tables, "results_of", found.get)
    marked = tables.found_results()
    assert [name for name, results in marked.items() if results["older"]] == older
    for name, results in marked.items():
        assert (", of an older package." in tables.models_section(results)) is (name in older)


def test_the_committed_results_can_be_shown():
    assert tables.faults(tables.found_results()) == []


def test_replaces_only_its_section():
    text = "a\n<!-- bench:conv -->\nold\n<!-- end -->\nb\n<!-- bench:other -->\nkept\n<!-- end -->\n"
    replaced = tables.replace_section(text, "conv", r"new \1")
    assert replaced == text.replace("old", r"new \1")


def test_a_page_without_the_section_is_an_error():
    with pytest.raises(ValueError, match="has no section between <!-- bench:conv -->"):
        tables.replace_section("nothing here", "conv", "new")
