"""The command: what it prints, where it listens, how it ends."""

from __future__ import annotations

import argparse
import http.client
import os
import re
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from numbacnn.cli.main import main
from numbacnn.explore import __main__ as command
from numbacnn.explore.session import Subject
from tests.strategies import SIMULATED

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.skipif(SIMULATED, reason="what is tested is no kernel")


@pytest.fixture
def visited(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the browser found that the command opened, in whose place Ctrl-C is pressed then."""
    found: dict[str, Any] = {}

    def visit(address: str) -> None:
        found["address"] = address
        host, port = re.match(r"http://([\d.]+):(\d+)/", address).groups()  # type: ignore[union-attr]
        with closing(http.client.HTTPConnection(host, int(port), timeout=10)) as connection:
            connection.request("GET", address[len(f"http://{host}:{port}") :])
            answer = connection.getresponse()
            found["page"] = answer.status, answer.read().decode()
        for other in {socket.gethostbyname(socket.gethostname()), "127.0.0.2"} - {host}:
            with pytest.raises(OSError):
                socket.create_connection((other, int(port)), timeout=2).close()
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "subject_of", lambda _: subject)
    monkeypatch.setattr(command.webbrowser, "open", visit)
    return found


def test_it_serves_on_this_machine_alone_until_control_c(
    visited: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", "--backend=reference"]) == 130
    out, err = capsys.readouterr()
    assert re.fullmatch(r"small: http://127\.0\.0\.1:\d+/[\w-]{22}/\nCtrl-C ends it\n", out) and err == "ended\n"
    assert visited["address"] in out
    status, page = visited["page"]
    assert status == 200 and "<title>numbacnn explore</title>" in page


def test_each_start_has_another_token(visited: dict[str, Any]) -> None:
    tokens = set()
    for _ in range(2):
        assert command.main(["--backend=reference"]) == 130
        tokens.add(visited["address"].split("/")[3])
    assert len(tokens) == 2


def test_a_port_that_is_wanted(visited: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with command.listening(0) as taken:
        port = taken.getsockname()[1]
        assert main(["explore", f"--port={port}", "--backend=reference"]) == 2
        assert capsys.readouterr().err.startswith(f"error: --port {port}: ")
    assert main(["explore", f"--port={port}", "--backend=reference"]) == 130
    assert f":{port}/" in visited["address"]


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", f"--run={tmp_path / 'none'}", "--backend=reference"]) == 2
    assert capsys.readouterr().err == f"error: --run {tmp_path / 'none'}: there is no such folder\n"


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_what_it_needs(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith((f"{package}.", "numbacnn.explore.server"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["explore", "--backend=reference"]) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: explore needs Starlette and uvicorn: pip install "numbacnn[explore]"')


@pytest.mark.skipif(os.name != "posix", reason="names of errors are other ones")
def test_ports_that_are_none() -> None:
    for text in ("-1", "65536", "x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=r"must be a whole number in 0\.\.65535"):
            command._port(text)
