"""The profile of a model beside the machine's ceilings."""

from __future__ import annotations

import numba
import pytest

from bench import profile

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the peak is that of machine code")


@pytest.mark.parametrize("training", [False, True])
def test_a_table(capsys, training):
    assert profile.main(["--batch-size", "2", "--rounds", "2", *["--training"] * training]) == 0
    out = capsys.readouterr().out
    assert "ceilings: " in out and "Conv2d" in out and "of roof" in out
    assert ("optimizer" in out) == training


def test_options(capsys):
    assert profile.main(["--threads", "9999"]) == 2
    assert "--threads 9999 must be at most" in capsys.readouterr().err
