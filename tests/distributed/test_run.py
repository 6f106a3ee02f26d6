"""``python -m numbacnn.distributed.run``: what it starts, how often, and that nothing is left when it ends."""

from __future__ import annotations

import functools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from numbacnn.distributed import Group, run
from numbacnn.sharding import default_shards
from numbacnn.training.step import checked_shards
from tests.distributed.launching import MPIEXEC, ROOT, with_mpi
from tests.distributed.processes import LINUX, gone, processes_of, variable_of

LAUNCHER = """
import json, os, pathlib, sys
folder = pathlib.Path(__file__).parent
with open(folder / "starts", "a") as starts:
    print(json.dumps([sys.argv[1:], os.environ.get("NUMBACNN_RANKS")]), file=starts)
codes = json.loads((folder / "codes").read_text())
code = codes[len((folder / "starts").read_text().splitlines()) - 1]
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def starts_by(folder: Path, codes: list[int], *options: str) -> tuple[int, list[list[str]]]:
    """The exit code, and what was started, with a launcher that ends each time as ``codes`` say."""
    (folder / "launcher.py").write_text(LAUNCHER)
    (folder / "codes").write_text(json.dumps(codes))
    launcher = shlex.join([sys.executable, str(folder / "launcher.py"), "-v"])
    code = run.main([f"--mpiexec={launcher}", *options])
    started = [json.loads(line) for line in (folder / "starts").read_text().splitlines()]
    assert {ranks for _, ranks in started} == {options[0].partition("=")[2]}
    return code, [arguments for arguments, _ in started]


COMMAND = ["--", sys.executable, "-m", "program", "--ranks"]


def started_with(ranks: int, *more: str) -> list[str]:
    return ["-v", "-n", str(ranks), *COMMAND[1:], *more]


def test_each_start_has_a_process_fewer_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, started = starts_by(tmp_path, [1, 139, 255, 0], "--ranks=3", *COMMAND)
    assert code == 0
    assert started == [started_with(3), *(started_with(ranks, "--resume") for ranks in (2, 1, 1))]
    said = capfd.readouterr().err.splitlines()
    assert said == [
        f"{run.PROGRAM}: exit code 1; retry 1 of 3, with 2 processes",
        f"{run.PROGRAM}: exit code 139; retry 2 of 3, with 1 process",
        f"{run.PROGRAM}: exit code 255; retry 3 of 3, with 1 process",
    ]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_retries_have_an_end_and_ranks_may_stay(tmp_path: Path) -> None:
    code, started = starts_by(tmp_path, [1, 5, -9], "--ranks=4", "--min-ranks=3", "--retries=2", *COMMAND, "--resume")
    assert code == 128 + 9
    assert started == [started_with(ranks, "--resume") for ranks in (4, 3, 3)]


@pytest.mark.parametrize("last", [0, 2, 130])
def test_what_would_end_in_the_same_way_is_not_started_again(last: int, tmp_path: Path) -> None:
    code, started = starts_by(tmp_path, [1, last], "--ranks=4", "--min-ranks=4", *COMMAND)
    assert code == last and len(started) == 2


def test_no_retries_are_one_start(tmp_path: Path) -> None:
    assert starts_by(tmp_path, [7], "--ranks=1", "--retries=0", *COMMAND[1:]) == (7, [started_with(1)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "the following arguments are required: --ranks"),
        ("--ranks 0 -- python", "argument --ranks: '0' must be a whole number, 1 or more"),
        ("--ranks 2 --retries -1 -- python", "argument --retries: '-1' must be a whole number, 0 or more"),
        ("--ranks 2 --", "the program to start is missing; it is what follows --"),
        ("--ranks 2 --min-ranks 3 -- python", "--min-ranks 3: must be at most --ranks, 2"),
        ("--ranks 2 -- /nowhere/program", "there is no program '/nowhere/program'"),
        ("--ranks 2 --mpiexec /nowhere/mpiexec -- python", "there is no program '/nowhere/mpiexec'"),
        ("--ranks 2 --mpiexec= -- python", "--mpiexec '' must name a program"),
        ("--ranks 2 --mpiexec=\\' -- python", '--mpiexec "\'": No closing quotation'),
    ],
)
def test_options_that_cannot_be_used(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main(shlex.split(options))
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.skipif(os.name != "posix", reason="programs have other names")
def test_mpiexec_is_the_one_beside_python_else_that_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("beside", "path"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mpiexec").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    assert run.mpiexec_of(None) == [str(tmp_path / "beside" / "mpiexec")]
    (tmp_path / "beside" / "mpiexec").unlink()
    assert run.mpiexec_of(None) == [str(tmp_path / "path" / "mpiexec")]
    (tmp_path / "path" / "mpiexec").unlink()
    with pytest.raises(run.UserError, match="no mpiexec beside this Python and none on PATH"):
        run.mpiexec_of(None)


def test_batches_stay_cut_when_one_process_of_several_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBACNN_RANKS", raising=False)
    group = Group()
    assert default_shards(1) is None and default_shards(2) == 8 and checked_shards(None, group) is None
    monkeypatch.setenv("NUMBACNN_RANKS", "1")
    assert default_shards(1) is None
    monkeypatch.setenv("NUMBACNN_RANKS", "2")
    assert default_shards(1) == 8 and checked_shards(None, group) == 8 and checked_shards(5, group) == 5
    assert checked_shards(None, None) is None  # what a process does by itself


STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
from mpi4py import MPI

# A process of its own that nobody waits for, in another session, and that is deaf to what is asked of it.
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
files = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}  # mpiexec waits for its own to be closed
child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, **files)
child.stdout.readline()
rank = MPI.COMM_WORLD.Get_rank()
(pathlib.Path(sys.argv[1]) / f"{rank}-{os.getpid()}").touch()
MPI.COMM_WORLD.Barrier()
time.sleep(0 if sys.argv[2] == "ends" else 60)
"""


def press(*numbers: int) -> Callable[[subprocess.Popen[str]], None]:
    """Send these signals, one after another, to whom a terminal sends them."""

    def send(process: subprocess.Popen[str]) -> None:
        for number in numbers:
            os.killpg(process.pid, number)
            time.sleep(0.5)

    return send


@with_mpi
@pytest.mark.skipif(not LINUX, reason="processes are found by /proc")
@pytest.mark.parametrize(
    ("way", "ending", "code", "said"),
    [
        ("waits", press(signal.SIGINT), 130, "interrupted; to go on: python -m numbacnn.distributed.run --ranks 2 --"),
        ("waits", press(signal.SIGINT, signal.SIGINT), 130, "interrupted; to go on: python -m numbacnn"),
        ("waits", press(signal.SIGTERM), 143, ""),
        ("waits", lambda process: process.kill(), -9, ""),
        ("ends", lambda process: None, 0, ""),
    ],
    ids=["Ctrl-C", "Ctrl-C twice", "SIGTERM", "SIGKILL", "by itself"],
)
def test_no_process_is_left(
    way: str, ending: Callable[[subprocess.Popen[str]], None], code: int, said: str, tmp_path: Path
) -> None:
    variable = variable_of(tmp_path)
    arguments = ["--ranks", "2", "--", sys.executable, "-c", STUBBORN, str(tmp_path), way]
    process = subprocess.Popen(
        [sys.executable, "-m", run.__name__, *arguments],
        cwd=ROOT, env={**os.environ, **variable}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell's background job begins with Ctrl-C ignored.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        while len([*tmp_path.iterdir()]) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        begin = time.monotonic()
        ending(process)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    if code == -9:  # what is deaf is then left, but it is not a process of the program
        ranks = [int(path.name.partition("-")[2]) for path in tmp_path.iterdir()]
        assert gone(ranks, within=5)
        for pid in processes_of(variable):
            os.kill(pid, signal.SIGKILL)
    assert gone(lambda: processes_of(variable), within=0.2) and time.monotonic() - begin < 5
    assert process.returncode == code
    assert said in errors and (not said or errors.rstrip().endswith(" --resume"))
    assert "Sending Ctrl-C" not in out  # which mpiexec says when it comes there, too
    assert "retry" not in errors and len([*tmp_path.iterdir()]) == 2


@with_mpi
def test_the_launcher_is_that_of_mpi4py(tmp_path: Path) -> None:
    assert run.mpiexec_of(None) == [str(MPIEXEC)]
