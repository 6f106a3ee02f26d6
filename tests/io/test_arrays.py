"""Files that cost more than they are, or that say what cannot be."""

from __future__ import annotations

import io
import os
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from numbacnn import nn
from numbacnn.io import CheckpointError, load
from numbacnn.io.arrays import write_arrays
from tests.io.test_weights import assert_same_state, safetensors_file


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_that_claims(shape: tuple[int, ...], data: bytes) -> bytes:
    """A member of an archive with the header of float32 zeros of ``shape`` and other data."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


def archive_of(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def test_nothing_is_unpacked_that_the_model_has_no_place_for(tmp_path: Path) -> None:
    """64 MB of zeros, under a name that the model has not and as a weight of another shape, in a few kilobytes."""
    large, model = npy(np.zeros(1 << 24, np.float32)), nn.Linear(2, 1)
    small = {"weight": npy(np.ones((1, 2), np.float32)), "bias": npy(np.ones(1, np.float32))}
    former = model.state_dict()
    for members, message in (
        ({**small, "more": large}, "unexpected more"),
        ({**small, "weight": large}, r"weight has shape \(16777216,\), must have \(1, 2\)"),
        ({**small, "__metadata__": npy(np.array("x" * (1 << 25)))}, "its metadata is no text, or too long"),
    ):
        path = archive_of(tmp_path / "bomb.npz", members)
        assert path.stat().st_size < 1 << 20
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=message):
                load(path, model)
            assert tracemalloc.get_traced_memory()[1] < 1 << 22
        finally:
            tracemalloc.stop()
        assert_same_state(model.state_dict(), former)
    load(archive_of(tmp_path / "w.npz", {**small, "more": large}), model, strict=False)
    assert_same_state(model.state_dict(), {"weight": np.ones((1, 2), np.float32), "bias": np.ones(1, np.float32)})


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_bound_are_refused(tmp_path: Path, compression: int) -> None:
    path = archive_of(tmp_path / "w.npz", {"weight": npy(np.ones((1, 2), np.float32))}, compression)
    with pytest.raises(CheckpointError, match="'weight' is compressed by another method than deflate"):
        load(path, nn.Linear(2, 1, bias=False))


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy_that_claims((1, 2), b""), "is not as long as its shape"),
        (npy_that_claims((1, 2), bytes(12)), "is not as long as its shape"),
        (npy_that_claims((1 << 40, 1 << 40), b""), "is not as long as its shape"),
        (npy_that_claims((-1, -2), bytes(8)), "."),
        (npy_that_claims((1, 2), bytes(8)).replace(b"'<f4'", b"'|S4'"), "has the dtype"),
        (b"\x93NUMPY\x01\x00\x40\x1f" + b"-" * 8000, "."),
        (b"\x93NUMPY\x01\x00\x40\x1f" + b"[" * 8000, "."),
        (b"\x93NUMPY\x02\x00\x00\x00\x00\xf0" + b" " * 100_000, "."),
        (b"\x93NUMPY\x03\x00" + bytes(100), "is of version"),
        (npy(np.array([(1, 2.0)], "i4,f4")), "has the dtype"),
        (npy(np.array(["2020-01-01"], "M8[D]")), "has the dtype"),
    ],
)
def test_members_that_say_what_cannot_be(tmp_path: Path, member: bytes, message: str) -> None:
    path = archive_of(tmp_path / "w.npz", {"weight": member})
    with pytest.raises(CheckpointError, match=message):
        load(path, nn.Linear(2, 1, bias=False))


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    one, model = npy(np.ones((1, 2), np.float32)), nn.Linear(2, 1, bias=False)
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("weight.npy", one)
        archive.writestr("weight.npy", npy(np.zeros((1, 2), np.float32)))
    with pytest.raises(CheckpointError, match="it holds 'weight' twice"):
        load(tmp_path / "w.npz", model)
    entry = '"weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}'
    for text, message in (
        (f"{{{entry}, {entry}}}", "it names 'weight' twice"),
        (f'{{{entry[:-1]}, "shape": [2, 1]}}}}', "it names 'shape' twice"),
    ):
        (tmp_path / "w.safetensors").write_bytes(safetensors_file(text, bytes(8)))
        with pytest.raises(CheckpointError, match=message):
            load(tmp_path / "w.safetensors", model)


def test_nothing_of_a_safetensors_file_is_read_that_the_model_has_no_place_for(tmp_path: Path) -> None:
    path, model = tmp_path / "w.safetensors", nn.Linear(2, 1, bias=False)
    write_arrays(path, {"weight": np.ones((1, 2), np.float32), "more": np.zeros(1 << 22, np.float32)})
    model.weight.value = [[5, 5]]
    tracemalloc.start()
    try:
        load(path, model, strict=False)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(model.weight.value, [[1, 1]])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"weight": ' * 100_000, "nested too deep"),
        ("[]", "."),
        ("5", "."),
        ('{"weight": 5}', "."),
        ('{"weight": {"dtype": "F32", "shape": [1, 2]}}', "data_offsets"),
        ('{"weight": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}', "'F8_E4M3', which is not supported"),
        ('{"weight": {"dtype": ["F32"], "shape": [8], "data_offsets": [0, 8]}}', "."),
        ('{"weight": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}}', "`shape` -1 must be at least 0"),
        ('{"weight": {"dtype": "F32", "shape": [1.0, 2], "data_offsets": [0, 8]}}', "`shape` 1.0 must be an int"),
        ('{"weight": {"dtype": "F32", "shape": "12", "data_offsets": [0, 8]}}', "must be an int"),
        ('{"weight": {"dtype": "F32", "shape": [1, 3], "data_offsets": [0, 12]}}', "is not at byte"),
        ('{"weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]}}', "is not at byte"),
        ('{"weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}', "its arrays end at byte"),
        ('{"weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8, 8]}}', "is not at byte"),
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},'
         ' "weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}', "is not at byte"),
        ('{"weight": {"dtype": "F32", "shape": [' + "9" * 5000 + '], "data_offsets": [0, 8]}}', "."),
        ('{"weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}, "__metadata__": {"a": 1}}', "no table"),
    ],
)  # fmt: skip
def test_headers_that_say_what_cannot_be(tmp_path: Path, header: str, message: str) -> None:
    path, model = tmp_path / "w.safetensors", nn.Linear(2, 1, bias=False)
    path.write_bytes(safetensors_file(header, bytes(8)))
    with pytest.raises(CheckpointError, match=message):
        load(path, model)


def test_whatever_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "w.npz").mkdir()
    with pytest.raises(CheckpointError, match=r"w\.npz' is no regular file"):
        load(tmp_path / "w.npz", nn.Linear(2, 1))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.npz")
        with pytest.raises(CheckpointError, match=r"pipe\.npz' is no regular file"):
            load(tmp_path / "pipe.npz", nn.Linear(2, 1))
