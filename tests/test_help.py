"""Every command says how it is used."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITHOUT_OPTIONS = {"bench.peer_worker", "bench.tables"}
COMMANDS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("bench", "examples", "numbacnn/distributed", "numbacnn/explore", "numbacnn/onnx")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8") and "--" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in WITHOUT_OPTIONS])
def test_the_help_of_a_command(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [command, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(command).main()
    assert ended.value.code == 0
    assert "usage: python -m" in capsys.readouterr().out
