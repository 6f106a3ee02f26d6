"""Checkpoints: what goes in comes back, and what is wrong with them changes nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.io import CheckpointError, load_checkpoint, save, save_checkpoint
from numbacnn.io.arrays import read_arrays, write_arrays
from tests.io.test_weights import assert_same_state

OPTIMIZERS = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda parameters: optim.Adam(parameters, lr=0.01),
    "adamw": lambda parameters: optim.AdamW(parameters, lr=0.01),
}


def model_with_everything() -> nn.Sequential:
    """Parameters, buffers and random numbers."""
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def train(model: nn.Layer, optimizer: optim.Optimizer, seeds: range) -> None:
    loss = nn.CrossEntropyLoss()
    for seed in seeds:
        generator = np.random.default_rng(seed)
        loss.forward(model(generator.normal(size=(6, 3)).astype(np.float32)), generator.integers(0, 2, 6))
        model.zero_grad()
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()


def everything(model: nn.Layer, optimizer: optim.Optimizer) -> str:
    state = {f"optimizer.{name}": value for name, value in optimizer.state_dict().items()}
    state |= {"random": model.random_state()}
    state |= {name: array.tobytes() for name, array in model.state_dict().items()}
    return repr(state)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loaded_run_goes_on_to_the_same_bits(tmp_path: Path, name: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    model = model_with_everything()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, range(3))
    optimizer.lr = 0.1 + 0.2  # as a schedule would
    save_checkpoint(path, model, optimizer, epoch=3, history=[{"loss": 0.1 + 0.2}], settings={"seed": 7, "limit": None})

    other = model_with_everything()
    other_optimizer = OPTIMIZERS[name](other.parameters())
    restored = load_checkpoint(path, other, other_optimizer)
    assert restored == {"epoch": 3, "history": [{"loss": 0.1 + 0.2}], "settings": {"seed": 7, "limit": None}}
    assert everything(other, other_optimizer) == everything(model, optimizer)
    for run in ((model, optimizer), (other, other_optimizer)):
        train(*run, range(3, 6))
    assert everything(other, other_optimizer) == everything(model, optimizer)


def test_the_file_holds_the_weights_under_their_names(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    model = nn.Sequential(nn.Linear(3, 2))
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    save_checkpoint(path, model, optimizer, epoch=0)
    arrays, metadata = read_arrays(path)
    assert sorted(arrays) == ["model.0.bias", "model.0.weight", "optimizer.0.velocity", "optimizer.1.velocity"]
    run = json.loads(metadata["numbacnn.checkpoint"])
    assert run["library"] == nc.__version__
    assert run["optimizer_state"] == {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}


def test_numpy_numbers_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    model = nn.Linear(3, 2)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    history = [{"loss": np.float64(0.5), "epoch": np.int64(1), "nan": math.nan}]
    save_checkpoint(path, model, optimizer, epoch=1, history=history)
    record = load_checkpoint(path, model, optimizer)["history"][0]
    assert math.isnan(record.pop("nan"))
    assert record == {"loss": 0.5, "epoch": 1}


def test_what_json_cannot_say_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(TypeError, match="cannot be saved in a checkpoint"):
        save_checkpoint(
            tmp_path / "c.safetensors", model, OPTIMIZERS["sgd"](model.parameters()), epoch=0, settings={"a": object()}
        )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The checkpoint of a model with everything, trained with Adam."""
    path = tmp_path / "checkpoint.safetensors"
    model = model_with_everything()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, range(2))
    save_checkpoint(path, model, optimizer, epoch=2)
    return path


def assert_refused(path: Path, model: nn.Layer, optimizer: optim.Optimizer, kind: type, match: str) -> None:
    """Loading fails, and nothing has changed afterwards."""
    former = everything(model, optimizer)
    with pytest.raises(kind, match=match):
        load_checkpoint(path, model, optimizer)
    assert everything(model, optimizer) == former


def test_another_optimizer_is_refused(saved: Path) -> None:
    model = model_with_everything()
    assert_refused(
        saved, model, OPTIMIZERS["sgd"](model.parameters()), ValueError, "checkpoint of Adam; `optimizer` is SGD"
    )


def test_another_model_is_refused(saved: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    assert_refused(saved, model, OPTIMIZERS["adam"](model.parameters()), ValueError, r"3\.weight has shape \(2, 4\)")


def test_other_random_layers_are_refused(saved: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Identity(), nn.Linear(4, 2))
    assert_refused(saved, model, OPTIMIZERS["adam"](model.parameters()), ValueError, "must have")


def edit(path: Path, arrays: dict | None = None, **changes) -> None:
    """Change what a checkpoint says."""
    former, metadata = read_arrays(path)
    run = json.loads(metadata["numbacnn.checkpoint"]) | changes
    write_arrays(path, former | (arrays or {}), {"numbacnn.checkpoint": json.dumps(run)})


@pytest.mark.parametrize(
    ("changes", "kind", "match"),
    [
        ({"format": 2}, CheckpointError, "format 2 of numbacnn .*; this version reads 1"),
        ({"epoch": "two"}, CheckpointError, "epoch is 'two'"),
        ({"epoch": -1}, CheckpointError, "epoch is -1"),
        ({"history": {}}, CheckpointError, "history is {}"),
        ({"random_state": {"2": 5}}, CheckpointError, "not iterable"),
        ({"random_state": {"2": [1, -5]}}, ValueError, "must be"),
        ({"optimizer_state": {}}, ValueError, "missing lr"),
        ({"arrays": {"optimizer.0.first_moment": np.zeros(3)}}, ValueError, "first_moment has shape"),
        ({"arrays": {"optimizer.9.first_moment": np.zeros(3)}}, ValueError, "unexpected"),
        ({"arrays": {"model.4.weight": np.zeros(3)}}, ValueError, r"unexpected 4\.weight"),
        ({"arrays": {"weight": np.zeros(3)}}, CheckpointError, "'weight'"),
    ],
)
def test_a_checkpoint_that_says_something_else_is_refused(saved: Path, changes: dict, kind: type, match: str) -> None:
    edit(saved, **changes)
    model = model_with_everything()
    assert_refused(saved, model, OPTIMIZERS["adam"](model.parameters()), kind, match)


def test_plain_weights_are_no_checkpoint(tmp_path: Path) -> None:
    model = model_with_everything()
    save(tmp_path / "w.safetensors", model)
    assert_refused(
        tmp_path / "w.safetensors", model, OPTIMIZERS["adam"](model.parameters()), CheckpointError, "no checkpoint"
    )


def test_every_truncation_is_refused(saved: Path) -> None:
    whole, model = saved.read_bytes(), model_with_everything()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    former = everything(model, optimizer)
    for size in range(0, len(whole), 7):
        saved.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            load_checkpoint(saved, model, optimizer)
    assert everything(model, optimizer) == former


def test_changed_bytes_load_or_change_nothing(saved: Path) -> None:
    whole, model = saved.read_bytes(), model_with_everything()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    former = everything(model, optimizer)
    generator = np.random.default_rng(0)
    header_size = 8 + int.from_bytes(whole[:8], "little")
    for position in generator.integers(0, header_size, 400):
        data = bytearray(whole)
        data[position] ^= 1 << generator.integers(8)
        saved.write_bytes(data)
        try:
            load_checkpoint(saved, model, optimizer)
        except ValueError:
            assert everything(model, optimizer) == former
        else:
            former = everything(model, optimizer)


def test_the_weights_of_a_checkpoint_equal_those_saved(saved: Path) -> None:
    model = model_with_everything()
    load_checkpoint(saved, model, OPTIMIZERS["adam"](model.parameters()))
    arrays, _ = read_arrays(saved)
    weights = {name.removeprefix("model."): array for name, array in arrays.items() if name.startswith("model.")}
    assert_same_state(dict(sorted(weights.items())), dict(sorted(model.state_dict().items())))
