"""The command ``numbacnn`` as a whole: its subcommands, how it refuses, how it ends, how shells complete it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from numbacnn import info
from numbacnn.cli.main import SHELLS, SUBCOMMANDS, main


def ended(argv: list[str]) -> object:
    """The exit code, whether it is returned or exited with."""
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code


def test_the_help_names_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, (_, summary) in SUBCOMMANDS.items():
        assert re.search(rf"^    {name} +{summary.split()[0]}", shown, re.M)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_help_of_a_subcommand(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: numbacnn {name} ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "SUBCOMMAND"),
        ("explain", "SUBCOMMAND: invalid choice: 'explain'"),
        ("--json info", "--json"),
        ("info --all", "unrecognized arguments: --all"),
        ("train", "--model"),
        ("train --model lenet --epochs 0", "argument --epochs: '0' must be a whole number, 1 or more"),
        ("train --model lenet --dataset folder", "argument --data-dir: --dataset folder needs it"),
        ("evaluate --model lenet --dataset shapes", "--model lenet: it must be a folder with a classifier"),
        ("evaluate --model x --weights w.npz --dataset shapes", "argument --model: 'x' must be one of lenet"),
        ("evaluate --model lenet --weights no.npz --dataset shapes --limit 2", "--weights no.npz: "),
        ("evaluate --model . --dataset shapes --data-dir .", "argument --data-dir: the built-in shapes are drawn"),
        ("evaluate --model . --dataset shapes", "--model .: "),
        ("predict x.png", "one of the arguments --model --pretrained is required"),
        ("predict x.png --model nowhere", "--model nowhere: there is no folder 'nowhere'"),
        ("predict x.png --model . --top 0", "argument --top: '0' must be a whole number, 1 or more"),
        ("profile --model nothing", "--model nothing: it must be one of lenet, "),
        ("profile --model lenet --shape 1,0", "argument --shape: '1,0' must be sizes of 1 or more with commas"),
        ("profile --model lenet --shape 1,28", "--shape 1,28: lenet takes images, N,C,H,W"),
        ("profile --model lenet --shape 1,1,4,4", "--shape 1,1,4,4: the model cannot take it: "),
        ("profile --model . --classes 3", "--classes 3: the saved model says itself how many it has"),
        ("explore --model nothing", "--model nothing: it must be one of lenet, "),
        ("explore --model lenet --onnx x.onnx", "argument --onnx: not allowed with argument --model"),
        ("explore --port 65536", "argument --port: '65536' must be a whole number in 0..65535"),
        ("onnx nothing.onnx", "there is no file 'nothing.onnx'"),
        ("warmup --model lenet --optimizer adam", "argument --optimizer: adam is for --train, which is not given"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBACNN_BACKEND", "reference")
    assert ended(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and said in err and err.count("\n") == 1


def test_control_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "collect", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_an_error_that_control_c_was_turned_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise OSError("cannot be read") from None

    monkeypatch.setattr("numbacnn.cli.train.load_data", read)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["train", "--model=lenet", "--backend=reference"]) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, former)
    said = "interrupted; to go on: numbacnn train --model=lenet --backend=reference --resume\n"
    assert capsys.readouterr() == ("", said)


def test_a_reader_that_goes_away() -> None:
    """What is printed when it has gone is not missed."""
    command = [sys.executable, "-m", "numbacnn", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize("shell", SHELLS)
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert ended(["--print-completion", shell]) == 0
    printed = capsys.readouterr().out
    for word in (*SUBCOMMANDS, "epochs", "resnext50", "pretrained"):
        assert word in printed


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    ended(["--print-completion", "bash"])
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    (function,) = re.findall(r"^complete .*-F (\w+) numbacnn$", script.read_text(), re.M)
    for words, found in (("ev", "evaluate"), ("train --model sq", "squeezenet"), ("info --j", "--json")):
        count = len(words.split())
        program = (
            f'complete() {{ :; }}; source "{script}"; COMP_WORDS=(numbacnn {words}); COMP_CWORD={count}; {function}; '
            'echo "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
        assert (done.stdout.split(), done.stderr) == ([found], "")


def test_completion_without_shtab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    assert capsys.readouterr().err == ('error: --print-completion needs shtab: pip install "numbacnn[completion]"\n')
