"""The quick set: what it leaves out is there."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import SLOW

ROOT = Path(__file__).parents[1]


def test_what_is_slow_is_a_place_of_tests() -> None:
    assert [place for place in SLOW if not (ROOT / place).exists()] == []
