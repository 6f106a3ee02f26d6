"""Sphinx's settings: Markdown pages, an API reference from docstrings, formulas as MathML, which browsers draw."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numbacnn  # noqa: E402

project = "numbacnn"
author = "the numbacnn authors"
release = version = numbacnn.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"numbacnn {release}"
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# `x` in a docstring is a name, of an argument or of something here.
default_role = "code"
nitpicky = False


def _inline(self: Any, node: Any) -> None:
    self.body.append(convert(node.astext()))


def _display(self: Any, node: Any) -> None:
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')


def _leave(self: Any, node: Any) -> None:
    pass


def _skip(self: Any, node: Any) -> None:
    _inline(self, node)
    raise _skipped()


def _skip_display(self: Any, node: Any) -> None:
    _display(self, node)
    raise _skipped()


def _skipped() -> Exception:
    from docutils.nodes import SkipNode

    return SkipNode()


def setup(app: Any) -> None:
    """What is offered here is told to Sphinx."""
    app.add_html_math_renderer("mathml", (_skip, _leave), (_skip_display, _leave))
