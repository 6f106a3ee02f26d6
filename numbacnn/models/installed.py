"""Files of weights in other packages, found without importing them, for they may import what is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["installed_file"]


def installed_file(distribution: str, pattern: str, extra: str) -> Path:
    """The one file in the package of ``distribution`` that ``pattern`` describes.

    Args:
        distribution: the name on PyPI; the package's own has underscores.
        pattern: of `Path.glob`, from the package's folder.
        extra: of this package, which brings the distribution.

    Raises:
        ImportError: the package is not installed, or has no such file.
    """
    spec = find_spec(distribution.replace("-", "_"))
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []
    found = sorted(path for folder in folders for path in folder.glob(pattern))
    if not found:
        missing = f"has no {pattern} in {str(folders[0])!r}" if folders else "is not installed"
        raise ImportError(
            f'`pretrained` needs the package {distribution}, which {missing}: pip install "numbacnn[{extra}]"'
        )
    return found[-1]
