"""What one process of a machine has made, in the memory of all of them, with one copy of its arrays."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import secrets
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from .endings import of_another

if TYPE_CHECKING:
    from .group import Group

__all__ = ["share"]

_T = TypeVar("_T")

ALIGNMENT = 64
"""Of arrays in the file, in bytes: a cache line, and what the widest instructions ask for."""


class _Place(NamedTuple):
    """Where a value lies: in a file of memory, which has no name and is gone with those who have it open."""

    path: str
    """By which others open it while the process that made it has it open."""
    link: str
    """What the path leads to, if it is that file: processes that do not see each other find another there, or none."""
    spans: list[tuple[int, int]]
    """Of the bytes in the file: the pickle's, and those of each array."""


class _Made(NamedTuple):
    """What the first process of a machine has: the value, or the file that it lies in."""

    value: Any
    file: IO[bytes] | None
    place: _Place | None


class _Pickler(pickle.Pickler):
    """Leaves the elements of arrays out of the pickle, also of those that lie scattered in memory."""

    def reducer_override(self, value: Any) -> Any:
        """How a value is taken apart, if otherwise than as ever."""
        if type(value) is np.ndarray and not (value.flags.c_contiguous or value.flags.f_contiguous):
            return np.ascontiguousarray(value).__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return NotImplemented


def share(group: Group, first: int, function: Callable[[], _T]) -> _T:
    """What ``function`` returns, for `Group.share`; ``first`` is the rank of the first process of this machine."""
    made = _made_by_first(group, first, function)
    place = group.gather_metrics(made and made.place)[first]
    file = made.file if made is not None else place and _opened(place)
    group.barrier()  # what all have opened may be closed
    if file is None or place is None:
        return function() if made is None else made.value
    with file:
        return _loaded(file, place.spans)


def _made_by_first(group: Group, first: int, function: Callable[[], Any]) -> _Made | None:
    """What the first process of this machine has made, in it; an error of any is raised in all."""
    made = None
    # The very first one goes ahead, and the others find what it has downloaded.
    for is_turn in (group.rank == 0, group.rank == first != 0):
        error = None
        if is_turn:
            try:
                made = _kept(function())
            except Exception as raised:
                error = raised
        errors = group.gather_metrics(None if error is None else _sendable(error))
        if error is not None:
            raise error
        for other in errors:
            if other is not None:
                raise of_another(other)
    return made


def _sendable(error: Exception) -> Exception:
    """The error, or one with its words where it cannot be pickled."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does
        return RuntimeError(f"{type(error).__name__}: {error}")


def _kept(value: Any) -> _Made:
    """The value in a file of memory, where the system has such files, as Linux has."""
    arrays: list[pickle.PickleBuffer] = []
    rest = io.BytesIO()
    try:
        _Pickler(rest, pickle.HIGHEST_PROTOCOL, buffer_callback=arrays.append).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise TypeError(f"`function` must return what can be pickled: {error}") from error
    name = f"numbacnn-{secrets.token_hex(8)}"
    try:
        descriptor = os.memfd_create(name)
    except (AttributeError, OSError):
        return _Made(value, None, None)
    file = os.fdopen(descriptor, "w+b")
    spans = []
    for part in (rest.getbuffer(), *(array.raw() for array in arrays)):
        start = file.seek(-(-file.tell() // ALIGNMENT) * ALIGNMENT)
        file.write(part)
        spans.append((start, start + part.nbytes))
    file.flush()
    return _Made(None, file, _Place(f"/proc/{os.getpid()}/fd/{descriptor}", f"/memfd:{name} (deleted)", spans))


def _opened(place: _Place) -> IO[bytes] | None:
    """The file, or None where it cannot be reached, as in a container of its own."""
    try:
        return open(place.path, "rb") if os.readlink(place.path) == place.link else None
    except OSError:
        return None


def _loaded(file: IO[bytes], spans: list[tuple[int, int]]) -> Any:
    """The value, with arrays in the file's memory, of which a process that changes them gets copies."""
    memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    rest, *arrays = (memory[start:stop] for start, stop in spans)
    return pickle.loads(rest, buffers=arrays)
