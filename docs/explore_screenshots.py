"""The pictures in the guide to ``numbacnn explore``: ``python -m docs.explore_screenshots`` makes them anew.

It starts the command as a user does who names no model, draws an arrow, and clicks a unit, in Chromium by Playwright.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
SIZE = {"width": 1280, "height": 1212}
ARROW = [(0.5, 0.1), (0.82, 0.45), (0.62, 0.45), (0.62, 0.88), (0.38, 0.88), (0.38, 0.45), (0.18, 0.45), (0.5, 0.1)]
"""Through which points of the pad it is drawn, in shares of its side."""


def main() -> None:
    """Write explore-light.png and explore-dark.png."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-u", "-m", "numbacnn.explore", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as started:
        assert server.stdout is not None
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto(address)
            page.locator("body[data-ready]").wait_for()
            box = page.locator("#pad").bounding_box()
            assert box is not None
            points = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in ARROW]
            page.mouse.move(*points[0])
            page.mouse.down()
            for x, y in points[1:]:
                page.mouse.move(x, y, steps=20)
            page.mouse.up()
            page.locator("#graph [data-layer='3']").click()
            page.locator("#maps button").nth(12).click()
            page.locator("#map").click(position={"x": 150, "y": 90})
            page.locator("#unit .equation").wait_for()
            page.wait_for_timeout(500)
            page.locator("#layer-heading").click()
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=IMAGES / f"explore-{scheme}.png")
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
