"""CIFAR-10 from folders, the cache and a server on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import pickle
import re
import struct
import sys
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.data import DataFileError, DatasetUnavailable, cifar10
from tests.served import NOWHERE, isolate, md5_sums, served

module, sources = (sys.modules[f"numbacnn.data.datasets.{name}"] for name in ("cifar", "sources"))
TRAIN = [f"data_batch_{i}.bin" for i in range(1, 6)]
FOLDER, ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_FILE = 3


@pytest.fixture(autouse=True)
def _neither_network_nor_cache(monkeypatch, tmp_path):
    isolate(monkeypatch, tmp_path / "cache")
    change(monkeypatch, url=NOWHERE)


def change(monkeypatch, **settings):
    monkeypatch.setattr(module, "_CIFAR10", dataclasses.replace(module._CIFAR10, **settings))


def record(number):
    """Label and pixels of an image: every channel and row has values of its own."""
    red, green, blue = (np.add.outer(np.arange(32) * 3, np.arange(32)) + number + k for k in (0, 40, 80))
    return bytes([number % 10]) + b"".join(plane.astype(np.uint8).tobytes() for plane in (red, green, blue))


def write(folder, meta=None):
    """The six files, numbered through."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate([*TRAIN, "test_batch.bin"]):
        (folder / name).write_bytes(b"".join(record(PER_FILE * i + k) for k in range(PER_FILE)))
    if meta is not None:
        (folder / "batches.meta.txt").write_text(meta)


@pytest.mark.parametrize("below", [False, True])
def test_from_a_folder(tmp_path, below):
    write(tmp_path / FOLDER if below else tmp_path)
    train, test = (cifar10(split, data_dir=str(tmp_path)) for split in ("train", "test"))
    assert train.images.shape == (15, 3, 32, 32) and test.images.shape == (3, 3, 32, 32)
    assert train.images.dtype == np.uint8 and train.images.flags.c_contiguous
    assert train.labels.tolist() == [*range(10), *range(5)] and test.labels.tolist() == [5, 6, 7]
    # Channel, row, column of image 7, and of the second test image.
    for (c, y, x), value in {(0, 0, 0): 7, (0, 1, 0): 10, (1, 0, 2): 49, (2, 31, 31): 211}.items():
        assert train.images[7, c, y, x] == value
        assert test.images[1, c, y, x] == value + 9
    assert train.classes == CLASSES and (train.name, test.name) == ("cifar10 train", "cifar10 test")


def old_pickle(numbers):
    """A batch as Python 2 pickled it, whose text is bytes: what the files that are downloaded look like."""
    records = np.frombuffer(b"".join(map(record, numbers)), np.uint8).reshape(-1, 3073)
    pixels = records[:, 1:].tobytes()

    def text(value):
        return b"U" + bytes([len(value)]) + value

    labels = b"".join(b"K" + bytes([label]) for label in records[:, 0])
    names = b"".join(text(b"%d.png" % number) + b"q" + bytes([100 + number]) for number in numbers)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85" + text(b"b") + b"\x87Rq\n"
        b"(K\x01M" + struct.pack("<H", len(records)) + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0b" + text(b"u1")
        + b"K\x00K\x01\x87Rq\x0c(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(pixels)) + pixels + b"tb"
    )  # fmt: skip
    return (
        b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"a batch") + b"q\x03" + text(b"labels")
        + b"q\x04]q\x05(" + labels + b"e" + text(b"data") + b"q\x06" + array + text(b"filenames") + b"q\x0d]q\x0e("
        + names + b"eu."
    )  # fmt: skip


def new_pickle(numbers, protocol=4):
    records = np.frombuffer(b"".join(map(record, numbers)), np.uint8).reshape(-1, 3073)
    content = {"data": records[:, 1:].copy(), "labels": records[:, 0].tolist(), "batch_label": "a batch"}
    return pickle.dumps(content, protocol)


def write_pickles(folder, make):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate([*TRAIN, "test_batch.bin"]):
        (folder / name.removesuffix(".bin")).write_bytes(make(range(PER_FILE * i, PER_FILE * (i + 1))))


@pytest.mark.parametrize("make", [old_pickle, new_pickle, lambda numbers: new_pickle(numbers, 3)])
@pytest.mark.parametrize("below", [False, True])
def test_the_python_version(tmp_path, make, below):
    write(tmp_path / "binary")
    write_pickles(tmp_path / "root" / "cifar-10-batches-py" if below else tmp_path / "root", make)
    for split in ("train", "test"):
        expected, found = (cifar10(split, tmp_path / name) for name in ("binary", "root"))
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.images.flags.writeable
    names = [f"class {i}" for i in range(10)]
    (tmp_path / "root" / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, 2))
    assert cifar10("test", tmp_path / "root").classes == (CLASSES if below else tuple(names))


def test_an_array_that_is_stored_column_by_column(tmp_path):
    write_pickles(tmp_path, new_pickle)
    expected = cifar10("test", tmp_path).images
    content = pickle.loads((tmp_path / "test_batch").read_bytes())
    content["data"] = np.asfortranarray(content["data"])
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, 4))
    np.testing.assert_array_equal(cifar10("test", tmp_path).images, expected)


def test_nothing_that_a_pickle_names_is_run(tmp_path):
    write_pickles(tmp_path, old_pickle)
    proof = tmp_path / "ran"
    for protocol in range(5):

        class Evil:
            def __reduce__(self):
                return open, (str(proof), "w")

        content = pickle.dumps({"data": Evil(), "labels": []}, protocol)
        (tmp_path / "test_batch").write_bytes(content if protocol > 1 else b"\x80" + bytes([protocol]) + content)
        with pytest.raises(
            DataFileError, match=r"test_batch' cannot be read: its pickle (names '.*open'|has the instr)"
        ):
            cifar10("test", tmp_path)
    assert not proof.exists()


@given(st.integers(0, 2**31), st.integers(0, 255), st.sampled_from([old_pickle, new_pickle]), st.booleans())
def test_a_damaged_pickle_raises_nothing_else(tmp_path, place, value, make, cut):
    write_pickles(tmp_path, make)
    data = bytearray(make(range(PER_FILE)))
    heads = [i for i in range(len(data)) if i < 400 or i > len(data) - 150]
    at = heads[place % len(heads)]
    data[at] = value
    (tmp_path / "test_batch").write_bytes(data[:at] if cut else data)
    with contextlib.suppress(DataFileError):
        assert cifar10("test", tmp_path).images.shape[1:] == (3, 32, 32)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x02" + b"]" * 1_000_001, "more than 1000000 instructions"),
        (b"\x80\x02)" + b"\x86" * 500 + b")\x93.", "there is tuple where bytes belongs"),
        (b"\x80\x02}(" + b")" + b"Nu.", "there is tuple where bytes belongs"),
        (b"\x80\x02K\x07.", "must hold a dictionary, not int"),
        (b"\x80\x02}.", r"must hold `data` of shape \(n, 3072\) uint8"),
        (b"\x80\x02T\xff\xff\xff\x7f.", "cut short"),
        (b"\x80\x02T\xff\xff\xff\xff.", "cut short"),
        (b"\x80\x02c", "cut short|damaged"),
        (b"\x80\x02", "cut short"),
        (b"\x80\x02}(Ne.", "there is dict where list belongs"),
        (b"\x80\x02}(u.", "must hold `data`"),
        (b"\x80\x02R.", "damaged"),
        (new_pickle(range(3)).replace(b"K\x03M\x00\x0c", b"K\x03\x8a\x0a" + b"\x7f" * 10), "damaged"),
    ],
)
def test_pickles_that_hold_something_else(tmp_path, content, words):
    write_pickles(tmp_path, old_pickle)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(DataFileError, match=f"test_batch' .*({words})"):
        cifar10("test", tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    write(tmp_path)
    with open(tmp_path / "test_batch.bin", "r+b") as file:
        file.truncate(100_001 * 3073)  # takes no place on the disk
    with pytest.raises(DataFileError, match=r"test_batch\.bin' holds 307303073 bytes; it must hold at most 307300000"):
        cifar10("test", tmp_path)


def test_names_of_classes_come_from_the_file(tmp_path):
    names = [f"class {i}" for i in range(10)]
    write(tmp_path, meta="\n".join(names) + "\n\n")
    assert cifar10("test", tmp_path).classes == tuple(names)
    write(tmp_path, meta="cat\ndog\n")
    with pytest.raises(ValueError, match=r"batches\.meta\.txt' holds 2 names of classes; it must hold 10"):
        cifar10("test", tmp_path)


def test_the_environment_variable_comes_after_the_argument(tmp_path, monkeypatch):
    write(tmp_path / "a", meta="\n".join("abcdefghij"))
    write(tmp_path / "b")
    monkeypatch.setenv("NUMBACNN_DATA", str(tmp_path / "a"))
    assert cifar10("test").classes[0] == "a"
    assert cifar10("test", tmp_path / "b").classes == CLASSES


def test_missing_files_are_named_and_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_probe", None)
    folder = tmp_path / "data"
    with pytest.raises(FileNotFoundError, match=f"CIFAR-10: .*{re.escape(str(folder))}.*does not exist"):
        cifar10("train", folder)
    write(folder)
    (folder / TRAIN[3]).unlink()
    words = r"lacks data_batch_4\.bin \(or data_batch_4\); .*'cifar-10-batches-bin' or 'cifar-10-batches-py'"
    with pytest.raises(FileNotFoundError, match=words):
        cifar10("train", folder)
    assert len(cifar10("test", folder)) == PER_FILE


@pytest.mark.parametrize("size", [0, 1, 3072, 3 * 3073 - 1, 3 * 3073 + 1])
def test_a_file_that_is_cut_short(tmp_path, size):
    write(tmp_path)
    path = tmp_path / TRAIN[1]
    path.write_bytes((path.read_bytes() + b"0")[:size])
    with pytest.raises(ValueError, match=rf"data_batch_2\.bin' holds {size} bytes; it must .* records of 3073 bytes"):
        cifar10("train", tmp_path)


def test_a_label_out_of_range(tmp_path):
    write(tmp_path)
    path = tmp_path / "test_batch.bin"
    data = bytearray(path.read_bytes())
    data[3073] = 10
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"test_batch\.bin' holds the label 10 in record 1; labels must be in 0\.\.9"):
        cifar10("test", tmp_path)


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match="`split` 'valid' must be one of 'train', 'test'"):
        cifar10("valid", tmp_path)
    with pytest.raises(ValueError, match="`timeout` 0 must be above 0"):
        cifar10("test", timeout=0)


def unavailable(**arguments):
    with pytest.raises(DatasetUnavailable) as caught:
        cifar10("train", **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_network(tmp_path):
    message = unavailable()
    assert f"CIFAR-10 cannot be downloaded from {NOWHERE}" in message and "refused" in message
    assert not (tmp_path / "cache").exists()


def test_download_not_wanted(monkeypatch):
    monkeypatch.setattr(sources, "_probe", None)
    message = unavailable(download=False)
    assert ARCHIVE in message and "`download`" in message


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Functions that pack the archive and that serve it as it is, the requests, and the folder of the cache."""
    folder = tmp_path / "served"
    folder.mkdir()
    write(tmp_path / "files", meta="\n".join(CLASSES))
    files = sorted((tmp_path / "files").iterdir())
    sizes = {path.name: path.stat().st_size for path in files}

    def pack(instead=lambda tar, name: False):
        with tarfile.open(folder / ARCHIVE, "w:gz") as tar:
            for path in files:
                if not instead(tar, path.name):
                    tar.add(path, f"{FOLDER}/{path.name}")
        publish()

    def publish():
        change(monkeypatch, url=url, md5=md5_sums(folder), unpacked=sizes)

    with served(folder) as (url, asked):
        pack()
        yield pack, publish, asked, tmp_path / "cache" / "numbacnn" / FOLDER


def test_downloads_and_unpacks_once(server):
    _, _, asked, cache = server
    assert cifar10("train").labels.tolist() == [*range(10), *range(5)]
    assert [path for command, path in asked if command == "GET"] == [f"/{ARCHIVE}"]
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        [*TRAIN, "test_batch.bin", "batches.meta.txt", ARCHIVE]
    )
    asked.clear()
    (cache / ARCHIVE).unlink()  # it has done its work
    assert cifar10("test", download=False).labels.tolist() == [5, 6, 7]
    assert asked == []


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"short"), lambda path: path.unlink()])
def test_what_is_damaged_is_unpacked_again(server, damage):
    _, _, asked, cache = server
    cifar10("train")
    asked.clear()
    damage(cache / TRAIN[2])
    assert len(cifar10("train", download=False)) == 15
    assert asked == []
    damage(cache / TRAIN[2])
    (cache / ARCHIVE).write_bytes(b"damaged")
    assert "would have to be downloaded" in unavailable(download=False)
    assert len(cifar10("train")) == 15


def test_a_wrong_checksum(server, monkeypatch):
    _, _, _, cache = server
    change(monkeypatch, md5={ARCHIVE: "0" * 32})
    assert "hash" in unavailable()
    assert not list(cache.iterdir())


def test_an_archive_reaches_nothing_outside(server, tmp_path):
    pack, *_ = server
    (tmp_path / "secret").write_bytes(record(0))

    def evil(tar, name):
        """Links and a path to outside in the place of files, and files that nobody asked for."""
        if name == TRAIN[0]:
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                link = tarfile.TarInfo(f"{FOLDER}/{name}")
                link.type, link.linkname = kind, str(tmp_path / "secret")
                tar.addfile(link)
        elif name == TRAIN[1]:
            outside = tarfile.TarInfo(f"{FOLDER}/../../../{name}")
            outside.size = 3073
            tar.addfile(outside, io.BytesIO(record(0)))
        else:
            return False
        return True

    pack(evil)
    assert unavailable().endswith(f"lacks {FOLDER}/{TRAIN[0]} and {FOLDER}/{TRAIN[1]}")
    found = [path for name in TRAIN[:2] for path in tmp_path.rglob(name)]
    assert sorted(found) == sorted(tmp_path / "files" / name for name in TRAIN[:2])
    assert (tmp_path / "secret").read_bytes() == record(0)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00 and no more"])
def test_an_archive_that_is_none(server, tmp_path, content):
    _, publish, _, cache = server
    (tmp_path / "served" / ARCHIVE).write_bytes(content)
    publish()
    assert f"CIFAR-10: the archive {str(cache / ARCHIVE)!r} cannot be unpacked: " in unavailable()


def test_an_archive_that_is_cut_short(server, tmp_path):
    _, publish, _, _ = server
    path = tmp_path / "served" / ARCHIVE
    path.write_bytes(path.read_bytes()[:-200])
    publish()
    assert "cannot be unpacked: " in unavailable()


@pytest.mark.parametrize("size", [0, 1, PER_FILE * 3073 - 1, 1 << 30])
def test_an_archive_whose_files_have_another_size(server, size):
    pack, *_ = server

    def other(tar, name):
        if name == TRAIN[2]:
            claimed = tarfile.TarInfo(f"{FOLDER}/{name}")
            claimed.size = size
            tar.addfile(claimed, io.BytesIO(bytes(min(size, 1 << 16))) if size < 1 << 20 else None)
        return name == TRAIN[2]

    pack(other)
    assert f"{FOLDER}/{TRAIN[2]} has {size} bytes, it must have {PER_FILE * 3073}" in unavailable()


@pytest.mark.parametrize("behind", [False, True])
def test_an_archive_is_unpacked_no_further_than_its_files_take(server, tmp_path, monkeypatch, behind):
    pack, *_ = server
    name = "test_batch.bin"  # the last one

    def bomb(tar, added):
        if added == name:
            if behind:
                tar.add(tmp_path / "files" / name, f"{FOLDER}/{name}")
            zeros = tarfile.TarInfo("zeros")
            zeros.size = 1 << 24
            tar.addfile(zeros, io.BytesIO(bytes(zeros.size)))
        return behind and added == name

    pack(bomb)
    read, real = [], gzip.GzipFile.read

    def counted(self, size=-1):
        data = real(self, size)
        read.append(len(data))
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    if behind:
        assert len(cifar10("test")) == PER_FILE
    else:
        assert "holds more than" in unavailable()
    assert 0 < sum(read) < 1 << 21


def test_an_archive_with_a_bomb_for_a_head(server):
    pack, *_ = server

    def head(tar, name):
        """A member whose name takes 16 MiB."""
        if name == TRAIN[0]:
            long = tarfile.TarInfo("n")
            long.type, long.size = tarfile.GNUTYPE_LONGNAME, 1 << 24
            tar.addfile(long, io.BytesIO(bytes(long.size)))
        return False

    pack(head)
    assert "holds more than" in unavailable()
