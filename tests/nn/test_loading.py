"""State dicts that do not fit: what is told of them, what is left out, and what is likely the cause."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.backends import Backend
from tests.quick import reference_by_default as reference_by_default


def network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential({"body": nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)), "fc": nn.Linear(4, classes)})


def test_all_that_does_not_fit_is_in_one_error_and_changes_nothing() -> None:
    model = network()
    before = model.state_dict()
    state = {**network(5).state_dict(), "more": np.zeros(1)}
    del state["body.0.bias"]
    with pytest.raises(ValueError, match="`state` does not fit Sequential") as error:
        model.load_state_dict(state)
    text = str(error.value)
    for part in (
        "fc.weight has shape (5, 4), must have (3, 4)",
        "fc.bias has shape (5,), must have (3,)",
        "missing body.0.bias",
        "unexpected more",
        "the head has another number of classes, 5 in the state and 3 in the model: with `ignore_mismatched_sizes=",
    ):
        assert part in text
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(ValueError, match=r"fc\.bias has shape") as error:
        model.load_state_dict(state, strict=False)
    assert "missing" not in str(error.value) and "unexpected" not in str(error.value)
    with pytest.raises(ValueError, match=r"missing body\.0\.bias; unexpected more") as error:
        model.load_state_dict(state, ignore_mismatched_sizes=True)
    assert "has shape" not in str(error.value)


def test_what_is_left_out_is_returned(backend: Backend) -> None:
    model = network()
    before, state = model.state_dict(), {**network(5).state_dict(), "more": np.zeros(1)}
    del state["body.0.bias"]
    report = model.load_state_dict(state, strict=False, ignore_mismatched_sizes=True)
    assert report.missing_keys == ["body.0.bias"] and report.unexpected_keys == ["more"]
    assert report.mismatched_keys == [("fc.weight", (5, 4), (3, 4)), ("fc.bias", (5,), (3,))]
    assert str(report).splitlines() == [
        "1 missing: body.0.bias",
        "1 unexpected: more",
        "2 of another shape: fc.weight (5, 4), must have (3, 4), fc.bias (5,), must have (3,)",
        "the head has another number of classes, 5 in the state and 3 in the model",
    ]
    for name, array in model.state_dict().items():
        stays = name in ("body.0.bias", "fc.weight", "fc.bias")
        np.testing.assert_array_equal(array, (before if stays else state)[name])
    fitting = model.load_state_dict(model.state_dict())
    assert str(fitting) == "all keys match" and fitting == nn.IncompatibleKeys()


@pytest.mark.parametrize(
    ("renamed", "cause"),
    [
        (lambda name: f"module.{name}", "names in the state begin with 'module.', which the model's do not"),
        (lambda name: f"a.b.{name}", "names in the state begin with 'a.b.', which the model's do not"),
        (lambda name: name.removeprefix("body."), "names in the model begin with 'body.', which the state's do not"),
        (lambda name: f"{name}_", ""),
        (lambda name: name if name.startswith("body") else f"head.{name}", "begin with 'head.'"),
    ],
)
def test_a_prefix_is_found(renamed, cause: str) -> None:
    model = network()
    state = {renamed(name): array for name, array in model.state_dict().items()}
    report = model.load_state_dict(state, strict=False)
    assert cause in report.cause and bool(cause) == bool(report.cause)
    with pytest.raises(ValueError, match=f"{re.escape(report.cause)}$"):
        model.load_state_dict(state)


def test_other_shapes_are_no_other_head() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    for other in (nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 3), nn.Linear(5, 2))):
        report = model.load_state_dict(other.state_dict(), strict=False, ignore_mismatched_sizes=True)
        assert report.mismatched_keys and not report.cause
    state = {**model.state_dict(), "0.bias": np.float32(1)}
    assert not model.load_state_dict(state, ignore_mismatched_sizes=True).cause


def test_of_many_names_the_first_are_listed() -> None:
    model = nn.Sequential(*[nn.ReLU() for _ in range(3)])
    state = {f"x{i}": np.zeros(1) for i in range(50)}
    report = model.load_state_dict(state, strict=False)
    assert len(report.unexpected_keys) == 50
    with pytest.raises(ValueError, match="does not fit") as error:
        model.load_state_dict(state)
    for text in (str(report), str(error.value)):
        assert "x19" in text and "x20" not in text and "30 more" in text


@pytest.mark.parametrize("name", ["strict", "ignore_mismatched_sizes"])
def test_flags(name: str) -> None:
    with pytest.raises(TypeError, match=f"`{name}` 'yes' must be True or False"):
        network().load_state_dict({}, **{name: "yes"})


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_files_are_loaded_likewise(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    old, model = network(5), network()
    nc.save(path, old, {"note": "x"})
    with pytest.raises(ValueError, match=r"cannot be loaded: .*another number of classes, 5 in the state and 3 in"):
        nc.load(path, model, strict=False)
    metadata = nc.load(path, model, ignore_mismatched_sizes=True)
    assert metadata == {"note": "x"}
    assert [name for name, *_ in metadata.report.mismatched_keys] == ["fc.weight", "fc.bias"]
    np.testing.assert_array_equal(model.body[0].weight.value, old.body[0].weight.value)
    assert str(nc.load(path, network(5)).report) == "all keys match"
