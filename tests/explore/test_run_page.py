"""The view of a run, in a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest

from numbacnn.explore.runs import state_of
from numbacnn.explore.server import HEADERS, TYPES
from numbacnn.io.arrays import read_arrays, write_arrays
from tests.explore.test_runs import MISTAKES, PROGRESS, rewrite, train

ADDRESS = "https://run.test/"
HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<title>run</title>
<link rel="icon" href="icon.svg" type="image/svg+xml" />
<link rel="stylesheet" href="style.css" />
<link rel="stylesheet" href="run.css" />
<script type="module" src="main-of-the-test.js"></script>
<main><section class="card"><h1>Run</h1><div id="run-view"></div></section></main>
</html>"""
SCRIPT = """
import { start } from "./run.js";
window.answers = 0;
window.stop = start(document.getElementById("run-view"), async (seen) => {
  try {
    return await (await fetch("state?" + new URLSearchParams(seen === null ? {} : { seen }))).json();
  } finally {
    window.answers += 1;
  }
});
"""

SPLITS = ("train", "test")
CONTRAST = """() => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const luminance = (colours) => {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    const linear = [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)]
      .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const card = getComputedStyle(document.querySelector(".card")).backgroundColor;
  const cells = [...document.querySelectorAll(".run-confusion td")].map((cell) => getComputedStyle(cell));
  const curve = (of) => document.querySelector(`.run-curves path.${of}`);
  const curves = ["train", "test"].map((of) => getComputedStyle(curve(of)).stroke);
  return [
    ...cells.map((style) => ratio(luminance([card, style.backgroundColor]), luminance([style.color]))),
    ...curves.map((stroke) => ratio(luminance([card]), luminance([stroke]))),
  ];
}"""


class Served:
    """The folder of a run and the files of the page, for a page whose requests end here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_gone = self.was_gone = False
        self.asked: list[str] = []

    def answer(self, route: Any) -> None:
        name, _, query = route.request.url.removeprefix(ADDRESS).partition("?")
        if name == "state":
            self.asked.append(query)
            if self.is_gone:
                self.was_gone = True
                route.abort("connectionrefused")
                return
            (seen,) = parse_qs(query).get("seen", [None])
            state = json.dumps(state_of(self.folder, seen), allow_nan=False)
            route.fulfill(body=state, content_type="application/json")
        elif name in ("", "main-of-the-test.js"):
            kind = "text/javascript" if name else "text/html"
            route.fulfill(body=SCRIPT if name else HTML, content_type=kind, headers={**HEADERS, "content-type": kind})
        else:
            content = files("numbacnn.explore").joinpath("page", name).read_bytes()
            route.fulfill(body=content, content_type=TYPES[Path(name).suffix])


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    """The page of the folder, whose clock stands still between `poll` and `poll`; it may say nothing on its console."""
    page = browser.new_page(viewport={"width": 900, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.route(f"{ADDRESS}**", served.answer)
    page.clock.install()
    yield page
    page.close()
    expected = ("ERR_CONNECTION_REFUSED", "Failed to fetch") if served.was_gone else ()
    assert [text for text in said if not any(part in text for part in expected)] == []


def opened(page: Any) -> Any:
    page.goto(ADDRESS)
    page.locator(".run-status:not(:empty)").wait_for()
    return page


def poll(page: Any, served: Served) -> None:
    """Let the time until the next question pass, and the answer be shown."""
    before = len(served.asked)
    page.clock.run_for(2000)
    answered(page, before + 1)
    assert len(served.asked) == before + 1


def answered(page: Any, count: int) -> None:
    """Wait until so many questions have their answers; what these change is done before the next line of a test."""
    deadline = time.monotonic() + 10
    while page.evaluate("answers") < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def texts(page: Any, selector: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(selector).all_inner_texts()]


def test_a_run_that_has_ended(page: Any, served: Served) -> None:
    history = train(served.folder)
    opened(page)
    assert texts(page, ".run-status") == ["The run has ended: epoch 2 of 2"]
    assert "progress.json says that the run has ended, after epoch 2 of 2. Written" in texts(page, ".run-how")[0]
    assert page.get_by_role("progressbar").evaluate("bar => bar.value") == 1
    figures = dict(zip(texts(page, ".run-figures dt"), texts(page, ".run-figures dd"), strict=True))
    assert float(figures["test loss"]) == pytest.approx(history.records[-1].test_loss, rel=1e-3)
    assert figures["test accuracy"] == f"{100 * history.records[-1].test_accuracy:.1f} %"
    assert "time left" not in figures

    pictures = page.locator(".run-curves svg")
    assert [pictures.nth(i).get_attribute("aria-label") for i in range(2)] == [
        "loss over the epochs",
        "accuracy over the epochs",
    ]
    colours = [
        page.locator(f".run-curves path.{of}").first.evaluate("p => getComputedStyle(p).stroke") for of in SPLITS
    ]
    assert len(set(colours)) == 2
    page.get_by_text("Figures of every epoch").click()
    rows = texts(page, "details tbody tr")
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert page.locator("details tbody th[scope=row]").count() == 2

    state = state_of(served.folder)["mistakes"]
    assert texts(page, ".run-confusion thead th") == ["label \\ said", "low", "high"]
    assert texts(page, ".run-confusion tbody th") == ["low", "high"]
    shown = [[int(text) for text in texts(page, f".run-confusion tbody tr:nth-child({row}) td")] for row in (1, 2)]
    assert shown == state["confusion"]
    names = state["classes"]
    assert texts(page, ".run-worst figcaption") == [
        f"label {names[one['label']]}, said {names[one['predicted']]}, {100 * one['predicted_probability']:.1f} %"
        for one in state["worst"]
    ]
    image = page.locator(".run-worst img").first
    assert image.evaluate("image => image.complete && image.naturalWidth") == 2
    assert image.get_attribute("alt") == f"Test image {state['worst'][0]['index']}, {names[state['worst'][0]['label']]}"


def test_a_cell_chooses_among_the_mistakes(page: Any, served: Served) -> None:
    train(served.folder)
    opened(page)
    worst = state_of(served.folder)["mistakes"]["worst"]
    kinds = sorted({(one["label"], one["predicted"]) for one in worst})
    buttons = page.locator(".run-confusion button")
    assert buttons.count() == len(kinds)
    of_kind = [one for one in worst if (one["label"], one["predicted"]) == kinds[0]]
    # By keys, and the choice and the focus outlast the table of a later epoch.
    buttons.first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".run-worst figure").count() == len(of_kind)
    assert "label low, said high" in texts(page, ".run-filter")[0]
    arrays, metadata = read_arrays(served.folder / MISTAKES)
    write_arrays(served.folder / MISTAKES, arrays | {"epoch": np.array(3)}, metadata)
    poll(page, served)
    assert "After epoch 3" in texts(page, ".run-filter")[0] and "label low, said high" in texts(page, ".run-filter")[0]
    pressed = page.locator(".run-confusion button[aria-pressed=true]")
    assert pressed.evaluate("button => button === document.activeElement")
    page.get_by_role("button", name="Show all").click()
    assert page.locator(".run-worst figure").count() == len(state_of(served.folder)["mistakes"]["worst"])
    assert not page.get_by_role("button", name="Show all").is_visible()


def test_a_run_is_followed_from_before_its_beginning(page: Any, served: Served) -> None:
    opened(page)
    assert texts(page, ".run-status") == ["There is no run"]
    assert not page.locator(".run-confusion").is_visible()
    train(served.folder)
    rewrite(served.folder / PROGRESS, doing="training", epoch=3, epochs=5, batch=1, seconds_left=200.4)
    poll(page, served)
    assert texts(page, ".run-status") == ["The run goes on: epoch 3 of 5"]
    figures = dict(zip(texts(page, ".run-figures dt"), texts(page, ".run-figures dd"), strict=True))
    assert figures["training"] == "batch 1 of 3" and figures["time left"] == "3 min 20 s"
    assert int(figures["examples a second"].replace(",", "")) > 0
    assert page.get_by_role("progressbar").evaluate("bar => bar.value") == pytest.approx((2 + 1 / 3) / 5)
    version = state_of(served.folder)["version"]
    poll(page, served)
    assert parse_qs(served.asked[-1]) == {"seen": [version]}
    assert page.locator(".run-worst figure").count() > 0  # it was left out of the answer, and stays


def test_what_is_wrong_is_said(page: Any, served: Served) -> None:
    train(served.folder)
    (served.folder / MISTAKES).write_bytes(b"damaged")
    opened(page)
    assert "mistakes.safetensors' is no whole .safetensors file" in page.get_by_role("alert").inner_text()
    assert page.locator(".run-curves svg").count() == 2 and not page.locator(".run-confusion").is_visible()
    served.is_gone = True
    poll(page, served)
    assert texts(page, ".run-status") == ["The server is gone"]
    assert page.locator(".run-curves svg").count() == 2
    (served.folder / MISTAKES).unlink()
    served.is_gone = False
    poll(page, served)
    assert texts(page, ".run-status") == ["The run has ended: epoch 2 of 2"]
    assert not page.get_by_role("alert").is_visible()


def test_a_hidden_page_asks_nothing_and_one_that_is_seen_again_does(page: Any, served: Served) -> None:
    train(served.folder)
    opened(page)

    def be(hidden: bool) -> None:
        page.evaluate(
            "hidden => { Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });"
            "document.dispatchEvent(new Event('visibilitychange')); }",
            hidden,
        )

    be(True)
    asked = len(served.asked)
    page.clock.run_for(10000)
    assert len(served.asked) == asked
    be(False)
    answered(page, asked + 1)
    assert len(served.asked) == asked + 1
    poll(page, served)
    page.evaluate("stop()")
    page.clock.run_for(10000)
    assert len(served.asked) == asked + 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_and_contrast(browser: Any, served: Served, scheme: str) -> None:
    """Nothing is wider than the page, and numbers can be read on the shades of their cells."""
    train(served.folder)
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    page.route(f"{ADDRESS}**", served.answer)
    opened(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) == 4 + len(SPLITS) and min(ratios[:4]) >= 4.5 and min(ratios[4:]) >= 3
    page.close()
