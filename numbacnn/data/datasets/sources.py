"""Where the files of a data set are found: in a folder, in the user's cache, or on the network."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from ...files import user_path
from ...io import replacing

__all__ = ["DatasetUnavailable", "Source", "find_files"]


_TAR_ROOM = 1 << 20
"""Bytes that an archive may hold besides the files that are wanted: heads, padding, a text about them."""


class DatasetUnavailable(RuntimeError):  # noqa: N818  what is wrong is the situation, not the program
    """A data set that is neither on this machine nor can be downloaded; the message says why in one line."""


@dataclass(frozen=True)
class Source:
    """A data set's files, and the server that has them."""

    title: str
    folder: str
    """Name of the sub-folder that the files may be in, and of their folder in the cache."""
    url: str
    """What the names of downloads are appended to."""
    classes: tuple[str, ...]
    md5: Mapping[str, str]
    """Of each file that is downloaded: the data set's files themselves or one .tar.gz archive that holds them."""
    unpacked: Mapping[str, int] = field(default_factory=dict)
    """Sizes in bytes of the files that are taken out of ``folder`` in the archive."""
    places: tuple[str, ...] = ()
    """More sub-folders that the files may be in, as other programs make them."""
    spellings: Callable[[str], Sequence[str]] = lambda name: (name,)
    """How a file may be called in a folder that is given, best first."""


def find_files(
    source: Source, names: Sequence[str], data_dir: str | os.PathLike[str] | None, download: bool, timeout: float
) -> list[Path]:
    """The paths of the files called ``names``, all in one folder.

    In a folder that is given, a file may have any of the ``spellings`` of ``source``.

    Args:
        source: the data set.
        names: of the files that are needed.
        data_dir: the folder that holds them, directly or in one of the sub-folders of ``source``, which come first;
            ``~`` is the home folder. If None, the folder in the environment variable ``NUMBACNN_DATA``. If that is not
            set either, the user's cache.
        download: whether files that the cache lacks may be downloaded into it.
        timeout: seconds to wait for the server to answer, above 0.

    Raises:
        ValueError: ``timeout`` is not above 0.
        FileNotFoundError: the folder that is given does not hold the files.
        DatasetUnavailable: no folder is given and the files are not in the cache and cannot be downloaded.
    """
    if not timeout > 0:
        raise ValueError(f"`timeout` {timeout} must be above 0 seconds")
    if data_dir is not None:
        return _in_folder(source, names, user_path(data_dir), "`data_dir`")
    if folder := os.environ.get("NUMBACNN_DATA"):
        return _in_folder(source, names, user_path(folder), "the environment variable NUMBACNN_DATA")
    return _in_cache(source, names, download, timeout)


def _in_folder(source: Source, names: Sequence[str], folder: Path, origin: str) -> list[Path]:
    """The files in a sub-folder or else in the folder itself; all from one place, as they belong together."""
    missing = list(names)
    below = (source.folder, *source.places)
    for place in (*(folder / name for name in below), folder):
        spelled = {name: [place / spelling for spelling in source.spellings(name)] for name in names}
        found = {name: next((path for path in paths if path.is_file()), None) for name, paths in spelled.items()}
        if all(found.values()):
            return [path for path in found.values() if path is not None]
        missing = min(missing, [name for name in names if found[name] is None], key=len)
    _, *others = source.spellings(missing[0])
    either = f" (or {', '.join(others)})" if others else ""
    what = f"lacks {' and '.join(missing)}{either}" if folder.is_dir() else "does not exist"
    raise FileNotFoundError(
        f"{source.title}: the folder {str(folder)!r} from {origin} {what}; "
        f"the files must be in it or in its sub-folder {' or '.join(map(repr, below))}"
    )


def _in_cache(source: Source, names: Sequence[str], download: bool, timeout: float) -> list[Path]:
    """The files in the user's cache, downloaded and unpacked if need be."""
    try:
        import pooch
    except ImportError as error:
        raise DatasetUnavailable(
            f"{source.title} is looked for in a cache kept by pooch, which is not installed: "
            'pip install "numbacnn[data]", or name a folder by `data_dir` or NUMBACNN_DATA'
        ) from error
    cache = Path(pooch.os_cache("numbacnn")) / source.folder

    def whole(name: str) -> bool:
        path = cache / name
        if not path.is_file():
            return False
        if name in source.unpacked:
            return path.stat().st_size == source.unpacked[name]
        return pooch.file_hash(path, alg="md5") == source.md5[name]

    paths = [cache / name for name in names]
    if all(whole(name) for name in names):
        return paths
    wanted = [name for name in (source.md5 if source.unpacked else names) if not whole(name)]
    if wanted and not download:
        raise DatasetUnavailable(
            f"{source.title} is not in the cache {str(cache)!r}: "
            f"{' and '.join(wanted)} would have to be downloaded, and `download` is False"
        )
    if wanted:
        _download(source, wanted, cache, timeout)
    if source.unpacked:
        (archive,) = source.md5
        _unpack(source, cache / archive)
    return paths


def _download(source: Source, names: Sequence[str], cache: Path, timeout: float) -> None:
    import pooch

    failure = _probe(source.url + names[0], timeout)
    downloader = pooch.HTTPDownloader(progressbar=False, timeout=timeout)
    for name in names:
        if failure is not None:
            break
        try:
            pooch.retrieve(source.url + name, f"md5:{source.md5[name]}", name, cache, downloader=downloader)
        except (OSError, ValueError) as error:  # from the network, the disk, or the checksum
            failure = error
    if failure is not None:
        raise DatasetUnavailable(
            f"{source.title} cannot be downloaded from {source.url}: {_reason(failure)}"
        ) from failure


def _probe(url: str, timeout: float) -> Exception | None:
    """Ask the server for the head of a file; why there is no answer, or None."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            urlopen(Request(url, method="HEAD"), timeout=timeout).close()
        except Exception as error:  # bad answers have many types
            if isinstance(error, HTTPError):
                error.close()
            reason = getattr(error, "reason", None)
            outcome.append(reason if isinstance(reason, Exception) else error)
        else:
            outcome.append(None)

    # Looking up a name has no time limit of its own, so it may have to be left behind.
    thread = threading.Thread(target=ask, name="numbacnn-probe", daemon=True)
    thread.start()
    thread.join(timeout)
    return outcome[0] if outcome else TimeoutError(f"no answer within {timeout:g} s")


def _unpack(source: Source, archive: Path) -> None:
    """Write the files that are wanted out of ``archive`` beside it.

    Only regular files of the expected names and sizes are read, and the places that they are written to do not come
    from the archive, so that nothing in it reaches outside the folder. Nothing is unpacked behind the last of them, nor
    more than they take.
    """
    import gzip
    import shutil
    import tarfile
    import zlib

    missing = {f"{source.folder}/{name}": archive.parent / name for name in source.unpacked}
    most = sum(source.unpacked.values()) + _TAR_ROOM
    try:
        with (
            gzip.open(archive) as unpacked,
            tarfile.open(fileobj=_Bounded(unpacked, most), mode="r|") as tar,
        ):
            for member in tar:
                if not member.isfile() or member.name not in missing:
                    continue
                path = missing.pop(member.name)
                if member.size != source.unpacked[path.name]:
                    raise tarfile.ReadError(
                        f"{member.name} has {member.size} bytes, it must have {source.unpacked[path.name]}"
                    )
                content = cast(IO[bytes], tar.extractfile(member))  # None only for what is no file
                with replacing(path) as temporary, open(temporary, "wb") as file:
                    shutil.copyfileobj(content, file)
                if not missing:
                    return
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DatasetUnavailable(
            f"{source.title}: the archive {str(archive)!r} cannot be unpacked: {_reason(error)}"
        ) from error
    raise DatasetUnavailable(f"{source.title}: the archive {str(archive)!r} lacks {' and '.join(missing)}")


class _Bounded(io.RawIOBase):
    """What can be read of a stream until it has given ``most`` bytes; more is an OSError."""

    def __init__(self, stream: io.BufferedIOBase, most: int) -> None:
        self._stream, self._left, self._most = stream, most, most

    def read(self, count: int = -1) -> bytes:
        """At most ``count`` bytes, none at the end."""
        data = self._stream.read(self._left + 1 if count < 0 else min(count, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"it holds more than {self._most} bytes, which is all that the files in it may take")
        return data


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
