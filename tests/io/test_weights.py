"""Weights in files: round trips, foreign files, damaged files."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn import backends, nn
from numbacnn.io import CheckpointError, load, save
from numbacnn.io.arrays import read_arrays, write_arrays

SUFFIXES = (".safetensors", ".npz")


def small_model(dtype: type = np.float32) -> nn.Sequential:
    """Parameters, buffers and an integer of shape ()."""
    return nn.Sequential(nn.Conv2d(1, 2, 2, dtype=dtype), nn.BatchNorm2d(2, dtype=dtype), nn.Flatten())


def assert_same_state(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert list(first) == list(second)
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        assert array.shape == second[name].shape
        assert array.tobytes() == second[name].tobytes(), name


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".NPZ"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_keeps_every_bit(tmp_path: Path, backend: backends.Backend, suffix: str, dtype: type) -> None:
    model, other = small_model(dtype), small_model(dtype)
    model[0].weight.value = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 1, 2, 3]).reshape(2, 1, 2, 2)
    path = tmp_path / f"weights{suffix}"
    save(path, model)
    assert load(str(path), other) == {}
    assert_same_state(model.state_dict(), other.state_dict())
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "plain").touch()
    save(tmp_path / f"w{suffix}", small_model())
    assert (tmp_path / f"w{suffix}").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_comes_back(tmp_path: Path, suffix: str) -> None:
    metadata = {"note": "äöü \n\0", "": "empty key"}
    save(tmp_path / f"w{suffix}", small_model(), metadata)
    assert load(tmp_path / f"w{suffix}", small_model()) == metadata


@pytest.mark.parametrize("metadata", [{"epoch": 3}, {3: "epoch"}])
def test_metadata_must_be_strings(tmp_path: Path, metadata: dict) -> None:
    with pytest.raises(TypeError, match=r"`metadata` has .*must be strings"):
        save(tmp_path / "w.npz", small_model(), metadata)
    assert not os.listdir(tmp_path)


def test_nc_save_and_load_are_these() -> None:
    assert nc.save is save
    assert nc.load is load


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_are_the_same_bytes_every_time(tmp_path: Path, suffix: str) -> None:
    model = small_model()
    for name in ("a", "b"):
        save(tmp_path / f"{name}{suffix}", model, {"note": "x"})
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_other_programs_read_and_write_the_files(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = small_model()
    save(tmp_path / "ours.safetensors", model)
    assert_same_state(
        dict(sorted(load_file(tmp_path / "ours.safetensors").items())), dict(sorted(model.state_dict().items()))
    )
    save(tmp_path / "ours.npz", model)
    with np.load(tmp_path / "ours.npz") as archive:
        assert_same_state(dict(archive), model.state_dict())

    save_file(model.state_dict(), tmp_path / "theirs.safetensors")
    np.savez_compressed(tmp_path / "theirs.npz", **model.state_dict())
    for name in ("theirs.safetensors", "theirs.npz"):
        other = small_model()
        load(tmp_path / name, other)
        assert_same_state(other.state_dict(), model.state_dict())


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=("L", "Nd")), min_size=1, max_size=5),
        st.tuples(
            st.sampled_from(["float32", "float64", "float16", "int64", "uint8", "bool", ">f4"]),
            st.lists(st.integers(0, 3), max_size=3),
            st.booleans(),
        ),
        max_size=4,
    ),
    st.sampled_from(SUFFIXES),
)
@settings(max_examples=40)
def test_arrays_of_any_shape_and_layout(tmp_path: Path, specifications: dict, suffix: str) -> None:
    arrays = {}
    for name, (dtype, shape, transpose) in specifications.items():
        array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
        arrays[name] = array.T if transpose else array
    write_arrays(tmp_path / f"w{suffix}", arrays)
    result, _ = read_arrays(tmp_path / f"w{suffix}")
    assert set(result) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(result[name], array, strict=array.dtype.isnative)
        assert result[name].flags.writeable


@pytest.mark.parametrize("name", ["weights", "weights.h5", "weights.safetensors.bak", ".npz", "npz"])
def test_the_extension_must_be_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"`path` .* must end in \.safetensors or \.npz"):
        save(tmp_path / name, small_model())
    with pytest.raises(ValueError, match=r"`path` .* must end in \.safetensors, \.npz, \.pth, \.pt, \.bin or \.ckpt"):
        load(tmp_path / name, small_model())


def test_what_is_only_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`path` .* must end in \.safetensors or \.npz"):
        save(tmp_path / "weights.pth", small_model())
    assert not os.listdir(tmp_path)


def test_a_missing_folder_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"):
        save(tmp_path / "missing" / "w.npz", small_model())
    with pytest.raises(FileNotFoundError, match=r"w\.npz"):
        load(tmp_path / "w.npz", small_model())


def test_names_and_shapes_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(path, nn.Sequential(nn.Conv2d(1, 2, 2), nn.Conv2d(2, 2, 1)))
    model = nn.Sequential(nn.Conv2d(1, 2, 2, bias=False), nn.Linear(2, 2))
    former = model.state_dict()
    with pytest.raises(ValueError, match=r"1\.weight has shape \(2, 2, 1, 1\), must have \(2, 2\)") as caught:
        load(path, model)
    assert "unexpected 0.bias" in str(caught.value)
    assert_same_state(model.state_dict(), former)
    with pytest.raises(ValueError, match="has shape"):
        load(path, model, strict=False)
    assert_same_state(model.state_dict(), former)


def test_not_strict_takes_what_there_is(tmp_path: Path) -> None:
    saved, model = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    save(tmp_path / "w.npz", saved)
    with pytest.raises(ValueError, match=r"missing 1\.weight; missing 1\.bias"):
        load(tmp_path / "w.npz", model)
    load(tmp_path / "w.npz", model, strict=False)
    assert_same_state(model[0].state_dict(), saved[0].state_dict())


@pytest.fixture
def linear_files(tmp_path: Path) -> dict[str, bytes]:
    """The bytes of a small model with metadata, in both formats."""
    files = {}
    for suffix in SUFFIXES:
        save(tmp_path / f"whole{suffix}", nn.Linear(2, 1), {"note": "x"})
        files[suffix] = (tmp_path / f"whole{suffix}").read_bytes()
    return files


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_truncation_is_an_error(tmp_path: Path, linear_files: dict[str, bytes], suffix: str) -> None:
    path, model = tmp_path / f"cut{suffix}", nn.Linear(2, 1)
    former = model.state_dict()
    for size in range(len(linear_files[suffix])):
        path.write_bytes(linear_files[suffix][:size])
        with pytest.raises(CheckpointError, match=rf"cut\{suffix}' is no whole \{suffix} file: ."):
            load(path, model)
    assert_same_state(model.state_dict(), former)


def test_trailing_bytes(tmp_path: Path, linear_files: dict[str, bytes]) -> None:
    (tmp_path / "long.safetensors").write_bytes(linear_files[".safetensors"] + b"\0")
    with pytest.raises(CheckpointError):
        load(tmp_path / "long.safetensors", nn.Linear(2, 1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_changed_bytes_load_or_are_an_error(tmp_path: Path, linear_files: dict[str, bytes], suffix: str) -> None:
    """Every single byte, in two ways; CheckpointError is a ValueError, and nothing else may come out."""
    path, model, errors = tmp_path / f"changed{suffix}", nn.Linear(2, 1), 0
    whole = linear_files[suffix]
    for position in range(len(whole)):
        for flip in (0x01, 0x80):
            data = bytearray(whole)
            data[position] ^= flip
            path.write_bytes(data)
            try:
                load(path, model)
            except ValueError:
                errors += 1
    assert errors > len(whole) / 3


@given(data=st.binary(max_size=200), suffix=st.sampled_from(SUFFIXES), head=st.integers(0, 60))
@settings(max_examples=60)
def test_foreign_bytes_are_an_error(tmp_path: Path, linear_files: dict[str, bytes], data, suffix, head) -> None:
    (tmp_path / f"foreign{suffix}").write_bytes(linear_files[suffix][:head] + data)
    with pytest.raises(CheckpointError):
        load(tmp_path / f"foreign{suffix}", nn.Linear(2, 1))


def test_an_archive_with_other_contents(tmp_path: Path) -> None:
    path = tmp_path / "archive.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"it holds 'readme\.txt', which is no array"):
        load(path, nn.Linear(2, 1))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", weight=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match="dtype object, which is not supported"):
        load(tmp_path / "objects.npz", nn.Linear(2, 1))


def test_metadata_of_another_kind(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", __metadata__=np.array("[1, 2]"))
    with pytest.raises(CheckpointError, match="its metadata is no table of strings"):
        read_arrays(tmp_path / "w.npz")


# bfloat16.


def safetensors_file(header: str, data: bytes) -> bytes:
    return len(header.encode()).to_bytes(8, "little") + header.encode() + data


BFLOAT16 = np.array([[0x3FC0, 0xC049], [0x7F80, 0x0001], [0x8000, 0x7FC0]], np.uint16)
VALUES = np.array([[1.5, -3.140625], [np.inf, 2.0**-133], [-0.0, np.nan]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_bfloat16_are_read_exactly(tmp_path: Path, suffix: str, dtype: type) -> None:
    path, model = tmp_path / f"w{suffix}", nn.Linear(2, 3, bias=False, dtype=dtype)
    if suffix == ".npz":
        np.savez(path, weight=BFLOAT16.view("V2"))
    else:
        header = '{"weight": {"dtype": "BF16", "shape": [3, 2], "data_offsets": [0, 12]}}'
        path.write_bytes(safetensors_file(header, BFLOAT16.tobytes()))
    load(path, model)
    np.testing.assert_array_equal(model.weight.value, VALUES.astype(dtype), strict=True)
    assert np.signbit(model.weight.value[2, 0])


def test_state_dicts_of_bfloat16(backend: backends.Backend) -> None:
    for array in (BFLOAT16, BFLOAT16.view("V2"), BFLOAT16.astype(">u2"), BFLOAT16.T.copy().T):
        model = nn.Linear(2, 3, bias=False)
        model.load_state_dict({"weight": array})
        np.testing.assert_array_equal(backend.to_numpy(model.weight.value), VALUES.astype(np.float32), strict=True)
    norm = nn.BatchNorm1d(1)
    norm.load_state_dict({**norm.state_dict(), "num_batches_tracked": np.array(300, np.uint16)})
    assert norm.state_dict()["num_batches_tracked"] == 300


@pytest.mark.parametrize("package", ["torch", "ml_dtypes"])
def test_bfloat16_of_other_packages(package: str) -> None:
    module = pytest.importorskip(package)
    array = module.tensor(VALUES, dtype=module.bfloat16) if package == "torch" else VALUES.astype(module.bfloat16)
    model = nn.Linear(2, 3, bias=False)
    model.load_state_dict({"weight": array})
    np.testing.assert_array_equal(model.weight.value, VALUES.astype(np.float32), strict=True)


# Arguments.


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_home_folder_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save(f"~/w{suffix}", small_model())
    assert os.listdir(tmp_path) == [f"w{suffix}"]
    load(f"~/w{suffix}", small_model())


def test_arguments_in_another_order(tmp_path: Path) -> None:
    model, path = small_model(), tmp_path / "w.npz"
    for call in (save, load):
        name = call.__name__
        for first in (model, model.state_dict()):
            with pytest.raises(TypeError, match=rf"`path` of type \w+ must be .*: the order is {name}\(path, model\)"):
                call(first, path)
        with pytest.raises(TypeError, match="`model` of type dict must be a Layer: the order is"):
            call(path, model.state_dict())
    with pytest.raises(TypeError, match="`metadata` of type str must be a dict of strings"):
        save(path, model, "note")
    assert not os.listdir(tmp_path)
