"""Checkpoints: what goes in comes back, and what is wrong with them changes nothing."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    model.parameters()[0].requires_grad = False  # so that it has taken fewer steps than the others
    train(model, optimizer, range(1))
    model.parameters()[0].requires_grad = True
    train(model, optimizer, range(1, 3))
    optimizer.lr = 0.1 + 0.2  # as a schedule would
    history = [{"loss": 0.1 + 0.2}] * 3
    save_checkpoint(path, model, optimizer, epoch=3, history=history, settings={"seed": 7, "limit": None})

    other = model_with_everything()
    other_optimizer = OPTIMIZERS[name](other.parameters())
    restored = load_checkpoint(path, other, other_optimizer)
    assert restored == {"epoch": 3, "history": history, "settings": {"seed": 7, "limit": None}}
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


ADAM = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "steps": 2}


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
        ({"format": True}, CheckpointError, "`format` True must be an int"),
        ({"epoch": "two"}, CheckpointError, "`epoch` 'two' must be an int"),
        ({"epoch": True}, CheckpointError, "`epoch` True must be an int"),
        ({"epoch": -1}, CheckpointError, "`epoch` -1 must be"),
        ({"epoch": 10**400}, CheckpointError, "`epoch` 10+ must be"),
        ({"history": [{"loss": 1}]}, CheckpointError, "`history` has 1 records, must have one for each of 2 epochs"),
        ({"history": {}}, CheckpointError, "history is {}"),
        ({"random_state": {"2": 5}}, CheckpointError, r"must be \[seed, calls\]"),
        ({"random_state": {"2": [1, -5]}}, CheckpointError, "`calls` -5 must be in 0"),
        ({"random_state": {"2": [1, 2**63 - 1]}}, CheckpointError, "`calls` .* must be in 0"),
        ({"random_state": {"2": [2**64, 0]}}, CheckpointError, "`seed` 18446744073709551616 must be in 0"),
        ({"random_state": {"2": ["1", 0]}}, CheckpointError, "`seed` '1' must be an int"),
        ({"random_state": {"2": [1.5, 0]}}, CheckpointError, "`seed` 1.5 must be an int"),
        ({"optimizer_state": {}}, CheckpointError, "missing lr"),
        *(
            ({"optimizer_state": ADAM | {name: value}}, CheckpointError, f"`{name}` .*must be")
            for name, value in [
                *(("lr", lr) for lr in (10**400, math.inf, math.nan, -1, True, "0.1", None, [0.1])),
                *(("steps", steps) for steps in (2**63, 2**64, -1, 1.0, True)),
                *(("beta1", beta) for beta in (1, 10**400)),
            ]
        ),
        ({"optimizer_state": ADAM | {"0.first_moment": 10**400}}, CheckpointError, "first_moment' twice"),
        ({"settings": functools.reduce(lambda inner, _: [inner], range(40), 1)}, CheckpointError, "nested too deep"),
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


@pytest.mark.parametrize(
    ("tamper", "match"),
    [
        (lambda text: "[" * 100_000, "nested too deep"),
        (lambda text: text[:-1] + ', "more": ' + '{"a":' * 100_000 + "1" + "}" * 100_001, "nested too deep"),
        (lambda text: text[:-1] + ', "epoch": 3}', "names 'epoch' twice"),
        (lambda text: text.replace('"epoch": 2', '"epoch": ' + "9" * 5000), "."),
        (lambda text: "null", "."),
        (lambda text: "", "."),
    ],
)
def test_tampered_text_is_refused(saved: Path, tamper: Callable[[str], str], match: str) -> None:
    arrays, metadata = read_arrays(saved)
    write_arrays(saved, arrays, {"numbacnn.checkpoint": tamper(metadata["numbacnn.checkpoint"])})
    model = model_with_everything()
    assert_refused(saved, model, OPTIMIZERS["adam"](model.parameters()), CheckpointError, match)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=100)
def test_any_change_of_the_text_loads_something_usable_or_changes_nothing(saved: Path, data: st.DataObject) -> None:
    """One place of the JSON document, at any depth, becomes another value, is taken out, or gets a neighbour."""
    whole = saved.read_bytes()
    arrays, metadata = read_arrays(saved)
    run = json.loads(metadata["numbacnn.checkpoint"])
    place: Any = run
    while True:
        key = data.draw(st.sampled_from([*place] if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    change = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if change == "remove":
        del place[key]
    elif change == "add" and isinstance(place, dict):
        place[data.draw(st.text(max_size=3))] = data.draw(JSON)
    else:
        place[key] = data.draw(JSON)
    model = model_with_everything()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    former = everything(model, optimizer)
    try:
        write_arrays(saved, arrays, {"numbacnn.checkpoint": json.dumps(run)})
        try:
            load_checkpoint(saved, model, optimizer)
        except CheckpointError:
            assert everything(model, optimizer) == former
        else:
            train(model, optimizer, range(1))
    finally:
        saved.write_bytes(whole)


@pytest.mark.parametrize("settings", [{1: 0, "1": 0}, {"a": functools.reduce(lambda inner, _: [inner], range(40), 1)}])
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, settings: dict) -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="`history` and `settings` could not be loaded again: "):
        save_checkpoint(tmp_path / "c.npz", model, OPTIMIZERS["sgd"](model.parameters()), epoch=0, settings=settings)
    assert not list(tmp_path.iterdir())


def test_saving_a_history_of_other_epochs_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    for epoch, error in ((2, ValueError), (True, TypeError), (-1, ValueError)):
        with pytest.raises(error, match=r"`(history|epoch)` "):
            save_checkpoint(tmp_path / "c.safetensors", model, optimizer, epoch=epoch, history=[{"loss": 1}])
    assert not list(tmp_path.iterdir())


def test_arguments_in_another_order(saved: Path) -> None:
    model = model_with_everything()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    with pytest.raises(TypeError, match=r"the order is load_checkpoint\(path, model, optimizer\)"):
        load_checkpoint(model, optimizer, saved)
    with pytest.raises(TypeError, match=r"the order is save_checkpoint\(path, model, optimizer\)"):
        save_checkpoint(saved, optimizer, model, epoch=1)


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
