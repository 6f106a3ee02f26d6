"""IDX files: what is written comes back, and what is damaged is an IdxError and nothing else."""

from __future__ import annotations

import gc
import gzip
import os
import re
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from numbacnn.data import IdxError, read_idx, write_idx

DTYPES = ["u1", "i1", "i2", "i4", "f4", "f8"]
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
ARRAY = np.array([[1, -2, 300], [4, 5, -32768]], np.int16)
BYTES = bytes.fromhex("00 00 0b 02  00 00 00 02  00 00 00 03  0001 fffe 012c  0004 0005 8000")


def header(code, *sizes):
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes)


def refused(path, content, *words):
    """The message with which reading ``content`` fails; it names the file."""
    path.write_bytes(content)
    with pytest.raises(IdxError, match=re.escape(repr(str(path)))) as caught:
        read_idx(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(
            st.sampled_from([np.dtype(dtype), np.dtype(dtype).newbyteorder(">")]),
            hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
        )
    ),
    st.sampled_from(["a.idx", "a.idx.gz"]),
)
@example(np.zeros((0, 28, 28), np.uint8), "a.idx.gz")
def test_round_trip(tmp_path, array, name):
    path = tmp_path / name
    write_idx(path, array)
    again = read_idx(path)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    assert again.dtype == array.dtype.newbyteorder("=") and again.dtype.isnative
    assert again.flags.owndata and again.flags.writeable and again.flags.c_contiguous
    np.testing.assert_array_equal(again, array, strict=False)
    assert again.shape == array.shape


def test_bytes_of_the_format(tmp_path):
    write_idx(tmp_path / "a", ARRAY)
    assert (tmp_path / "a").read_bytes() == BYTES
    write_idx(tmp_path / "a", np.asfortranarray(ARRAY))
    assert (tmp_path / "a").read_bytes() == BYTES


@pytest.mark.parametrize("dtype", DTYPES)
def test_element_types(tmp_path, dtype):
    (tmp_path / "a").write_bytes(header(CODES[dtype], 2) + np.array([3, 100], f">{dtype}").tobytes())
    array = read_idx(tmp_path / "a")
    assert array.dtype == dtype and array.tolist() == [3, 100]


def test_gzip_is_told_by_content_and_not_by_name(tmp_path):
    (tmp_path / "packed").write_bytes(gzip.compress(BYTES))
    (tmp_path / "plain.gz").write_bytes(BYTES)
    np.testing.assert_array_equal(read_idx(tmp_path / "packed"), ARRAY)
    np.testing.assert_array_equal(read_idx(tmp_path / "plain.gz"), ARRAY)


def test_same_array_gives_same_bytes_under_any_name(tmp_path, monkeypatch):
    write_idx(tmp_path / "a.gz", ARRAY)
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_idx(tmp_path / "b.gz", ARRAY)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_interrupted_writing_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "a.gz"
    write_idx(path, ARRAY)

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_idx(path, ARRAY + 1)
    np.testing.assert_array_equal(read_idx(path), ARRAY)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_at_every_byte(tmp_path, packed):
    content = gzip.compress(BYTES, mtime=0) if packed else BYTES
    for length in range(len(content)):
        refused(tmp_path / "a", content[:length])
    refused(tmp_path / "a", BYTES[:-1], "holds 11 bytes of data", "(2, 3)", "takes 12")


def test_every_other_byte_in_the_header_is_refused(tmp_path):
    for position in range(12):
        for value in set(range(256)) - {BYTES[position]}:
            refused(tmp_path / "a", BYTES[:position] + bytes([value]) + BYTES[position + 1 :])


def test_every_flipped_bit_of_a_gzip_file(tmp_path):
    path, content = tmp_path / "a.gz", gzip.compress(BYTES, mtime=0)
    refusals = 0
    for position in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(read_idx(path), ARRAY)
        except IdxError:
            refusals += 1
    # Only the time stamp and its like in the first ten bytes can change without damage.
    assert refusals >= 8 * (len(content) - 10)


@given(st.binary(max_size=40), st.sampled_from([b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"\0\0\x08", b"\0\0\x08\x01"]))
def test_arbitrary_bytes_raise_nothing_else(tmp_path, content, start):
    path = tmp_path / "a"
    path.write_bytes(start + content)
    try:
        array = read_idx(path)
    except IdxError:
        return
    assert isinstance(array, np.ndarray)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["cut short", "0 bytes"]),
        (b"\x89PNG\r\n", ["neither gzip nor IDX", "89 50 4e 47", "00 00"]),
        (header(0x0A, 1) + b"\0", ["0x0a", "0x08"]),
        (b"\0\0\x08\0", ["0 axes", "1 to 32"]),
        (b"\0\0\x08\x21" + b"\0\0\0\x01" * 33, ["33 axes", "1 to 32"]),
        (header(0x08, 3) + b"1234", ["more than 3 bytes", "uint8", "(3,)"]),
        (header(0x0E, 2**32 - 1, 2**32 - 1), ["more than any array can hold"]),
        (header(0x0E, 2**32 - 1, 2**32 - 1, 0), ["more than any array can hold"]),
        (header(0x08, 2**32 - 1, 2**30) + b"1", ["holds 1 bytes", str((2**32 - 1) * 2**30)]),
        (gzip.compress(header(0x08, 2**32 - 1, 2**30), mtime=0), ["holds at most", "takes"]),
        (gzip.compress(header(0x08, 2000), mtime=0), ["holds 0 bytes", "takes 2000"]),
        (gzip.compress(BYTES, mtime=0) + b"more", ["gzip"]),
        (gzip.compress(BYTES, mtime=0) + gzip.compress(b"more", mtime=0), ["more than 12 bytes"]),
    ],
    ids=lambda value: None if isinstance(value, bytes) else " ".join(value[:1]),
)
def test_refusals_name_the_rule(tmp_path, content, words):
    refused(tmp_path / "a", content, *words)


def test_gzip_bomb_is_left_packed(tmp_path, monkeypatch):
    path = tmp_path / "a.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header(0x08, 100))
        for _ in range(16):
            file.write(bytes(1 << 20))
    taken = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: taken.append(size) or read(self, size))
    with pytest.raises(IdxError, match="more than 100 bytes"):
        read_idx(path)
    assert 0 < sum(taken) < 200 and min(taken) > 0


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_file_cannot_hold_takes_no_memory(tmp_path, monkeypatch, packed):
    content = header(0x0E, 50_000, 1000) + bytes(1000)
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("memory was taken"))
    refused(tmp_path / "a", gzip.compress(content) if packed else content, "bytes of data", "takes 400000000")


def peak(function):
    """The result, and the most bytes that were held on the way to it."""
    gc.collect()
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a", "a.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i4", "f8"])
def test_reading_and_writing_take_little_more_than_the_array(tmp_path, name, dtype):
    array = np.arange(24 << 20, dtype=np.uint8).view(dtype).reshape(4, -1)
    _, most = peak(lambda: write_idx(tmp_path / name, array))
    assert most < 0.8 * array.nbytes
    again, most = peak(lambda: read_idx(tmp_path / name))
    assert most < 1.2 * array.nbytes
    np.testing.assert_array_equal(again, array)


def test_more_than_memory_holds_is_an_idx_error(tmp_path, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(np, "empty", no_memory)
    refused(tmp_path / "a", BYTES, "claims 12 bytes of data, more than there is memory for")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_hangs_nobody(tmp_path):
    os.mkfifo(tmp_path / "a")
    script = f"""
from numbacnn.data import DataFileError, read_idx
for path in ({str(tmp_path / "a")!r}, {str(tmp_path)!r}, "/dev/zero"):
    try:
        read_idx(path)
    except DataFileError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and done.stdout.count("is no regular file; it must be one") == 3


def test_home_folder(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    write_idx("~/a.gz", ARRAY)
    assert (tmp_path / "a.gz").is_file()
    np.testing.assert_array_equal(read_idx("~/a.gz"), ARRAY)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="folder"):
        write_idx(tmp_path / "no" / "a", ARRAY)


@pytest.mark.parametrize("dtype", ["i8", "u2", "f2", "?", "c8", "U3", "O"])
def test_other_types_are_not_written(tmp_path, dtype):
    with pytest.raises(TypeError, match=r"`array`.*uint8, int8, int16, int32, float32, float64"):
        write_idx(tmp_path / "a", np.zeros(2, dtype))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(), (1,) * 33, (2**32, 0)])
def test_shapes_that_the_format_lacks_are_not_written(tmp_path, shape):
    if len(shape) > 32 and np.__version__.startswith("1."):
        pytest.skip("NumPy 1 has no such array")
    with pytest.raises(ValueError, match=r"`array`.*1 to 32 axes"):
        write_idx(tmp_path / "a", np.zeros(shape, np.uint8))
