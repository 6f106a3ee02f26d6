"""Pictures that are text, which a notebook shows and a file keeps."""

from __future__ import annotations

from pathlib import Path

from .files import replacing

__all__ = ["Svg"]


class Svg:
    """A picture. ``svg`` is its text, ``size`` its width and height in pixels."""

    def __init__(self, svg: str, size: tuple[int, int]) -> None:
        self.svg, self.size = svg, size

    def save(self, path: str | Path) -> None:
        """Write the picture to a file, an SVG whatever its name is."""
        with replacing(path) as temporary:
            temporary.write_text(self.svg, encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg
