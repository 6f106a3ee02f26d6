"""The folders that compiled kernels are kept in: private, whole, and gone when nobody uses them."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import pytest
from numba.core import config

from numbacnn.backends import disk_cache

posix_only = pytest.mark.skipif(os.name != "posix", reason="the rights of POSIX")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one file; the root of the cache is ``root`` beside it."""
    monkeypatch.setattr(disk_cache, "_folder", disk_cache._folder.__wrapped__)  # which remembers
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "root"))
    disk_cache._warn.cache_clear()
    package = tmp_path / "package"
    package.mkdir()
    (package / "kernels.py").write_text("1")
    return package


def folder_of(package: Path) -> Path | None:
    return disk_cache.kernel_folder("kernels", (package,), "1.0")


def found(package: Path) -> Path:
    folder = folder_of(package)
    assert folder is not None
    return folder


@posix_only
def test_what_is_made_is_the_users_own(package: Path) -> None:
    former = os.umask(0)
    try:
        folder = found(package)
    finally:
        os.umask(former)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert found(package) == folder


@posix_only
@pytest.mark.parametrize("which", ["folder", "root", "above"])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_where_others_may_write_nothing_is_kept(
    package: Path, which: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(package.parent / "above" / "root"))
    folder = found(package)
    where = {"folder": folder, "root": folder.parent, "above": folder.parent.parent}[which]
    where.chmod(mode)
    if mode == 0o720 and which != "folder":
        monkeypatch.setattr(disk_cache, "_is_own_group", lambda group: False)
    with pytest.warns(RuntimeWarning, match=f"others may write to {where}"):
        assert folder_of(package) is None
    assert folder_of(package) is None  # and is not told twice
    where.chmod(0o700)
    assert folder_of(package) == folder


@posix_only
def test_a_sticky_folder_above_is_as_good_as_a_private_one(package: Path) -> None:
    folder = found(package)
    folder.parent.chmod(0o1777)
    assert folder_of(package) == folder


@posix_only
@pytest.mark.parametrize("which", ["folder", "root"])
def test_folders_of_others_are_refused(package: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = found(package) if which == "folder" else found(package).parent
    stat = Path.stat

    def owned_by_another(path: Path, **options: bool) -> os.stat_result:
        status = stat(path, **options)
        other = (*status[:4], 12345, *status[5:10])
        return os.stat_result(other) if path == where else status

    monkeypatch.setattr(Path, "stat", owned_by_another)
    monkeypatch.setattr(Path, "lstat", lambda path: owned_by_another(path, follow_symlinks=False))
    with pytest.warns(RuntimeWarning, match=f"{where} belongs to another user"):
        assert folder_of(package) is None


@posix_only
def test_a_link_in_place_of_the_folder_is_refused(package: Path, tmp_path: Path) -> None:
    folder = found(package)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(RuntimeWarning, match="is no folder of its own"):
        assert folder_of(package) is None


def test_a_change_in_any_folder_of_the_package_has_another_folder(package: Path) -> None:
    inner = package / "room" / "inner"
    inner.mkdir(parents=True)
    names = {found(package)}
    for path in (package / "kernels.py", package / "room" / "more.py", inner / "most.py", inner / "code.pyc"):
        for text in ("1", "2"):
            path.write_text(path.name + text)
            names.add(found(package))
    assert len(names) == 9
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "kernels.pyc").write_text("")
    assert found(package) in names


def test_an_archive_in_place_of_the_package_tells_by_its_date(tmp_path: Path, package: Path) -> None:
    archive = tmp_path / "program.zip"
    archive.write_text("")
    names = set()
    for second in (1, 2):
        os.utime(archive, (second, second))
        names.add(found(archive / "numbacnn"))
    assert len(names) == 2


def test_folders_that_nobody_used_for_long_are_removed(package: Path) -> None:
    folder = found(package)
    old, new, tuned, foreign = (
        folder.parent / name
        for name in ("kernels-0123456789abcdef", "cuda-0123456789abcdef", "tuned-0123456789abcdef", "kernels-of-mine")
    )
    left = folder.parent / ".kernels-0123456789abcde0.17"
    long_ago = time.time() - disk_cache.STALE_SECONDS - 60
    for each in (old, new, tuned, foreign, left):
        each.mkdir()
        (each / "file").write_text("")
        if each != new:
            os.utime(each, (long_ago, long_ago))
    os.utime(folder, (long_ago, long_ago))
    assert found(package) == folder
    assert sorted(os.listdir(folder.parent)) == sorted([folder.name, new.name, foreign.name])
    assert time.time() - folder.stat().st_mtime < disk_cache.STALE_SECONDS / 2


def test_only_whole_files_are_read(tmp_path: Path) -> None:
    path, data = tmp_path / "file", pickle.dumps(list(range(100)))
    assert disk_cache.read(path) is None
    disk_cache.write(path, data)
    assert disk_cache.read(path) == data
    assert os.listdir(tmp_path) == ["file"]
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert disk_cache.read(path) is None
        path.write_bytes(whole[:at])
        assert disk_cache.read(path) is None


def test_what_cannot_be_written_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*names: object) -> None:
        raise OSError(28, "No space left on device")

    disk_cache.write(tmp_path / "nowhere" / "file", b"data")
    monkeypatch.setattr(os, "replace", full)
    disk_cache.write(tmp_path / "file", b"data")
    assert not os.listdir(tmp_path)
