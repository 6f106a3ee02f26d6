"""The command in a process of its own, and its page in a browser, as a user has them before them."""

from __future__ import annotations

import base64
import io
import re
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
from PIL import Image


class Server:
    """The command, in another process."""

    def __init__(self, *options: str, backend: str = "cpu") -> None:
        command = [sys.executable, "-m", "numbacnn.explore", "--no-browser", f"--backend={backend}", *options]
        # A shell that runs tests in the background has Ctrl-C ignored, which children inherit.
        former = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        signal.signal(signal.SIGINT, former)
        assert self.process.stdout is not None
        line = ""
        for line in self.process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+/\S+/$", line.strip()):
                self.address = found[0]
                break
        else:
            assert self.process.stderr is not None
            raise AssertionError(self.process.stderr.read())

    def end(self) -> tuple[int, str]:
        """By Ctrl-C: the exit code, and what was said of it."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=10)
        return self.process.returncode, errors


class Opened:
    """The page; all that it asked for, and what it said on its console."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.said: list[str] = []
        self.pending = 0
        self.page.on("request", lambda request: self.count(request, 1))
        for end in ("requestfinished", "requestfailed"):
            self.page.on(end, lambda request: self.count(request, -1))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.address = address
        self.page.goto(address)
        self.page.locator("body[data-ready]").wait_for()

    def count(self, request: Any, change: int) -> None:
        if change > 0:
            self.requests.append(request.url)
        if "/api/run" not in request.url:
            self.pending += change

    def settle(self) -> None:
        """Wait until all that was asked for has come, but for the run, which is asked for all the time."""
        quiet, deadline = 0, time.monotonic() + 20
        while quiet < 4:
            assert time.monotonic() < deadline
            self.page.wait_for_timeout(30)
            quiet = 0 if self.pending else quiet + 1

    def close(self, refused: int = 0) -> None:
        """Nothing left this machine, and nothing went wrong but so many answers that were refused."""
        self.context.close()
        allowed = (self.address, "data:image/png;base64,")
        elsewhere = [url for url in self.requests if not url.startswith(allowed)]
        assert self.requests and not elsewhere, elsewhere
        expected = [text for text in self.said if text.startswith("Failed to load resource: the server responded")]
        others = [text for text in self.said if text not in expected]
        assert (len(expected), others) == (refused, []), self.said


def draw(page: Any, strokes: list[list[tuple[float, float]]]) -> None:
    box = page.locator("#pad").bounding_box()
    for stroke in strokes:
        (x, y), *others = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in stroke]
        page.mouse.move(x, y)
        page.mouse.down()
        for x, y in others:
            page.mouse.move(x, y, steps=4)
        page.mouse.up()


def drop(page: Any, content: bytes, name: str) -> None:
    """As the browser does it when a file is let go over the page."""
    script = """([content, name]) => {
      const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
      const dropped = new DataTransfer();
      dropped.items.add(new File([bytes], name));
      return dropped;
    }"""
    transfer = page.evaluate_handle(script, [base64.b64encode(content).decode(), name])
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("main", event, {"dataTransfer": transfer})


def pixels_of_canvas(page: Any, selector: str) -> np.ndarray[Any, Any]:
    text = page.locator(selector).evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))).convert("RGB"))
