"""Files of weights that are changed at random, in every format: one clear error each, little time and little memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from tests.io import torch_bytes as tb
from tests.io.test_weights import assert_same_state
from tests.mutation import MOST_BYTES, changes, peak_bytes, refusals


def model_of_few() -> nn.Sequential:
    nn.init.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2))


def checkpoint(state: dict[str, np.ndarray], legacy: bool) -> bytes:
    """What a training program saves: weights with a prefix in a table with other things."""
    writer = tb.Writer(legacy)
    weights = writer.state({f"module.{name}": array for name, array in state.items()})
    optimizer = tb.table({"state": b"}"}, ordered=False)
    entries = {"epoch": tb.number(3), "state_dict": weights, "optimizer": optimizer}
    return (tb.stream if legacy else tb.archive)(writer, tb.table(entries, ordered=False))


def torch_files(folder: Path) -> list[bytes]:
    state = model_of_few().state_dict()
    return [*(write(state) for write in tb.FORMATS.values()), checkpoint(state, True), checkpoint(state, False)]


def safetensors_files(folder: Path) -> list[bytes]:
    nc.save(folder / "whole.safetensors", model_of_few())
    return [(folder / "whole.safetensors").read_bytes()]


def reading(model: nn.Layer) -> Callable[[Path], None]:
    """What loads a file into ``model``, and finds it as it was where that fails."""

    def read(path: Path) -> None:
        former: dict[str, Any] = {name: array.copy() for name, array in model.state_dict().items()}
        try:
            nc.load(path, model)
        except ValueError:
            assert_same_state(model.state_dict(), former)
            raise

    return read


FILES = {"changed.pth": torch_files, "changed.safetensors": safetensors_files}


@pytest.mark.filterwarnings("ignore:.*the weights are")
@pytest.mark.parametrize("name", FILES)
def test_thousands_of_changes(tmp_path: Path, name: str) -> None:
    wholes, numbers = FILES[name](tmp_path), changes()
    for whole in wholes:
        (tmp_path / name).write_bytes(whole)
        nc.load(tmp_path / name, model_of_few())
    assert refusals(reading(model_of_few()), tmp_path / name, wholes, numbers) > len(numbers) / 2


@pytest.mark.parametrize("name", FILES)
def test_changes_take_little_memory(tmp_path: Path, name: str) -> None:
    assert peak_bytes(reading(model_of_few()), tmp_path / name, FILES[name](tmp_path), range(100)) < MOST_BYTES
