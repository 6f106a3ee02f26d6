"""The page in a real browser: drawn in, dropped on, clicked through, by mouse and by keys."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from examples.draw_a_digit import enlarged_digits
from numbacnn import data, explain, models, nn, optim, training, use_backend
from tests.explore.conftest import BROWSER
from tests.explore.opened import Opened, Server, draw, drop, pixels_of_canvas
from tests.explore.test_runs import train
from tests.explore.test_uploads import png_that_claims, stored
from tests.strategies import SIMULATED

pytest.importorskip("sklearn")
pytest.importorskip("starlette")
pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium"),
    pytest.mark.skipif(SIMULATED or os.name != "posix", reason="the usual way to run"),
]

DIGITS: dict[str, list[list[tuple[float, float]]]] = {
    "0": [[(0.5 + 0.2 * np.sin(t), 0.5 - 0.33 * np.cos(t)) for t in np.linspace(0, 2 * np.pi, 40)]],
    "1": [[(0.5, 0.15), (0.5, 0.85)]],
    "7": [[(0.25, 0.2), (0.75, 0.2), (0.42, 0.85)]],
}
"""Strokes through points of the pad, in shares of its side."""


TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"
NAMELESS = """() => [...document.querySelectorAll("button, input, select, canvas, img, a, [role=application]")]
  .filter((e) => !e.closest("[aria-hidden=true]") && e.checkVisibility() && !e.querySelector("img[alt]"))
  .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.alt || e.labels?.length))
  .filter((e) => !e.getAttribute("aria-labelledby"))
  .map((e) => e.outerHTML.slice(0, 120))"""
LEVELS = (
    "() => [...document.querySelectorAll('h1, h2, h3')].filter((h) => h.checkVisibility()).map((h) => +h.tagName[1])"
)
CUT_OFF = """() => [...document.querySelectorAll("main *")]
  .filter((e) => e.checkVisibility())
  .filter((e) => !e.closest(".scrolled, .sum, .run-scrolled, svg, .unseen, .switch, .samples"))
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LeNet that knows digits."""
    folder = tmp_path_factory.mktemp("digits") / "lenet"
    with use_backend("cpu"):
        nn.init.manual_seed(0)
        model = models.lenet(pooling="max")
        nn.init.xavier_uniform(model)
        images, _ = enlarged_digits()
        loader = data.DataLoader(images, 64, True, 0)
        training.fit(model, loader, None, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), 0.003), 12)
        nc.Classifier(model, images.classes, data.Preprocessing(28, channels=1)).save(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(folder)
    return folder


@pytest.fixture(scope="module")
def server(digits: Path, run: Path) -> Iterator[Server]:
    server = Server("--model", str(digits), "--run", str(run))
    yield server
    assert server.end() == (130, "ended\n")


@pytest.fixture
def opened(browser: Any, server: Server) -> Iterator[Opened]:
    opened = Opened(browser, server.address)
    yield opened
    opened.close(refused=getattr(opened, "refused", 0))


@pytest.fixture
def page(opened: Opened) -> Any:
    return opened.page


def first(page: Any, expected: str) -> None:
    """Wait until the model says it."""
    page.locator("#first").filter(has_text=re.compile(f"^{expected}, ")).wait_for()


def number_in(text: str) -> float:
    return float(text.replace(MINUS, "-"))


def some_digit(label: int) -> np.ndarray[Any, Any]:
    images, _ = enlarged_digits()
    return np.asarray(images.images[images.labels == label][4])


@pytest.mark.parametrize("digit", DIGITS)
def test_a_digit_is_named_as_one_draws(page: Any, digit: str) -> None:
    draw(page, DIGITS[digit])
    first(page, digit)
    likeliest = page.locator("#classes .likeliest")
    assert likeliest.locator(".name").inner_text() == digit
    assert float(likeliest.locator(".share").inner_text().removesuffix(" %")) > 40
    assert page.locator("#classes li").count() == 10
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Draw something, or choose a sample.", exact=True).wait_for()
    assert page.locator("#classes li").count() == 0


def test_what_is_drawn_is_undone(opened: Opened) -> None:
    page = opened.page
    draw(page, DIGITS["1"])
    opened.settle()
    before = pixels_of_canvas(page, "#view")
    draw(page, [[(0.2, 0.2), (0.8, 0.2)], [(0.2, 0.8), (0.8, 0.8)]])
    opened.settle()
    assert (pixels_of_canvas(page, "#view") != before).any()
    page.locator("#pad").press("Control+z")
    page.get_by_role("button", name="Undo").click()
    opened.settle()
    np.testing.assert_array_equal(pixels_of_canvas(page, "#view"), before)


def test_a_file_is_dropped(opened: Opened) -> None:
    page = opened.page
    image = Image.fromarray(some_digit(5)[0]).resize((90, 90))
    drop(page, stored(image), "five.png")
    first(page, "5")
    opened.settle()
    assert page.locator("input[value=picture]").is_checked() and not page.locator("#pad").is_visible()
    seen = pixels_of_canvas(page, "#view")
    assert seen.shape == (280, 280, 3) and seen.max() > 200


def test_a_file_is_chosen(page: Any) -> None:
    page.get_by_text("Picture", exact=True).click()
    content = stored(Image.fromarray(some_digit(3)[0]), "JPEG", quality=95)
    page.locator("#file").set_input_files({"name": "three.jpg", "mimeType": "image/jpeg", "buffer": content})
    first(page, "3")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bomb.png", png_that_claims(50_000, 50_000), "'bomb.png' has too many pixels: at most 89,478,485 are taken"),
        ("note.txt", b"a text", "'note.txt' cannot be read as an image"),
    ],
)
def test_what_is_no_image_is_told(opened: Opened, name: str, content: bytes, said: str) -> None:
    page = opened.page
    draw(page, DIGITS["1"])
    first(page, "1")
    drop(page, content, name)
    alert = page.get_by_role("alert").first
    alert.filter(has_text=said).wait_for()
    assert page.locator("#first").inner_text().startswith("1, ")  # what was there stays
    draw(page, [[(0.5, 0.2), (0.5, 0.8)]])
    page.wait_for_function("() => document.getElementById('alert').textContent === ''")
    opened.refused = 1  # type: ignore[attr-defined]


def test_a_message_stays_when_what_was_asked_before_is_answered(opened: Opened) -> None:
    page, drawing = opened.page, "**/api/drawing?*"
    held: list[Any] = []
    page.route(drawing, lambda route: route.continue_() if held else held.append(route))
    with page.expect_request(drawing):
        draw(page, DIGITS["1"])
    drop(page, b"a text", "note.txt")
    alert = page.get_by_role("alert").first
    alert.filter(has_text="cannot be read as an image").wait_for()
    held[0].continue_()
    first(page, "1")
    opened.settle()
    assert "cannot be read as an image" in alert.inner_text()
    opened.refused = 1  # type: ignore[attr-defined]


def test_too_large_a_file_is_not_sent(page: Any) -> None:
    page.evaluate("""() => {
      const dropped = new DataTransfer();
      dropped.items.add(new File([new Uint8Array(40 << 20)], "huge.png"));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
    }""")
    page.get_by_text("'huge.png' has 41,943,040 bytes; at most 33,554,432 are taken.").wait_for()


def test_layers_are_chosen_in_graph_and_table(page: Any) -> None:
    draw(page, DIGITS["0"])
    first(page, "0")
    page.locator('#graph [data-layer="3"]').click()
    page.get_by_role("heading", name="16 feature maps of 8").wait_for()
    assert page.get_by_role("heading", name="Layer 3: Conv2d").is_visible()
    assert page.locator("#maps button").count() == 16
    pictures = {page.locator("#maps canvas").nth(i).evaluate("c => c.toDataURL()") for i in range(16)}
    assert len(pictures) == 16
    assert page.locator("#filters canvas").count() == 6
    assert page.locator("#table tr.selected button").inner_text() == "3 Conv2d"

    page.get_by_role("button", name="9 Linear", exact=True).click()
    page.get_by_role("heading", name="84 numbers").wait_for()
    assert not page.locator("#filters-part").is_visible() and not page.locator("#maps").is_visible()
    assert page.locator("#graph .selected title").text_content().startswith("9 Linear")
    cells = page.get_by_role("row").filter(has_text="9 Linear").get_by_role("cell").all_inner_texts()
    assert cells[1:] == ["84", "10,164", f"28 {TIMES} 28", "10,080"]


def test_a_unit_is_clicked(page: Any, digits: Path) -> None:
    """What is written of it is what the model computes, and its field is outlined."""
    draw(page, DIGITS["7"])
    first(page, "7")
    page.locator('#graph [data-layer="3"]').click()
    page.get_by_role("heading", name="16 feature maps of 8").wait_for()
    page.locator("#maps button").nth(5).click(position={"x": 3, "y": 3})
    page.locator("#map").click(position={"x": 150, "y": 100})
    page.locator("#unit .equation").wait_for()
    where, _, value = page.locator("#readout").inner_text().partition(": ")
    row, column = map(int, re.findall(r"\d+", where))
    assert page.locator("#map-heading").inner_text() == "Map 5" and (row, column) != (0, 0)

    classifier = nc.load_classifier(digits)
    seen = pixels_of_canvas(page, "#view")[5::10, 5::10, :1].transpose(2, 0, 1)
    outlined = np.argwhere((np.abs(pixels_of_canvas(page, "#view").astype(int) - (255, 154, 60)) < 3).all(axis=2))
    (top, left), (bottom, right) = outlined.min(axis=0) // 10, outlined.max(axis=0) // 10
    field_text = f"rows {top}.{bottom}, columns {left}.{right}$"
    page.locator("#unit figcaption").first.filter(has_text=re.compile(field_text)).wait_for()
    field = explain.unit(classifier.model, classifier.preprocessing(seen.copy()), "3", (5, row, column)).field
    assert field == ((top, bottom), (left, right))

    equation = page.locator("#unit .equation").inner_text()
    assert equation.count("·") == 6 and "bias" in equation
    total = number_in(equation.rpartition(" = ")[2])
    assert total == pytest.approx(number_in(value), rel=0.01)
    tables = page.locator("#unit table")
    assert tables.count() == 6 and tables.first.locator("td").count() == 25
    parts = [number_in(text.rpartition(": ")[2]) for text in page.locator("#unit caption").all_inner_texts()]
    bias = number_in(re.search(r"bias (\S+)", equation)[1])  # type: ignore[index]
    assert sum(parts) + bias == pytest.approx(total, abs=0.03 * max(map(abs, [1, *parts])))


def test_grad_cam_is_laid_over_the_image(opened: Opened) -> None:
    page = opened.page
    draw(page, DIGITS["0"])
    opened.settle()
    plain = pixels_of_canvas(page, "#view")
    assert (plain == plain[..., :1]).all()
    page.get_by_label("Grad-CAM: where it saw").check()
    opened.settle()
    coloured = pixels_of_canvas(page, "#view")
    assert (coloured != coloured[..., :1]).any()
    page.get_by_label("Class of Grad-CAM").select_option("7")
    opened.settle()
    assert (pixels_of_canvas(page, "#view") != coloured).any()
    page.get_by_label("Grad-CAM: where it saw").uncheck()
    opened.settle()
    np.testing.assert_array_equal(pixels_of_canvas(page, "#view"), plain)


def test_all_of_it_by_keys(page: Any) -> None:
    def focus(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"the Tab key does not get to {selector}")

    focus("#pad")
    for key in [*["Shift+ArrowUp"] * 4, "Space", *["Shift+ArrowDown"] * 8, "Space"]:
        page.keyboard.press(key)
    first(page, "1")
    focus("#graph .node")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("heading", name="Layer 3: Conv2d").wait_for()
    focus("#maps button")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Map 1", exact=True).wait_for()
    focus("#map")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    page.locator("#readout").filter(has_text=re.compile("^row 1, column 1: ")).wait_for()
    page.locator("#unit .equation").wait_for()
    assert page.locator("#readout").get_attribute("aria-live") == "polite"
    for selector in ("#map", "#pad", "#graph [data-layer]"):
        assert page.locator(selector).first.get_attribute("role") in ("application", "button")
    focus("#cam")
    page.keyboard.press("Space")
    assert page.get_by_label("Grad-CAM: where it saw").is_checked()


def test_everything_has_a_name(page: Any) -> None:
    """That a screen reader can say."""
    draw(page, DIGITS["1"])
    first(page, "1")
    nameless = page.evaluate(NAMELESS)
    assert nameless == []
    levels = page.evaluate(LEVELS)
    assert levels[0] == 1 and all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_light_and_dark_wide_and_narrow(browser: Any, server: Server, scheme: str, width: int) -> None:
    opened = Opened(browser, server.address, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = opened.page
    draw(page, DIGITS["7"])
    first(page, "7")
    page.locator("#map").click(position={"x": 100, "y": 100})
    page.locator("#unit .equation").wait_for()
    grey = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    brightness = np.mean([int(part) for part in re.findall(r"\d+", grey)[:3]])
    assert brightness > 230 if scheme == "light" else brightness < 40
    assert page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    # Nothing is cut off but in lists that scroll.
    cut = page.evaluate(CUT_OFF)
    assert cut == []
    # The middle of the scale is as light as what is around it.
    background = np.median(pixels_of_canvas(page, "#legend canvas")[0, 28:36])
    assert background > 200 if scheme == "light" else background < 80
    opened.close()


def test_the_theme_changes_while_the_page_is_open(opened: Opened) -> None:
    page = opened.page
    draw(page, DIGITS["1"])
    opened.settle()
    light = pixels_of_canvas(page, "#map").mean()
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert pixels_of_canvas(page, "#map").mean() < light - 40


def test_a_training_is_watched_beside_it(page: Any) -> None:
    page.get_by_role("heading", name="Training").wait_for()
    page.get_by_text("The run has ended: epoch 2 of 2").wait_for()
    assert page.locator(".run-curves svg").count() >= 2
    assert page.locator(".run-confusion td").count() > 3


def test_a_model_with_random_weights_says_so_and_shows_many_maps_in_parts(browser: Any) -> None:
    server = Server("--model=fast", backend="reference")
    try:
        opened = Opened(browser, server.address)
        page = opened.page
        assert "random" in page.locator("#note.warning").inner_text()
        page.locator("#samples button").nth(3).click()
        page.locator("#first").filter(has_text="by random weights").wait_for()
        page.get_by_role("heading", name="48 feature maps of 28").wait_for()
        assert page.locator("#maps button").count() == 32
        assert re.search("0.31 of 48", page.locator("#maps-pager").inner_text())
        page.get_by_role("button", name="Later maps").click()
        page.get_by_role("button", name="Map 47").click()
        assert page.locator("#maps button").count() == 16
        page.locator("#map").click(position={"x": 100, "y": 100})
        page.locator("#unit .equation").wait_for()
        page.get_by_role("button", name="Earlier maps").click()
        page.get_by_role("button", name="Map 0", exact=True).wait_for()
        opened.close()
    finally:
        code, _ = server.end()
    assert code == 130
