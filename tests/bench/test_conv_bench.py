"""The benchmark command from options to files."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from bench import conv, conv_rows, machine, peers, problems
from bench.command import WrongResultError
from bench.contender import Contender
from bench.conv_rows import PASSES, check
from bench.timing import Timing
from bench.train_contenders import Model
from numbacnn import backends, nn, ops
from numbacnn.backends import autotune
from numbacnn.backends.geometry import Conv2dGeometry

TINY = "n2c3h6k6r3s1p1"
OTHER = "n1c2h7w5k3r3s2p1pb2"
CEILINGS = {"peak_gflops": 100.0, "peak_gflops_1_thread": 60.0, "copy_gb_per_second": 10.0}

pytestmark = pytest.mark.skipif(backends.available()["cpu"] is not None, reason="the cpu backend cannot be used")


@pytest.fixture(autouse=True)
def known_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ceilings", lambda: dict(CEILINGS))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    return lambda *options: conv.main([*options, "--output-dir", str(tmp_path)])


class DefinitionAsPeer:
    """Looks like a way in which a peer computes, by the reference backend, and then spoils the result."""

    def __init__(
        self,
        spoil: Callable[[np.ndarray], np.ndarray] = lambda result: result,
        name: str = "torch",
        bound: float | None = None,
    ) -> None:
        self.spoil, self.name, self.bound = spoil, name, bound

    def contender(self, g: Conv2dGeometry, pass_: Any, arrays: tuple[np.ndarray, ...]) -> Contender:
        def compute() -> np.ndarray:
            return self.spoil(conv_rows.call_backend(backends.get("reference"), g, pass_, "loops", arrays))

        precision = "float32" if self.bound is None else "tf32"
        return Contender(compute, bound=self.bound, precision=precision, layout="nchw", algorithm="eng0")


class FakePeers:
    """Takes the part of :class:`peers.Peers`."""

    packages = ("torch",)

    def __init__(self, *ways: DefinitionAsPeer) -> None:
        self.ways, self.names = ways, ("torch",)
        self.libraries = {"cuDNN": "9.28.1"}
        self.missing: dict[str, str] = {}

    @contextlib.contextmanager
    def case(self) -> Iterator[None]:
        yield

    def conv2d(self, g: Conv2dGeometry, *arrays: np.ndarray) -> dict[str, Any]:
        return {pass_: {way.name: partial(way.contender, g, pass_, arrays) for way in self.ways} for pass_ in PASSES}


TIMED = ("--algorithm", "loops", "im2col")


@pytest.fixture(autouse=True)
def nothing_is_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "choice", lambda backend, g, pass_: None)


@pytest.fixture
def im2col_is_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.get("cpu"), "choose_conv2d_algorithm", lambda g, pass_: "im2col")


def fixed_times(functions: dict[str, Any], **_: Any) -> dict[str, Timing]:
    seconds = {"loops": 2e-3, "im2col": 1e-3, "torch": 4e-3, "torch.compile": 3e-3, "torch-tf32": 5e-4}
    return {name: Timing((seconds[name],) * 3) for name in functions}


def test_table_json_and_plot(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert run("--problem", TINY, OTHER, TINY, "--rounds", "2") == 0
    output = capsys.readouterr().out.splitlines()
    backend = backends.get("cpu")

    threads = numba.get_num_threads()
    assert output[1] == f"ceilings: 100.0 GFLOP/s in float32 on {threads} threads, 60.0 on one, copying 10.0 GB/s"
    header = next(index for index, line in enumerate(output) if line.startswith("problem"))
    assert output[header].split() == [
        *("problem", "pass", "algorithm", "ms", "quartiles", "GFLOP/s", "peak", "workspace", "threads")
    ]
    expected = [
        [g.descriptor, pass_, name + "*" * (ops.conv2d_choice(g, backend=backend)[pass_] == name)]
        for g in map(Conv2dGeometry.parse, (TINY, OTHER))
        for pass_ in PASSES
        for name in backend.conv2d_algorithms()
    ]
    lines = output[header + 1 : header + 1 + len(expected)]
    assert [line.split()[:3] for line in lines] == expected
    assert [line.split(":")[1].split()[0] for line in output if line.startswith("geomean of 6:")] == [
        *backend.conv2d_algorithms(),
        "auto",
    ]

    content = json.loads((tmp_path / "conv-cpu.json").read_text(encoding="utf-8"))
    assert content["benchmark"] == "conv"
    assert content["machine"]["peak_gflops"] == 100.0
    assert content["machine"]["cpu"]
    assert content["versions"]["numpy"] == np.__version__
    assert content["settings"]["rounds"] == 2
    assert [[row["problem"], row["pass"], row["algorithm"] + "*" * row["auto"]] for row in content["rows"]] == expected
    for row in content["rows"]:
        g = Conv2dGeometry.parse(row["problem"])
        assert row["rounds"] == 2
        assert row["quartiles"][0] <= row["milliseconds"] <= row["quartiles"][1]
        assert row["gflops"] == pytest.approx(1e-6 * problems.flops(g) / row["milliseconds"])
        assert row["share_of_peak"] == pytest.approx(row["gflops"] / 100)
        assert row["workspace_bytes"] == backend.conv2d_workspace(g, row["pass"], row["algorithm"], 4)
        assert row["threads"] == threads
        assert row["layer"] == content["machine"]["threading_layer"]
        assert 0 <= row["difference"] < 1e-4
        assert row["peer"] is row["ratio"] is None
        assert (row["others"], row["calls"]) == ({}, 1)
    assert (tmp_path / "conv-cpu.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conv-cpu.json", "conv-cpu.png"]


@pytest.mark.usefixtures("im2col_is_picked")
def test_a_peer_s_time_ratio_and_mean(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "load", lambda *_: FakePeers(DefinitionAsPeer()))
    monkeypatch.setattr(conv, "interleave", fixed_times)
    assert run("--problem", TINY, "--peer", "torch", "--pass", "forward", "backward_weight", *TIMED) == 0
    output = capsys.readouterr().out
    rates = {name: 1e-9 * problems.flops(Conv2dGeometry.parse(TINY)) / seconds for name, seconds in
             (("loops", 2e-3), ("im2col", 1e-3), ("torch", 4e-3))}  # fmt: skip

    table = [line.split() for line in output.splitlines() if line.startswith((TINY, "problem"))]
    assert table[0][-7:] == ["best", "peer", "its", "ms", "ratio", "others'", "ms"]
    assert [line[-3:] for line in table[1:]] == [["torch", "4.000", "2.00"], ["torch", "4.000", "4.00"]] * 2
    means = [
        line.split(": ")[1].replace("the best peer ", "best ").split(" ")
        for line in output.splitlines()
        if line.startswith("geomean of 2")
    ]
    assert [(line[0], float(line[1])) for line in means] == [
        (name, pytest.approx(rates[algorithm], rel=5e-3))
        for name, algorithm in (("loops", "loops"), ("im2col", "im2col"), ("auto", "im2col"), ("best", "torch"))
    ]
    assert "2.00 times as fast as the best peer" in output and "4.00 times as fast as the best peer" in output

    content = json.loads((tmp_path / "conv-cpu.json").read_text(encoding="utf-8"))
    assert content["versions"]["cuDNN"] == "9.28.1"
    assert [row["ratio"] for row in content["rows"]] == pytest.approx([2.0, 4.0] * 2)
    assert [row["peer_gflops"] for row in content["rows"]] == pytest.approx([rates["torch"]] * 4)
    assert {row["pass"] for row in content["rows"]} == {"forward", "backward_weight"}
    assert content["summary"][-1]["gflops"] == pytest.approx(rates["torch"])


def test_the_fastest_peer_is_the_one_that_ratios_refer_to(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    ways = [DefinitionAsPeer(name=name) for name in ("torch", "torch.compile")]
    monkeypatch.setattr(peers, "load", lambda *_: FakePeers(*ways))
    monkeypatch.setattr(conv, "interleave", fixed_times)
    assert run("--problem", TINY, "--peer", "torch", "--pass", "forward", *TIMED) == 0
    rows = json.loads((tmp_path / "conv-cpu.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["peer"], row["ratio"]) for row in rows] == [("torch.compile", 1.5), ("torch.compile", 3.0)]
    assert [row["others"]["torch"]["ratio"] for row in rows] == [2.0, 4.0]


def test_a_peer_that_refuses_is_named(run: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    def refuse(result: np.ndarray) -> np.ndarray:
        raise RuntimeError("no such\nkernel")

    monkeypatch.setattr(peers, "load", lambda *_: FakePeers(DefinitionAsPeer(refuse)))
    assert run("--problem", TINY, "--peer", "torch", "--pass", "forward", "--rounds", "1", *TIMED) == 0
    assert f"{TINY} forward torch: missing: no such kernel" in capsys.readouterr().out.splitlines()
    content = json.loads((tmp_path / "conv-cpu.json").read_text(encoding="utf-8"))
    assert content["missing"] == {f"{TINY} forward torch": "no such kernel"}
    assert content["rows"][0]["peer"] is None


@pytest.mark.parametrize(("algorithm", "code"), [("im2col", 1), ("winograd", 0)])
def test_a_share_that_is_impossible_is_not_written(
    algorithm: str, code: int, run: Any, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    gflops = 1e-9 * problems.flops(Conv2dGeometry.parse(TINY)) / 1e-3
    monkeypatch.setitem(CEILINGS, "peak_gflops", gflops / 1.06)
    monkeypatch.setattr(conv, "interleave", lambda functions, **_: {name: Timing((1e-3,)) for name in functions})
    assert run("--problem", TINY, "--algorithm", algorithm, "--pass", "forward") == code
    assert (tmp_path / "conv-cpu.json").exists() is (code == 0)
    message = f"error: nothing is written: {TINY} forward {algorithm} is at 106% of its ceiling"
    assert capsys.readouterr().err.startswith(message) is (code == 1)


@pytest.mark.usefixtures("im2col_is_picked")
def test_what_tune_has_found_is_what_auto_picks(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "choice", lambda backend, g, pass_: "loops" if pass_ == "backward_weight" else None)
    monkeypatch.setattr(conv, "interleave", fixed_times)
    assert run("--problem", TINY, *TIMED) == 0
    rows = json.loads((tmp_path / "conv-cpu.json").read_text(encoding="utf-8"))["rows"]
    assert {row["pass"]: row["algorithm"] for row in rows if row["auto"]} == {
        "forward": "im2col", "backward_input": "im2col", "backward_weight": "loops"
    }  # fmt: skip


@pytest.mark.usefixtures("im2col_is_picked")
def test_a_peer_in_less_precision_is_shown_beside_and_has_its_own_bound(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rough = DefinitionAsPeer(lambda result: result * np.float32(1.005), "torch-tf32", 1e-2)
    monkeypatch.setattr(peers, "load", lambda *_: FakePeers(DefinitionAsPeer(), rough))
    monkeypatch.setattr(conv, "interleave", fixed_times)
    options = ("--problem", TINY, "--peer", "torch", "--pass", "forward", *TIMED)
    assert run(*options) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line.split() for line in lines if line.startswith((TINY, "problem"))]
    assert [line[-5:] for line in table[1:]] == [
        ["torch", "4.000", "2.00", "torch-tf32", "0.500"],
        ["torch", "4.000", "4.00", "torch-tf32", "0.500"],
    ]

    content = json.loads((tmp_path / "conv-cpu.json").read_text(encoding="utf-8"))
    gflops = 1e-9 * problems.flops(Conv2dGeometry.parse(TINY)) / 5e-4
    for row, ratio in zip(content["rows"], (0.25, 0.5), strict=True):
        assert row["peer"] == "torch"
        assert row["difference"] < 1e-4
        other = row["others"]["torch-tf32"]
        assert (other["milliseconds"], other["gflops"]) == pytest.approx((0.5, gflops))
        assert (other["precision"], other["layout"], other["algorithm"]) == ("tf32", "nchw", "eng0")
        assert (row["precision"], row["peer_precision"], row["peer_algorithm"]) == ("float32", "float32", "eng0")
        assert other["ratio"] == pytest.approx(ratio)
    assert [entry["name"] for entry in content["summary"]] == ["loops", "im2col", "auto", "the best peer"]

    rough.spoil = lambda result: result * np.float32(1.02)
    assert run(*options) == 0
    content = json.loads((tmp_path / "conv-cpu.json").read_text(encoding="utf-8"))
    assert list(content["missing"]) == [f"{TINY} forward torch-tf32"]
    assert content["missing"][f"{TINY} forward torch-tf32"].startswith(
        f"{TINY} forward: loops and torch-tf32 differ by 2.0e-02"
    )
    assert [(row["peer"], row["others"]) for row in content["rows"]] == [("torch", {})] * 2

    monkeypatch.setattr(peers, "load", lambda *_: FakePeers(rough))
    assert run(*options) == 1
    assert "loops and torch-tf32 differ by 2.0e-02" in capsys.readouterr().err


@pytest.mark.usefixtures("im2col_is_picked")
@pytest.mark.parametrize("wrong", [False, True])
def test_each_precision_is_beside_peers_of_the_same(
    wrong: bool, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_on_a_gpu(precision: str, call: Any, *arguments: Any) -> Any:
        result = call(*arguments)
        return result if precision == "float32" else result * np.float32(1.02 if wrong else 1.005)

    times = {"loops": 2e-3, "im2col": 1e-3, "im2col-tf32": 1e-4, "torch": 4e-3, "torch-tf32": 5e-4}
    ways = [DefinitionAsPeer(), DefinitionAsPeer(name="torch-tf32", bound=1e-2)]
    monkeypatch.setattr(conv_rows, "_in_precision", as_on_a_gpu)
    monkeypatch.setattr(conv, "of_backend", lambda *_: ["float32", "tf32"])
    monkeypatch.setattr(peers, "load", lambda *_: FakePeers(*ways))
    monkeypatch.setattr(conv, "interleave", lambda functions, **_: {name: Timing((times[name],)) for name in functions})
    assert run("--problem", TINY, "--peer", "torch", "--pass", "forward", *TIMED) == int(wrong)
    captured = capsys.readouterr()
    content = json.loads((tmp_path / "conv-cpu.json").read_text(encoding="utf-8"))
    found = [(row["algorithm"], row["precision"], row["auto"], row["peer"], row["ratio"]) for row in content["rows"]]
    assert found == [
        ("loops", "float32", False, "torch", pytest.approx(2.0)),
        ("im2col", "float32", True, "torch", pytest.approx(4.0)),
        *[("im2col", "tf32", True, "torch-tf32", pytest.approx(5.0))] * (not wrong),
    ]
    if wrong:  # which is told when what was right is written
        assert captured.err.startswith(f"error: {TINY} forward: loops and im2col-tf32 differ by 2.0e-02")
        return
    assert "im2col-tf32*" in captured.out
    assert [(entry["name"], entry["precision"]) for entry in content["summary"]] == [
        *((name, "float32") for name in ("loops", "im2col", "auto", "the best peer")),
        *((f"{name}-tf32", "tf32") for name in ("im2col", "auto", "the best peer")),
    ]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda result: result * np.float32(1.001), "differ by 1.0e-03"),
        (lambda result: np.where(result == result.max(), np.float32(np.nan), result), "differ by nan"),
        (lambda result: result[:, :-1], "give the shapes"),
    ],
)
def test_a_wrong_result_stops_the_run(
    spoil: Any, message: str, run: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "load", lambda *_: FakePeers(DefinitionAsPeer(spoil)))
    assert run("--problem", TINY, "--peer", "torch", "--rounds", "1") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {TINY} forward: loops and torch {message}")
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_single_contender_is_checked_by_the_definition(run: Any, capsys: Any, monkeypatch: Any) -> None:
    options = ("--problem", TINY, "--algorithm", "loops", "--pass", "backward_input", "--rounds", "1")
    assert run(*options) == 0
    capsys.readouterr()
    cpu: Any = backends.get("cpu")
    compute = cpu.conv2d_backward_input
    monkeypatch.setattr(cpu, "conv2d_backward_input", lambda *arguments: -compute(*arguments))
    assert run(*options) == 1
    assert "loops and the reference backend differ by 2.0e+00" in capsys.readouterr().err


def test_the_bound_grows_with_the_root_of_the_sum_s_length() -> None:
    g = Conv2dGeometry.parse("n1c1h8k1r3")
    assert conv_rows.reduction_length(g, "forward") == 9

    def contenders(difference: float) -> dict[str, Contender]:
        results = {"a": np.array([1.0, 4.0]), "b": np.array([1.0, 4.0 - 4.0 * difference])}
        return {name: Contender(lambda result=result: result, np.asarray) for name, result in results.items()}

    assert check(contenders(2.9e-5), g, "forward")[0] == pytest.approx({"a": 2.9e-5, "b": 2.9e-5})
    with pytest.raises(WrongResultError, match=r"a and b differ by 3\.1e-05 .* more than 3\.0e-05"):
        check(contenders(3.1e-5), g, "forward")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--problem", "n2c3"], "problem 'n2c3': .* lacks the fields h, k, r"),
        (["--problem", TINY, "n1c3h2k1r5"], "problem 'n1c3h2k1r5': .* does not fit the padded input"),
        (["--algorithm", "loops", "fft"], "algorithm 'fft' must be one of 'loops', 'im2col'"),
        (["--threads", "100000"], "--threads 100000 must be at most"),
        (["--precision", "float32", "tf32x3"], "--precision tf32x3 is of GPUs, not of the backend cpu"),
        (["--precision", "bf16"], "backend cpu does not compute in bf16"),
        (["--peer", "cudnn"], "peer cudnn computes on the GPU alone, beside --backend cuda"),
        (["--problem", "n2000000000c2000000000h2000000000k1r1"], "does not fit in memory"),
    ],
)
def test_bad_requests_are_one_line_and_exit_code_2(options: list[str], message: str, run: Any, capsys: Any) -> None:
    assert run(*options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.match(f"error: .*{message}", error)


@pytest.mark.skipif(backends.available()["cuda"] is None, reason="the cuda backend can be used")
def test_without_a_gpu_the_reason_is_given(run: Any, tmp_path: Path, capsys: Any) -> None:
    assert run("--backend", "cuda") == 2
    assert capsys.readouterr().err == f"error: backend 'cuda' cannot be used: {backends.available()['cuda']}\n"
    assert not list(tmp_path.iterdir())


def test_threads_are_not_the_gpu_s(run: Any, capsys: Any) -> None:
    assert run("--backend", "cuda", "--threads", "1") == 2
    assert capsys.readouterr().err == "error: --threads 1 is of kernels on the CPU, not of the backend cuda\n"


@pytest.mark.parametrize("options", [["--rounds", "0"], ["--budget", "nan"], ["--rounds", "2", "--budget", "1"]])
def test_bad_options(options: list[str], run: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*options)
    assert stop.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_without_torch_the_extra_is_named(run: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run("--problem", TINY, "--peer", "torch") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: peer torch cannot be imported")
    assert error.endswith('pip install "numbacnn[bench]"\n')
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_rest_is_written(run: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert run("--problem", TINY, "--rounds", "1", "--backend", "reference") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == 'no plot without matplotlib: pip install "numbacnn[plot]"'
    assert [path.name for path in tmp_path.iterdir()] == ["conv-reference.json"]


def test_an_output_folder_that_is_a_file_is_noticed_first(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert conv.main(["--output-dir", str(tmp_path / "file")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_threads_are_set_for_the_run_only(run: Any, tmp_path: Path) -> None:
    before = numba.get_num_threads()
    assert run("--problem", TINY, "--rounds", "1", "--threads", "1", "--algorithm", "im2col") == 0
    assert numba.get_num_threads() == before
    content = json.loads((tmp_path / "conv-cpu.json").read_text(encoding="utf-8"))
    assert {row["threads"] for row in content["rows"]} == {content["machine"]["threads"]} == {1}


def test_an_interruption_leaves_nothing_behind(run: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conv, "interleave", interrupt)
    assert run("--problem", TINY) == 130
    assert capsys.readouterr().err == "interrupted: nothing more is written\n"
    assert not list(tmp_path.iterdir())


def test_lists_are_problems_too() -> None:
    geometries = conv.geometries_of([TINY, "lenet", TINY], 16)
    assert [g.descriptor for g in geometries] == [TINY, *problems.CONV2D["lenet"]]


def test_the_layers_of_the_models_are_a_list_with_files_of_its_own(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    tiny = Model(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1)), lambda: None, (1, 5, 4), 2, 0.1)
    monkeypatch.setattr(problems, "MODELS", {"tiny": tiny})
    monkeypatch.setattr(peers, "load", lambda *_: FakePeers(DefinitionAsPeer()))
    monkeypatch.setattr(conv, "interleave", fixed_times)
    assert run("--problem", "models", "--batch-size", "3", "--peer", "torch", *TIMED) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conv-models-cpu.json", "conv-models-cpu.png"]
    content = json.loads((tmp_path / "conv-models-cpu.json").read_text(encoding="utf-8"))
    assert content["settings"]["batch_size"] == 3
    assert list(dict.fromkeys(row["problem"] for row in content["rows"])) == ["n3c1h5w4k2r3s1p0", "n3c2h3w2k2r1s1p0"]
    assert (tmp_path / "conv-models-cpu.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_shares_are_those_of_what_auto_picks_and_of_the_peer() -> None:
    def row(problem: str, algorithm: str, auto: bool, share: float, peer: str | None = None) -> conv_rows.Row:
        figures = {"peer": peer, "peer_gflops": 30.0} if peer else {}
        return conv_rows.Row(problem, "forward", algorithm, auto, 1.0, (1.0, 1.0), 1, 1, 100 * share, share, 0, 1, None,
                             0.0, **figures)  # fmt: skip

    rows = [row("a", "loops", True, 0.1, "torch"), row("a", "im2col", False, 0.2, "torch")]
    rows += [row("b", "loops", False, 0.3), row("b", "im2col", False, 0.2)]
    assert conv.shares_of(rows) == {
        "forward": {"a": {"numbacnn": 0.1, "the best peer": pytest.approx(0.3)}, "b": {"numbacnn": 0.3}}
    }
