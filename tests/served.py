"""Data sets without the network: a folder that is served over HTTP on this machine, and a cache of the test's own."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOWHERE = "http://127.0.0.1:9/"


def isolate(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Put the user's cache into ``cache``, and take away the settings of this machine."""
    monkeypatch.setattr("pooch.os_cache", lambda name: cache / name)
    monkeypatch.delenv("NUMBACNN_DATA", raising=False)
    for scheme in ("http", "https", "all"):
        for variable in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.delenv(variable, raising=False)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Serve ``folder``: its address, and the commands and paths that it is asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            asked.append((self.command, self.path))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
        thread.join()


def md5_sums(folder: Path) -> dict[str, str]:
    """Of the files in ``folder``, by name."""
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
