"""The kernels' round on small shapes, on every backend that is there."""

from __future__ import annotations

from typing import Any

import pytest

from bench import gpu_small
from numbacnn import backends
from numbacnn.backends import Backend


@pytest.mark.parametrize("part", gpu_small.PARTS)
def test_every_part(part: str, backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    gpu_small.PARTS[part](backend)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.endswith(": right") or line.startswith("step: ") for line in lines)


def test_a_wrong_result_is_one_line_and_exit_code_1(capsys: Any, monkeypatch: Any) -> None:
    cpu: Any = backends.get("cpu")
    backward = cpu.tanh_backward
    monkeypatch.setattr(cpu, "tanh_backward", lambda dy, y: -backward(dy, y))
    assert gpu_small.main(["cpu", "elementwise"]) == 1
    assert capsys.readouterr().err == "error: elementwise: result 5 is not that of the definition\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cpu", "nothing"], "error: part 'nothing' must be one of 'convolutions', "),
        (["gpu"], "error: `backend` 'gpu' must be one of 'reference', 'cpu', 'cuda'"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: Any) -> None:
    assert gpu_small.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
