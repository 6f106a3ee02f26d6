"""The documentation builds without a warning, and a browser shows formulas, pictures and code."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("page", ["derivations", "index", "add-an-operation"])
def test_a_browser_shows_it(site: Path, page: str) -> None:
    text = (site / f"{page}.html").read_text(encoding="utf-8")
    (site / f"{page}-measured.html").write_text(text.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    command += ["--virtual-time-budget=5000", "--dump-dom", (site / f"{page}-measured.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>seen (.*?)</title>", done.stdout)
    assert found, done.stderr[-2000:]
    seen = json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))
    assert seen["overflow"] == 0
    assert all(width > 0 for width in seen["formulas"] + seen["pictures"])
    assert seen["code"] or page == "derivations"
    if page == "derivations":
        assert len(seen["formulas"]) > 50 and max(seen["raised"]) > 20
    else:
        assert min(seen["code"]) > 300 and seen["colours"] > 3
