"""The documentation builds without a warning, and a browser shows formulas, pictures and code."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
# What a page looks like, told in its title.
MEASURE = """
<script>
addEventListener("load", () => {
  const all = selector => [...document.querySelectorAll(selector)]
  const width = element => Math.round(element.getBoundingClientRect().width)
  const height = element => Math.round(element.getBoundingClientRect().height)
  document.title = "seen " + JSON.stringify({
    formulas: all("math").map(width),
    raised: all("math msubsup, math msub, math munder, math mfrac").map(height),
    pictures: [...document.images].filter(image => image.loading !== "lazy").map(image => image.naturalWidth),
    code: all("div.highlight pre").map(width),
    colours: new Set(all("div.highlight span").map(element => getComputedStyle(element).color)).size,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  })
})
</script>
"""
# How the cards of the gallery lie and look, told to the frame around the page.
CARDS = """
<script>
document.body.dataset.theme = "THEME"
addEventListener("load", () => {
  const luminance = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255)
    const linear = parts.map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
  }
  const behind = luminance(getComputedStyle(document.body).backgroundColor)
  const cards = []
  for (const link of document.querySelectorAll("#gallery > ul > li a")) {
    const image = link.querySelector("img"), box = link.getBoundingClientRect(), style = getComputedStyle(link)
    link.focus({focusVisible: true})
    const light = luminance(style.color)
    cards.push({
      left: Math.round(box.left), width: Math.round(box.width), natural: image.naturalWidth, alternative: image.alt,
      pictureHeight: Math.round(image.getBoundingClientRect().height),
      focused: document.activeElement === link, outline: parseFloat(getComputedStyle(link).outlineWidth),
      picture: getComputedStyle(image).backgroundColor,
      contrast: (Math.max(light, behind) + 0.05) / (Math.min(light, behind) + 0.05),
    })
  }
  const overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth
  parent.postMessage("seen " + JSON.stringify({cards, overflow}), "*")
})
</script>
"""
FRAME = """
<html><head><title></title></head><body>
<script>addEventListener("message", event => { document.title = event.data })</script>
<iframe src="framed.html" width="WIDTH" height="800"></iframe>
</body></html>
"""

pytestmark = pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs Sphinx")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_reached_from_the_first(site: Path) -> None:
    first = (site / "index.html").read_text(encoding="utf-8")
    for page in PAGES:
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / name).exists(), name
        assert name == "index.html" or f'href="{name}"' in first, name


def test_formulas_are_told_to_the_browser(site: Path) -> None:
    text = (site / "derivations.html").read_text(encoding="utf-8")
    assert text.count("<math") > 50
    assert not re.search(r"\\(frac|sum|dot)|\$\$", text)


def test_the_reference_has_all_that_is_offered(site: Path) -> None:
    import numbacnn as nc

    for package in ("nn", "ops", "optim", "training", "data", "models"):
        text = (site / "reference" / f"{package}.html").read_text(encoding="utf-8")
        module = getattr(nc, package)
        names = [name for name in module.__all__ if callable(getattr(module, name))]
        assert names
        for name in names:
            assert f">{name}<" in text, f"{package}.{name}"


def seen_by_a_browser(site: Path, page: str, script: str, width: int = 1200) -> Any:
    """What the script puts behind "seen" in the title of the page."""
    file = site / page
    shown = file.with_name(f"{file.name}-measured.html")
    text = (site / f"{page}.html").read_text(encoding="utf-8")
    shown.write_text(text.replace("</body>", script + "</body>"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    command += ["--virtual-time-budget=5000", "--dump-dom", shown.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>seen (.*?)</title>", done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("page", ["derivations", "index", "add-an-operation", "gallery/edge-detector"])
def test_a_browser_shows_it(site: Path, page: str) -> None:
    seen = seen_by_a_browser(site, page, MEASURE)
    assert seen["overflow"] == 0
    assert all(width > 0 for width in seen["formulas"] + seen["pictures"])
    assert seen["code"] or page == "derivations"
    if page == "derivations":
        assert len(seen["formulas"]) > 50 and max(seen["raised"]) > 20
    else:
        assert min(seen["code"]) > 300 and seen["colours"] > 3


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "columns"), [(1200, 3), (500, 2), (360, 1)])
def test_the_gallery_is_a_grid_of_links(site: Path, width: int, columns: int, theme: str) -> None:
    # A headless window has a width of 500 pixels at least, so that the page is shown in a frame.
    page = (site / "gallery" / "index.html").read_text(encoding="utf-8")
    framed = page.replace("</body>", CARDS.replace("THEME", theme) + "</body>")
    (site / "gallery" / "framed.html").write_text(framed, encoding="utf-8")
    (site / "gallery" / "frame.html").write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    seen = seen_by_a_browser(site, "gallery/frame", "", 1300)
    assert seen["overflow"] == 0
    cards = seen["cards"]
    assert len(cards) == len(list((ROOT / "docs" / "gallery").glob("*.md"))) - 1
    assert len({card["left"] for card in cards}) == columns
    assert len({card["pictureHeight"] for card in cards}) <= 2  # rounded
    for card in cards:
        assert card["width"] >= 140 and card["natural"] > 0 and card["focused"] and card["outline"] >= 2
        assert len(card["alternative"]) > 30 and card["picture"] == "rgb(255, 255, 255)"
        assert card["contrast"] > 4.5, card
