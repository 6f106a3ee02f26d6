"""Fashion-MNIST and MNIST from folders, the cache and a server on this machine."""

from __future__ import annotations

import dataclasses
import gzip
import math
import os
import re
import socket
import struct
import sys
import threading

import numpy as np
import pytest

from numbacnn.data import DatasetUnavailable, IdxError, fashion_mnist, mnist, write_idx
from tests.served import NOWHERE, isolate, md5_sums, served

module, sources = (sys.modules[f"numbacnn.data.datasets.{name}"] for name in ("mnist", "sources"))
REAL = os.environ.get("NUMBACNN_DATA")
PREFIX = {"train": "train", "test": "t10k"}
READERS = pytest.mark.parametrize(("read", "name"), [(fashion_mnist, "fashion-mnist"), (mnist, "mnist")])


def names(split, suffix=".gz"):
    return [f"{PREFIX[split]}-images-idx3-ubyte{suffix}", f"{PREFIX[split]}-labels-idx1-ubyte{suffix}"]


def write(folder, split="train", n=5, suffix=".gz", images=None, labels=None):
    """A data set of ``n`` images that hold their own number."""
    folder.mkdir(parents=True, exist_ok=True)
    if images is None:
        images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 28, 28))
    if labels is None:
        labels = (np.arange(n) % 10).astype(np.uint8)
    for name, array in zip(names(split, suffix), (images, labels), strict=True):
        write_idx(folder / name, array)


@pytest.fixture(autouse=True)
def _neither_network_nor_cache(monkeypatch, tmp_path):
    isolate(monkeypatch, tmp_path / "cache")
    for source in ("_FASHION_MNIST", "_MNIST"):
        monkeypatch.setattr(module, source, dataclasses.replace(getattr(module, source), url=NOWHERE))


@READERS
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("below", [False, True])
def test_from_a_folder(tmp_path, read, name, split, suffix, below):
    write(tmp_path / name if below else tmp_path, split, 12, suffix)
    dataset = read(split, data_dir=str(tmp_path))
    assert dataset.images.shape == (12, 1, 28, 28) and dataset.images.dtype == np.uint8
    assert dataset.images[:, 0, 3, 4].tolist() == list(range(12))
    assert dataset.labels.tolist() == [*range(10), 0, 1]
    assert dataset.num_classes == 10 and dataset.name == f"{name} {split}"


@READERS
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_file_names_with_a_dot(tmp_path, read, name, suffix):
    write(tmp_path, "test", 6, suffix)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.replace("-idx", ".idx"))
    assert len(read("test", tmp_path)) == 6
    assert (tmp_path / f"t10k-images.idx3-ubyte{suffix}").is_file()


@pytest.mark.parametrize("place", ["MNIST/raw", "FashionMNIST/raw"])
def test_a_root_made_by_torchvision(tmp_path, place):
    write(tmp_path / "MNIST" / "raw", n=3, suffix="")
    write(tmp_path / "FashionMNIST" / "raw", n=4, suffix="")
    assert (len(mnist("train", tmp_path)), len(fashion_mnist("train", tmp_path))) == (3, 4)
    read, n = (mnist, 3) if place == "MNIST/raw" else (fashion_mnist, 4)
    assert len(read("train", tmp_path / place)) == len(read("train", (tmp_path / place).parent)) == n


@pytest.mark.parametrize("origin", ["`data_dir`", "NUMBACNN_DATA"])
def test_a_home_folder(tmp_path, monkeypatch, origin):
    write(tmp_path / "digits" / "mnist", n=3)
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("NUMBACNN_DATA", "~/digits" if origin == "NUMBACNN_DATA" else "~/nowhere")
    assert len(mnist("train", None if origin == "NUMBACNN_DATA" else "~/digits")) == 3


def test_claims_are_checked_before_any_data_are_read(tmp_path, monkeypatch):
    write(tmp_path)
    images, labels = (tmp_path / name for name in names("train"))

    def claim(path, *sizes):
        """As many zeros as a small file can hold, and a header that is true."""
        with gzip.open(path, "wb") as file:
            file.write(struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes))
            file.write(bytes(math.prod(sizes)))

    made, empty = [], np.empty
    monkeypatch.setattr(np, "empty", lambda shape, *rest: made.append(shape) or empty(shape, *rest))
    claim(images, 5000, 28, 28)
    with pytest.raises(IdxError, match=r"train-images.*\(5000, 28, 28\); there must be as many images .* 5$"):
        mnist("train", tmp_path)
    claim(labels, 1_000_001)
    with pytest.raises(IdxError, match=r"train-labels.*\(1000001,\); there must be at most 1000000 labels"):
        mnist("train", tmp_path)
    assert made == [(5,)]


def test_class_names(tmp_path):
    write(tmp_path)
    assert fashion_mnist("train", tmp_path).classes == (
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
    )  # fmt: skip
    assert mnist("train", tmp_path).classes == tuple("0123456789")


def test_the_sub_folder_comes_first(tmp_path):
    write(tmp_path, n=3)
    write(tmp_path / "mnist", n=4)
    assert len(mnist("train", tmp_path)) == 4
    assert len(fashion_mnist("train", tmp_path)) == 3


def test_the_environment_variable_comes_after_the_argument(tmp_path, monkeypatch):
    write(tmp_path / "a", n=3)
    write(tmp_path / "b", n=4)
    monkeypatch.setenv("NUMBACNN_DATA", str(tmp_path / "a"))
    assert len(mnist("train")) == 3
    assert len(mnist("train", tmp_path / "b")) == 4


@READERS
@pytest.mark.parametrize("origin", ["`data_dir`", "NUMBACNN_DATA"])
def test_missing_files_are_named_and_not_downloaded(tmp_path, monkeypatch, read, name, origin):
    def no_download(*_):
        raise AssertionError("a folder was given")

    monkeypatch.setattr(sources, "_probe", no_download)
    folder = tmp_path / "data"
    if origin == "NUMBACNN_DATA":
        monkeypatch.setenv("NUMBACNN_DATA", str(folder))
    arguments = ("test", folder) if origin == "`data_dir`" else ("test",)
    images, labels = names("test")

    with pytest.raises(FileNotFoundError, match=f"{re.escape(str(folder))}.*{origin} does not exist"):
        read(*arguments)
    write(folder / name, "train")
    with pytest.raises(FileNotFoundError, match=f"{re.escape(str(folder))}.*{origin} lacks {images} and {labels}"):
        read(*arguments)
    write(folder / name, "test")
    (folder / name / images).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {images} ") as caught:
        read(*arguments)
    assert labels not in str(caught.value)
    # Images and labels out of two folders may be of two data sets.
    (folder / images).touch()
    with pytest.raises(FileNotFoundError, match="lacks"):
        read(*arguments)


def test_swapped_files(tmp_path):
    write(tmp_path)
    images, labels = (tmp_path / name for name in names("train"))
    images.rename(tmp_path / "x")
    labels.rename(images)
    (tmp_path / "x").rename(labels)
    with pytest.raises(IdxError, match=r"train-labels.*uint8 of shape \(5, 28, 28\); labels must be"):
        fashion_mnist("train", tmp_path)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((5, 28, 27), np.uint8)}, r"train-images.*\(5, 28, 27\); images must be"),
        ({"images": np.zeros((5, 1, 28, 28), np.uint8)}, r"train-images.*\(5, 1, 28, 28\); images must be"),
        ({"images": np.zeros((5, 28, 28), np.int32)}, "train-images.*int32.*; images must be uint8"),
        ({"labels": np.zeros((5, 1), np.uint8)}, r"train-labels.*\(5, 1\); labels must be"),
        ({"labels": np.zeros(5, np.float32)}, "train-labels.*float32.*; labels must be uint8"),
        ({"labels": np.zeros(4, np.uint8)}, r"train-images.*\(5, 28, 28\); there must be as many images .* 4"),
        ({"labels": np.array([0, 1, 10, 2, 3], np.uint8)}, r"train-labels.*label 10; labels must be in 0\.\.9"),
    ],
)
def test_files_that_are_not_what_their_name_says(tmp_path, arrays, words):
    write(tmp_path, **arrays)
    with pytest.raises(IdxError, match=words):
        mnist("train", tmp_path)


def test_a_damaged_file(tmp_path):
    write(tmp_path)
    path = tmp_path / names("train")[0]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(IdxError, match=r"train-images.*gzip"):
        mnist("train", tmp_path)


@READERS
def test_arguments(read, name, tmp_path):
    with pytest.raises(ValueError, match="`split` 'valid' must be one of 'train', 'test'"):
        read("valid", tmp_path)
    for timeout in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="`timeout`"):
            read("train", timeout=timeout)


def unavailable(read=fashion_mnist, **arguments):
    with pytest.raises(DatasetUnavailable) as caught:
        read("train", **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@READERS
def test_no_network(read, name, tmp_path):
    message = unavailable(read)
    assert f"cannot be downloaded from {NOWHERE}" in message and "refused" in message
    assert not (tmp_path / "cache").exists()


def test_a_server_that_never_answers(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        serve_at(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}/")
        message = unavailable(timeout=0.2)
    assert "timed out" in message or "no answer within 0.2 s" in message


def test_a_name_that_is_never_resolved(monkeypatch):
    asleep = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asleep.wait(60))
    try:
        assert "no answer within 0.1 s" in unavailable(timeout=0.1)
    finally:
        asleep.set()
        for thread in threading.enumerate():
            if thread.name == "numbacnn-probe":
                thread.join(60)


def test_download_not_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_probe", None)
    message = unavailable(download=False)
    assert "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz" in message and "`download`" in message


def test_without_pooch(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert 'pip install "numbacnn[data]"' in unavailable()


def serve_at(monkeypatch, url, **others):
    monkeypatch.setattr(module, "_FASHION_MNIST", dataclasses.replace(module._FASHION_MNIST, url=url, **others))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that is served over HTTP, and the paths that were asked for."""
    folder = tmp_path / "served"
    write(folder, n=6)
    with served(folder) as (url, asked):
        serve_at(monkeypatch, url, md5=md5_sums(folder))
        yield folder, asked


def test_downloads_once(server, tmp_path):
    _, asked = server
    assert fashion_mnist("train").labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert {path for command, path in asked if command == "GET"} == {f"/{name}" for name in names("train")}
    assert sorted(path.name for path in (tmp_path / "cache" / "numbacnn" / "fashion-mnist").iterdir()) == names("train")
    asked.clear()
    assert len(fashion_mnist("train", download=False)) == 6
    assert asked == []


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    fashion_mnist("train")
    path = tmp_path / "cache" / "numbacnn" / "fashion-mnist" / names("train")[1]
    path.write_bytes(b"damaged")
    assert len(fashion_mnist("train")) == 6


def test_a_wrong_checksum(server, monkeypatch, tmp_path):
    folder, _ = server
    write(folder, n=7)
    assert "hash" in unavailable()
    assert not list((tmp_path / "cache").rglob("*.gz"))


def test_a_server_without_the_file(server):
    folder, _ = server
    (folder / names("train")[0]).unlink()
    assert "404" in unavailable()


def test_the_real_fashion_mnist():
    if not REAL:
        pytest.skip("NUMBACNN_DATA is not set")
    for split, count in (("train", 60000), ("test", 10000)):
        dataset = fashion_mnist(split, REAL)
        assert len(dataset) == count
        assert np.bincount(dataset.labels).tolist() == [count // 10] * 10
