"""What is refused in files of `torch.save`: what would be executed, what cannot be, what is damaged."""

from __future__ import annotations

import os
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn import nn
from numbacnn.io import CheckpointError, load
from tests.io import torch_bytes as tb
from tests.io.test_torch_file import ONES, file_of, wrapped
from tests.io.test_torch_file import writer as writer
from tests.io.test_weights import assert_same_state


def quantized(writer: tb.Writer) -> bytes:
    storage = writer.storage("77", np.ones(2, np.uint8), kind="QInt8Storage")
    scheme = tb.row(tb.named("torch.per_tensor_affine"), b"G" + bytes(8), tb.number(0))
    return tb.named("torch._utils._rebuild_qtensor") + tb.row(storage, tb.number(0), tb.sizes((2,)), scheme) + b"R"


def sparse(writer: tb.Writer) -> bytes:
    layout = tb.named("torch.serialization._get_layout") + tb.row(tb.text("torch.sparse_coo")) + b"R"
    values = writer.tensor(writer.storage("77", ONES), (2,), (1,))
    size = tb.named("torch.Size") + tb.row(tb.sizes((1, 2))) + b"R"
    return tb.named("torch._utils._rebuild_sparse_tensor") + tb.row(layout, tb.row(values, values, size)) + b"R"


def float8(writer: tb.Writer) -> bytes:
    storage = writer.storage("77", np.ones(2, np.uint8), kind="storage.UntypedStorage")
    rest = [b"\x89", tb.named("collections.OrderedDict") + b")R", tb.named("torch.float8_e4m3fn")]
    arguments = tb.row(storage, tb.number(0), tb.sizes((2,)), tb.sizes((1,)), *rest)
    return tb.named("torch._utils._rebuild_tensor_v3") + arguments + b"R"


def negated(writer: tb.Writer) -> bytes:
    bits = tb.table({"neg": b"\x88"}, ordered=False)
    rest = [b"\x89", tb.named("collections.OrderedDict") + b")R", bits]
    arguments = tb.row(writer.storage("77", ONES), tb.number(0), tb.sizes((2,)), tb.sizes((1,)), *rest)
    return tb.named("torch._utils._rebuild_tensor_v2") + arguments + b"R"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (quantized, "a quantized tensor"),
        (sparse, "a sparse tensor"),
        (float8, r"a tensor of torch\.float8_e4m3fn"),
        (negated, "a tensor whose numbers are to be conjugated or negated"),
    ],
)
def test_tensors_of_other_kinds_are_named(tmp_path: Path, writer: tb.Writer, make, what: str) -> None:
    other = make(writer)
    (tmp_path / "w.pth").write_bytes(file_of(writer, tb.table({"conv.weight": other})))
    with pytest.raises(CheckpointError, match=rf"w\.pth' .*: 'conv\.weight' is {what}, which is not supported"):
        load(tmp_path / "w.pth", nn.Linear(2, 1))
    # In what is no model's they are of no account.
    content = {"state_dict": writer.state({"weight": ONES}), "other": tb.table({"tensor": other})}
    with pytest.warns(UserWarning, match="state_dict"):
        load(wrapped(tmp_path / "w.pth", content, writer), nn.Linear(2, 1, bias=False))


def evil(name: str, *arguments: bytes) -> bytes:
    return tb.named(name) + tb.row(*arguments) + b"R"


@pytest.mark.parametrize("place", ["alone", "in a state dict", "beside one", "as a storage", "as a key", "built"])
@pytest.mark.parametrize("name", ["posix.system", "os.system", "builtins.eval", "builtins.getattr", "torch.hub.load",
                                  "torch.load", "torch.storage._load_from_bytes", "numbacnn.io.save",
                                  "torch.nn.modules.linear.Linear", "torch._utils._rebuild_anything"])  # fmt: skip
def test_nothing_that_a_file_names_is_run(tmp_path: Path, writer: tb.Writer, name: str, place: str) -> None:
    proof = tmp_path / "ran"
    call = evil(name, tb.text(f"touch {proof}"))
    weight = writer.tensor(writer.storage("0", ONES), (1, 2))
    content = {
        "alone": call,
        "in a state dict": tb.table({"weight": weight, "extra": call}),
        "beside one": tb.table({"state_dict": tb.table({"weight": weight}), "callback": call}, ordered=False),
        "as a storage": tb.table({"weight": writer.tensor(call, (1, 2))}),
        "as a key": b"}" + call + weight + b"s",
        "built": tb.table({"weight": weight}) + call + b"b",
    }[place]
    (tmp_path / "w.pth").write_bytes(file_of(writer, content))
    model = nn.Linear(2, 1, bias=False)
    former = model.state_dict()
    with pytest.raises(CheckpointError, match=rf"w\.pth' .*: its pickle names '{name}'; only tensors and plain data"):
        load(tmp_path / "w.pth", model)
    assert not proof.exists()
    assert_same_state(model.state_dict(), former)


def test_names_that_are_known_are_not_called_with_anything(tmp_path: Path, writer: tb.Writer) -> None:
    for call in (
        evil("torch.FloatStorage", tb.number(1 << 40)),
        evil("torch.Tensor", tb.number(1 << 40)),
        evil("torch.float32", tb.text("x")),
        evil("torch._tensor._rebuild_from_type_v2", tb.named("torch._tensor._rebuild_from_type_v2"),
             tb.named("torch.Tensor"), b")", b"N"),
        evil("torch._tensor._rebuild_from_type_v2", tb.named("torch._utils._rebuild_tensor"),
             tb.named("torch.float32"), b")", b"N"),
        evil("torch._utils._rebuild_tensor_v2"),
        evil("torch._utils._rebuild_parameter"),
        evil("collections.OrderedDict", tb.number(5)),
        evil("collections.OrderedDict", b"](]e"),
    ):  # fmt: skip
        (tmp_path / "w.pth").write_bytes(file_of(writer, tb.table({"weight": call})))
        with pytest.raises(CheckpointError, match=r"w\.pth' is no whole \.pth file: its pickle"):
            load(tmp_path / "w.pth", nn.Linear(2, 1))


def nested(count: int) -> bytes:
    """A tuple of itself and itself, ``count`` times: as many steps to walk through as 2 to the ``count``."""
    return b")q\x00" + b"h\x00h\x00\x86q\x00" * count


BOMBS = {
    "tuples of tuples": nested(300),
    "tuples of tuples as a key": b"}" + nested(300) + b"Ns",
    "tuples of tuples as a type": evil("torch._tensor._rebuild_from_type_v2", b"N", nested(300), b")", b"N"),
    "tuples of tuples as sizes": evil("torch._utils._rebuild_tensor", b"N", tb.number(0), nested(300), nested(300)),
    "tables in tables": (b"}" + tb.text("a")) * 50_000 + b"N" + b"s" * 50_000,
    "lists in lists": b"]" * 100_000 + b"a" * 99_999,
    "marks": b"(" * 300_000,
    "instructions without end": b"N" * 1_000_001,
    "text that is not there": b"X\xff\xff\xff\xff",
    "much text that is not there": b"\x8d" + b"\xff" * 7 + b"\x7f",
    "text of negative length": b"T\xff\xff\xff\xff",
    "a name without end": b"c" + b"x" * 100_000,
    "a list in itself": b"]q\x00h\x00a",
    "a table in itself": b"}q\x00" + tb.text("state_dict") + b"h\x00s",
    "one list of pairs for many tables": b"](" + (b"](" + tb.text("key") + b"Ne") * 50_000 + b"eq\x00"
    + (tb.named("collections.OrderedDict") + b"h\x00\x85R") * 10_000,
    "one table for many tables": b"}(" + b"".join(tb.text(str(i)) + b"N" for i in range(50_000)) + b"uq\x00"
    + (tb.named("collections.OrderedDict") + b"h\x00\x85R") * 10_000,
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_go_off_small(tmp_path: Path, name: str) -> None:
    (tmp_path / "w.pth").write_bytes(tb.archive(tb.Writer(False), BOMBS[name]))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"w\.pth' (is no whole \.pth file|cannot be loaded): .{5,300}$"):
            load(tmp_path / "w.pth", nn.Linear(2, 1))
        assert tracemalloc.get_traced_memory()[1] < 1 << 27
    finally:
        tracemalloc.stop()


HUGE = [1 << 31, 1 << 40, (1 << 62) - 1, 1 << 62, (1 << 63) - 1]


@pytest.mark.parametrize("size", HUGE)
def test_sizes_that_cannot_be(tmp_path: Path, writer: tb.Writer, size: int) -> None:
    def damaged(content: bytes) -> None:
        (tmp_path / "w.pth").write_bytes(file_of(writer, content))
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError, match=r"w\.pth' is no whole \.pth file: .{5,300}$"):
                load(tmp_path / "w.pth", nn.Linear(2, 1))
            assert tracemalloc.get_traced_memory()[1] < 1 << 22
        finally:
            tracemalloc.stop()

    storage = writer.storage("0", ONES)
    for shape, strides, offset in (
        ((size, 2), (2, 1), 0),
        ((size, size), (size, 1), 0),
        ((1, 2), (size, size), 0),
        ((1, 2), (2, 1), size),
        ((1, 2, 3), (2, 1), 0),
        ((1,) * 33, (1,) * 33, 0),
        ((-1, -2), (2, 1), 0),
        ((1, 2), (2, -1), 1),
    ):
        damaged(tb.table({"weight": writer.tensor(storage, shape, strides, offset)}))
    count = tb.number(size)
    claims = storage.replace(tb.number(2), count)
    assert claims != storage
    damaged(tb.table({"weight": writer.tensor(claims, (1, 2))}))
    damaged(tb.table({"weight": writer.tensor(claims, (size,), (1,))}))


def test_storages_that_do_not_agree(tmp_path: Path) -> None:
    writer = tb.Writer(True)
    small, large = writer.storage("0", ONES), writer.storage("0", np.ones(3, np.float32))
    beyond = writer.storage("0", ONES, view=tb.row(tb.text("1"), tb.number(1), tb.number(2)))
    for content, message in (
        (writer.tensor(small, (1,)) + writer.tensor(large, (1,)), "its pickle gives the storage '0' two sizes"),
        (writer.tensor(beyond, (1,)), "its pickle has a view that ends behind the storage '0'"),
        (tb.row(tb.text("module"), *[b"N"] * 5) + b"Q", "its pickle refers to something other than a storage"),
        (b"Nb", "its pickle is damaged"),
        (tb.number(5) + b"}b", "its pickle is damaged: there is int where dict belongs"),
    ):
        (tmp_path / "w.pth").write_bytes(tb.stream(writer, content))
        with pytest.raises(CheckpointError, match=rf"w\.pth' is no whole \.pth file: {message}"):
            load(tmp_path / "w.pth", nn.Linear(2, 1))
    whole = tb.stream(writer, tb.table({"weight": writer.tensor(small, (1, 2))}))
    (tmp_path / "w.pth").write_bytes(whole[: len(tb.MAGIC + tb.PROTOCOL)] + tb.pickled(b"}}b"))
    with pytest.raises(CheckpointError, match="its pickle has attributes of dict; only plain data is read"):
        load(tmp_path / "w.pth", nn.Linear(2, 1))


def test_a_tensor_that_is_expanded_takes_no_memory(tmp_path: Path, writer: tb.Writer) -> None:
    """2 to the 40 numbers, all of them one; nothing that a model has a place for."""
    expanded = writer.tensor(writer.storage("0", ONES), (1 << 20, 1 << 20), (0, 0))
    (tmp_path / "w.pth").write_bytes(file_of(writer, tb.table({"weight": expanded})))
    with pytest.raises(ValueError, match=r"weight has shape \(1048576, 1048576\), must have \(1, 2\)"):
        load(tmp_path / "w.pth", nn.Linear(2, 1, bias=False))


def test_archives_that_are_none_of_torch_save(tmp_path: Path) -> None:
    path, writer = tmp_path / "w.pt", tb.Writer(False)
    state = writer.state({"weight": ONES})

    def damaged(message: str, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as made:
            warnings.simplefilter("ignore")
            for name, data in members.items():
                made.writestr(name.rstrip("!"), data)
        with pytest.raises(CheckpointError, match=rf"w\.pt' is no whole \.pt file: {message}"):
            load(path, nn.Linear(2, 1, bias=False))

    data, weight = tb.pickled(state), ONES.tobytes()
    damaged("it is a zip archive, but none of `torch.save`", {"readme.txt": b"hello"})
    damaged("it is a zip archive, but none of `torch.save`", {"a/data.pkl": data, "b/data.pkl": data})
    damaged("it is a program of TorchScript", {"a/data.pkl": data, "a/constants.pkl": b"", "a/code/x.py": b""})
    damaged("it has no member 'a/data/0'", {"a/data.pkl": data})
    damaged("its member 'a/data/0' has 4 bytes, must have 8", {"a/data.pkl": data, "a/data/0": weight[:4]})
    damaged("its member 'a/data/0' has 9 bytes, must have at most 8", {"a/data.pkl": data, "a/data/0": weight + b"x"})
    damaged("its byte order is b'middle'", {"a/data.pkl": data, "a/data/0": weight, "a/byteorder": b"middle"})
    damaged("its member 'a/byteorder' has 17 bytes", {"a/data.pkl": data, "a/byteorder": b"x" * 17})
    damaged("it holds 'a/data/0' twice", {"a/data.pkl": data, "a/data/0": weight, "a/data/0!": weight})
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        damaged("its member 'a/data.pkl' is compressed", {"a/data.pkl": data, "a/data/0": weight}, method)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is neither a zip archive nor a pickle"),
        (b"<!DOCTYPE html>", "it is neither a zip archive nor a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "it is a pointer of Git LFS"),
        (b"\x89HDF\r\n\x1a\n", "it is a file of HDF5"),
        (b"data.pkl".ljust(257, b"\0") + b"ustar", "it is a tar archive"),
        (b"\x80\x02K\x05.", "it is a pickle, but none of `torch.save`"),
        (tb.MAGIC + b"\x80\x02K\x05.", "its protocol is not the one"),
        (tb.MAGIC + tb.PROTOCOL + b"\x80\x02}.\x80\x02].\x80\x02].", "it holds a list, not a table of tensors"),
        (tb.MAGIC + tb.PROTOCOL + b"\x80\x02}.\x80\x02}.\x80\x02}.", "it has no list of storages"),
        (tb.MAGIC + tb.PROTOCOL + b"\x80\x02}.\x80\x02}.\x80\x02](" + tb.text("1") + b"e.", "it lists are not those"),
        (tb.MAGIC + tb.PROTOCOL + b"\x80\x02}.\x80\x02}.\x80\x02].x", "its storages end at byte"),
        (tb.stream(tb.Writer(True), tb.table({"epoch": tb.number(3)})), "no table of tensors; it has 'epoch'"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"w\.pth' is no whole \.pth file: .*{message}"):
        load(tmp_path / "w.pth", nn.Linear(2, 1))


def test_one_of_several_tables_is_not_guessed(tmp_path: Path, writer: tb.Writer) -> None:
    content = {name: writer.state({"weight": ONES}) for name in ("generator", "critic")}
    with pytest.raises(CheckpointError, match="it holds several tables of tensors; it has 'generator', 'critic'"):
        load(wrapped(tmp_path / "w.pth", content, writer), nn.Linear(2, 1))


# Damage.


def linear_file(version: str) -> bytes:
    return tb.FORMATS[version]({"weight": ONES, "bias": ONES[0, :1]})


@pytest.mark.parametrize("version", ["0.4, Python 2", "1.5", "1.6", "2.13"])
def test_every_truncation_is_an_error(tmp_path: Path, version: str) -> None:
    path, model, whole = tmp_path / "cut.pth", nn.Linear(2, 1), linear_file(version)
    former = model.state_dict()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"cut\.pth' is no whole \.pth file: .{5,300}$"):
            load(path, model)
    assert_same_state(model.state_dict(), former)


@pytest.mark.parametrize("version", ["0.4, Python 2", "1.5", "1.6", "2.13"])
def test_changed_bytes_load_or_are_an_error(tmp_path: Path, version: str) -> None:
    """Every single byte, in two ways; numbers in an archive have a checksum, so that it never loads other ones."""
    path, model, errors = tmp_path / "changed.pth", nn.Linear(2, 1), 0
    whole = linear_file(version)
    for position in range(len(whole)):
        for flip in (0x01, 0x80):
            data = bytearray(whole)
            data[position] ^= flip
            path.write_bytes(data)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    load(path, model)
            except ValueError as error:
                assert "changed.pth" in str(error)
                errors += 1
            else:
                if not version.startswith(("0", "1.5")):
                    assert_same_state(model.state_dict(), {"weight": ONES, "bias": ONES[0, :1]})
    assert errors > len(whole) / 3


@given(st.binary(max_size=200), st.sampled_from(["0.3", "1.5", "1.6"]), st.integers(0, 1500))
@settings(max_examples=100)
def test_foreign_bytes_are_an_error(tmp_path: Path, data: bytes, version: str, head: int) -> None:
    whole = linear_file(version)
    (tmp_path / "foreign.pth").write_bytes(whole[: min(head, len(whole) - 40)] + data)
    with pytest.raises(CheckpointError, match=r"foreign\.pth"):
        load(tmp_path / "foreign.pth", nn.Linear(2, 1))


def test_whatever_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "w.pth").mkdir()
    with pytest.raises(CheckpointError, match=r"w\.pth' is no regular file"):
        load(tmp_path / "w.pth", nn.Linear(2, 1))
    with pytest.raises(FileNotFoundError, match=r"other\.pth"):
        load(tmp_path / "other.pth", nn.Linear(2, 1))
    assert os.listdir(tmp_path) == ["w.pth"]
