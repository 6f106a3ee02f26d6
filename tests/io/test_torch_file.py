"""Weights in files of `torch.save`, without PyTorch: every format, and what is around the weights."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from numbacnn import nn
from numbacnn.io import CheckpointError, load
from numbacnn.io.arrays import Contents, read_contents
from tests.io import torch_bytes as tb
from tests.io.test_weights import BFLOAT16, VALUES, assert_same_state, small_model

ONES = np.ones((1, 2), np.float32)


def read(path: Path) -> tuple[dict[str, np.ndarray], Contents]:
    """All arrays of a file, and what else it holds."""
    return read_contents(path, lambda contents: ({n: e.read() for n, e in contents.entries.items()}, contents))


def small_state() -> dict[str, np.ndarray]:
    model = small_model()
    model[1].running_var.value = [3, 4]
    model[0].weight.value = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 1, 2, 3]).reshape(2, 1, 2, 2)
    return model.state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".PTH"])
@pytest.mark.parametrize("version", tb.FORMATS)
def test_every_format_gives_the_same_weights(tmp_path: Path, version: str, suffix: str) -> None:
    state, model = small_state(), small_model()
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(tb.FORMATS[version](state))
    assert load(path, model) == {}
    assert_same_state(model.state_dict(), state)


@pytest.mark.parametrize("version", tb.FORMATS)
def test_numbers_of_every_type(tmp_path: Path, version: str) -> None:
    numbers = np.arange(6).reshape(2, 3)
    arrays = {name: numbers.astype(name) for name in tb.KINDS if name != "void16"}
    if "big" not in version or version.startswith("1.5"):
        arrays["bfloat16"] = BFLOAT16.view("V2")
    arrays |= {"scalar": np.float32(1.5).reshape(()), "empty": np.zeros((0, 3), np.float64)}
    (tmp_path / "w.pth").write_bytes(tb.FORMATS[version](arrays))
    found, _ = read(tmp_path / "w.pth")
    assert_same_state(found, arrays)
    assert all(array.flags.writeable for array in found.values())


@pytest.mark.parametrize("order", [b"little", b"big"])
def test_bfloat16_becomes_the_same_numbers(tmp_path: Path, order: bytes) -> None:
    writer = tb.Writer(False)
    bits = BFLOAT16.byteswap() if order == b"big" else BFLOAT16
    state = tb.table({"weight": writer.tensor(writer.storage("0", bits.view("V2")), (3, 2))})
    (tmp_path / "w.pt").write_bytes(tb.archive(writer, state, records={"byteorder": order}))
    model = nn.Linear(2, 3, bias=False)
    load(tmp_path / "w.pt", model)
    np.testing.assert_array_equal(model.weight.value, VALUES.astype(np.float32), strict=True)


def file_of(writer: tb.Writer, content: bytes) -> bytes:
    return tb.stream(writer, content) if writer.legacy else tb.archive(writer, content)


@pytest.fixture(params=[True, False], ids=["stream", "archive"])
def writer(request: pytest.FixtureRequest) -> tb.Writer:
    return tb.Writer(request.param)


def test_tensors_lie_as_their_strides_say(tmp_path: Path, writer: tb.Writer) -> None:
    numbers = np.arange(24, dtype=np.float32)
    storage = writer.storage("7", numbers)
    views = {
        "whole": ((4, 6), (6, 1), 0, numbers.reshape(4, 6)),
        "transposed": ((6, 4), (1, 6), 0, numbers.reshape(4, 6).T),
        "channels_last": ((2, 3, 2, 2), (12, 1, 6, 3), 0, numbers.reshape(2, 2, 2, 3).transpose(0, 3, 1, 2)),
        "column": ((4,), (6,), 5, numbers.reshape(4, 6)[:, 5]),
        "expanded": ((3, 2), (0, 1), 22, np.broadcast_to(numbers[22:], (3, 2))),
        "scalar": ((), (), 3, numbers[3].reshape(())),
        "empty": ((0, 9), (9, 1), 24, np.zeros((0, 9), np.float32)),
    }
    entries = {
        name: writer.tensor(storage, shape, strides, offset) for name, (shape, strides, offset, _) in views.items()
    }
    (tmp_path / "w.pth").write_bytes(file_of(writer, tb.table(entries)))
    assert_same_state(read(tmp_path / "w.pth")[0], {name: np.array(array) for name, (*_, array) in views.items()})


def test_a_few_numbers_of_a_large_storage_are_read_alone(tmp_path: Path, writer: tb.Writer) -> None:
    large = np.arange(1 << 22, dtype=np.float32)
    column = writer.tensor(writer.storage("0", large), (2, 2), (1 << 21, 1 << 20), 5)
    (tmp_path / "w.pth").write_bytes(file_of(writer, tb.table({"weight": column})))
    model = nn.Linear(2, 2, bias=False)
    del writer, column
    tracemalloc.start()
    try:
        load(tmp_path / "w.pth", model)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(model.weight.value, large[5 :: 1 << 20].reshape(2, 2))


def test_pickles_of_protocol_4(tmp_path: Path, writer: tb.Writer) -> None:
    """Which `torch.save` writes if it is asked to: names come from the stack, and everything is remembered."""
    content = writer.state({"weight": ONES})

    def short(value: bytes) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value + b"\x94"

    for name in (b"torch FloatStorage", b"torch._utils _rebuild_tensor_v2", b"collections OrderedDict"):
        module, function = name.split()
        stacked = short(module) + short(function) + b"\x93\x94"
        named = b"c" + module + b"\n" + function + b"\n"
        assert named in content
        content = content.replace(named, stacked)
    content = content.replace(tb.text("weight"), short(b"weight"))
    framed = b"\x95" + struct.pack("<Q", len(content) + 1) + content
    (tmp_path / "w.pth").write_bytes(file_of(writer, framed))
    model = nn.Linear(2, 1, bias=False)
    load(tmp_path / "w.pth", model)
    np.testing.assert_array_equal(model.weight.value, ONES)


def test_views_of_storages_as_they_were_before_tensors_had_offsets(tmp_path: Path) -> None:
    writer = tb.Writer(True, "_rebuild_tensor")
    view = tb.row(tb.text("9"), tb.number(2), tb.number(2))
    storage = writer.storage("1", np.arange(5, dtype=np.float32), view=view)
    (tmp_path / "w.pth").write_bytes(tb.stream(writer, tb.table({"weight": writer.tensor(storage, (1, 2))})))
    model = nn.Linear(2, 1, bias=False)
    load(tmp_path / "w.pth", model)
    np.testing.assert_array_equal(model.weight.value, [[2, 3]])
    for shape, offset in (((1, 2), 1), ((3,), 0)):
        state = tb.table({"weight": writer.tensor(storage, shape, offset=offset)})
        (tmp_path / "w.pth").write_bytes(tb.stream(writer, state))
        with pytest.raises(CheckpointError, match="a tensor that ends at 3 of the 2 numbers of its storage"):
            load(tmp_path / "w.pth", model)


def test_parameters_and_tensors_with_attributes(tmp_path: Path, writer: tb.Writer) -> None:
    tensor = writer.tensor(writer.storage("0", ONES), (1, 2))
    hooks = tb.named("collections.OrderedDict") + b")R"
    made_by, kind = tb.named("torch._utils._rebuild_tensor_v2"), tb.named("torch.Tensor")
    arguments = tb.row(writer.storage("0", ONES), tb.number(0), tb.sizes((1, 2)), tb.sizes((2, 1)), b"\x89", hooks)
    for content in (
        tb.named("torch._utils._rebuild_parameter") + tb.row(tensor, b"\x88", hooks) + b"R",
        tb.named("torch._utils._rebuild_parameter_with_state") + tb.row(tensor, b"\x88", hooks, b"}") + b"R",
        tb.named("torch.nn.parameter.Parameter") + tb.row(tensor, b"\x88") + b"R",
        tb.named("torch._tensor._rebuild_from_type_v2") + tb.row(made_by, kind, arguments, b"}") + b"R",
    ):
        (tmp_path / "w.pth").write_bytes(file_of(writer, tb.table({"weight": content})))
        model = nn.Linear(2, 1, bias=False)
        load(tmp_path / "w.pth", model)
        np.testing.assert_array_equal(model.weight.value, ONES)


# What is around the weights.


def wrapped(path: Path, content: dict[str, bytes], writer: tb.Writer) -> Path:
    path.write_bytes(file_of(writer, tb.table(content, ordered=False)))
    return path


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "anything"])
def test_a_table_in_the_file_is_found_and_said(tmp_path: Path, writer: tb.Writer, key: str) -> None:
    state = {"weight": ONES, "bias": ONES[0, :1]}
    moment = writer.tensor(writer.storage("99", ONES), (1, 2))
    adam = tb.table({"exp_avg": moment}, ordered=False)
    optimizer = tb.table({"state": b"}" + tb.number(0) + adam + b"s", "param_groups": b"]"}, ordered=False)
    content = {
        **{"epoch": tb.number(90), "arch": tb.text("linear"), "best": b"G" + struct.pack(">d", 76.5)},
        **{"optimizer": optimizer, key: writer.state(state), "args": b"N"},
    }
    if key != "anything":
        content = {"loss": moment, "ema": writer.state({"weight": 0 * ONES, "bias": 0 * ONES[0, :1]}), **content}
    model = nn.Linear(2, 1)
    path = wrapped(
        tmp_path / "w.pth", content, tb.Writer(writer.legacy, storages=writer.storages, counts=writer.counts)
    )
    with pytest.warns(UserWarning, match=rf"w\.pth': the weights are those in its table '{key}'$"):
        assert load(path, model) == {"epoch": "90", "arch": "linear", "best": "76.5"}
    expected = state if key == "anything" else model.state_dict()
    assert_same_state(model.state_dict(), expected)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.model.", "net.", "state_dict."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_a_prefix_is_found_and_said(tmp_path: Path, prefix: str, suffix: str) -> None:
    from numbacnn.io.arrays import write_arrays

    model, state = small_model(), small_state()
    named = {prefix + name: array for name, array in state.items()}
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        path.write_bytes(tb.FORMATS["2.13"](named))
    else:
        write_arrays(path, named)
    with pytest.warns(
        UserWarning, match=rf"w\{suffix}': the weights are taken, without '{prefix}' before their names$"
    ):
        load(path, model)
    assert_same_state(model.state_dict(), state)


def test_a_table_and_a_prefix(tmp_path: Path, writer: tb.Writer) -> None:
    content = {"state_dict": writer.state({"module.weight": ONES})}
    model = nn.Linear(2, 1, bias=False)
    with pytest.warns(UserWarning, match="those in its table 'state_dict', without 'module.' before their names$"):
        load(wrapped(tmp_path / "w.pth", content, writer), model)
    np.testing.assert_array_equal(model.weight.value, ONES)


def test_a_warning_that_is_an_error_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(tb.FORMATS["1.6"]({"module.weight": ONES}))
    model = nn.Linear(2, 1, bias=False)
    former = model.state_dict()
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="module"):
        warnings.simplefilter("error")
        load(tmp_path / "w.pth", model)
    assert_same_state(model.state_dict(), former)


def test_names_that_are_the_model_s_keep_what_looks_like_a_prefix(tmp_path: Path) -> None:
    model = nn.Sequential({"model": nn.Linear(2, 1, bias=False), "module": nn.Linear(2, 1, bias=False)})
    state = {"model.weight": ONES, "module.weight": 2 * ONES}
    (tmp_path / "w.pth").write_bytes(tb.FORMATS["2.1"](state))
    assert load(tmp_path / "w.pth", model) == {}
    assert_same_state(model.state_dict(), state)


def test_a_name_that_is_there_with_the_prefix_and_without(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(
        tb.FORMATS["2.1"]({"module.weight": ONES, "module.bias": ONES[0, :1], "weight": ONES})
    )
    with pytest.raises(CheckpointError, match=r"w\.pth' .*: it holds both 'weight' and 'module\.weight'"):
        load(tmp_path / "w.pth", nn.Linear(2, 1))


def test_counts_of_batches_may_be_missing(tmp_path: Path) -> None:
    """They came with PyTorch 0.4.1; a norm without running averages in the file is missing with its count."""
    whole, model = small_state(), small_model()
    state = {name: array for name, array in whole.items() if name != "1.num_batches_tracked"}
    model(np.ones((2, 1, 3, 3), np.float32))
    (tmp_path / "w.pth").write_bytes(tb.FORMATS["0.4, Python 2"](state))
    load(tmp_path / "w.pth", model)
    assert_same_state(model.state_dict(), whole | {"1.num_batches_tracked": np.array(1)})
    (tmp_path / "w.pth").write_bytes(tb.FORMATS["0.3"]({name: state[name] for name in ("0.weight", "0.bias")}))
    with pytest.raises(ValueError, match=r"missing 1\.running_mean; .*missing 1\.num_batches_tracked"):
        load(tmp_path / "w.pth", model)


def test_what_does_not_fit_is_listed_at_once(tmp_path: Path, writer: tb.Writer) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(file_of(writer, writer.state({"0.weight": ONES, "1.bias": ONES[0], "head.weight": ONES})))
    model = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Linear(1, 2))
    former = model.state_dict()
    with pytest.raises(ValueError) as caught:
        load(path, model)
    assert str(caught.value) == (
        f"{str(path)!r} cannot be loaded: `state` does not fit Sequential: "
        "0.weight has shape (1, 2), must have (1, 3); missing 1.weight; unexpected head.weight"
    )
    assert_same_state(model.state_dict(), former)
    other = tb.Writer(writer.legacy)
    path.write_bytes(file_of(other, other.state({"1.bias": ONES[0], "head.weight": ONES})))
    load(path, model, strict=False)
    np.testing.assert_array_equal(model[1].bias.value, ONES[0])
