"""Sphinx's settings: Markdown pages, an API reference from docstrings, formulas as MathML, which browsers draw."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numbacnn  # noqa: E402

project = "numbacnn"
author = "the numbacnn authors"
copyright = "2026, the numbacnn authors"
release = version = numbacnn.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"numbacnn {release}"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# `x` in a docstring is a name, of an argument or of something here.
default_role = "code"
nitpicky = False


def _inline(translator: Any, node: Any) -> None:
    translator.body.append(convert(node.astext()))
    raise SkipNode  # the formula's text is in it


def _display(translator: Any, node: Any) -> None:
    formula = convert(node.astext(), display="block").replace("<math ", '<math displaystyle="true" ', 1)
    translator.body.append(f'<div class="formula">{formula}</div>')
    raise SkipNode


def setup(app: Any) -> None:
    """Have formulas written as MathML."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
