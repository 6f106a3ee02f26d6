"""What processes say to each other: ``python -m tests.distributed.collectives``, which prints "well" if all is."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import backends, data, distributed, nn
from numbacnn.backends import Backend
from numbacnn.sharding import WholeArray, own_nodes, own_shards, sum_of_nodes


def array_of(node: tuple[int, int], n: int, dtype: Any) -> Any:
    """Numbers of all sizes, whose sum depends on the order."""
    rng = np.random.default_rng([*node, n])
    return (rng.standard_normal(n) * 10.0 ** rng.integers(-6, 6, n)).astype(dtype)


def check_sums(rank: int, size: int, backend: Backend, sum_pieces: Callable[..., None]) -> None:
    """Of arrays that are sent in many pieces, of which some are shorter than there are processes."""
    for shards, samples, n, dtype in ((8, 8, 1000, np.float32), (5, 3, 257, np.float64), (13, 90, 1, np.float32)):
        if shards < size:
            continue
        layout = [own_nodes(shards, own_shards(shards, each, size), samples) for each in range(size)]
        expected = sum_of_nodes(
            {node: array_of(node, n, dtype) for own in layout for node in own}, shards, lambda left, right: left + right
        )
        nodes = {node: backend.asarray(array_of(node, n, dtype)) for node in layout[rank]}
        outs = [backend.empty((n,), dtype), *nodes.values()]  # the last of which is one of those that are sent
        for out in (outs[0], outs[-1]):
            sum_pieces(WholeArray(backend, nodes, out, 256), layout, shards)
            np.testing.assert_array_equal(backend.to_numpy(out), expected)


def check_gradients(group: distributed.Group, backend: Backend) -> None:
    """Those of frozen parameters stay."""
    with nc.use_backend(backend.name):
        parameters = [nn.Linear(3, 2, dtype=dtype).weight for dtype in (np.float32, np.float64, np.float32)]
    for i, parameter in enumerate(parameters):
        parameter.grad = backend.asarray(array_of((group.rank, i), 6, parameter.dtype).reshape(2, 3))
    parameters[2].requires_grad = False
    group.sum_gradients(parameters)
    for i, parameter in enumerate(parameters):
        every = [array_of((rank, i), 6, parameter.dtype).reshape(2, 3) for rank in range(group.size)]
        if i == 2:
            expected = every[group.rank]
        else:
            found = {(rank, rank + 1): one for rank, one in enumerate(every)}
            expected = sum_of_nodes(found, group.size, lambda left, right: left + right)
        np.testing.assert_array_equal(backend.to_numpy(parameter.grad), expected)


def mapping_of(array: Any) -> str:
    """What the memory of an array is a part of, by its device and inode: none, "00:00 0", for memory of one process."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, _, _, device, inode, *_ = line.split()
        begin, end = (int(bound, 16) for bound in bounds.split("-"))
        if begin <= address < end:
            return f"{device} {inode}"
    raise AssertionError(f"{address} is in no mapping")


def descriptors() -> str:
    """What files this process has open."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the folder
            found.append(os.readlink(path))
    return " ".join(found)


def check_shared(group: distributed.Group, is_common: bool) -> None:
    """A data set that one process of the machine makes, and all have, or each makes where they share no memory."""
    calls: list[int] = []

    def function() -> list[Any]:
        calls.append(group.rank)
        images = array_of((0, 1), 30 * 9, np.float32).reshape(30, 1, 3, 3)
        dataset = data.ArrayDataset(images, np.arange(30) % 3, ["cat", "dog", "bird"], "pets")
        part = data.Subset(dataset, np.arange(29, 0, -2))
        scattered = np.arange(24, dtype=np.uint16).reshape(4, 6)[:, ::2]
        return [dataset, part, scattered, np.zeros((0, 3)), np.float64(0.5), {"a": None}]

    shared = group.share(function)
    every = group.gather_metrics(calls)
    assert every == [[rank] if rank == 0 or not is_common else [] for rank in range(group.size)]
    dataset, part, scattered = shared[:3]
    own = function()
    assert repr(shared) == repr(own) and part.dataset is dataset
    np.testing.assert_array_equal(dataset.images, own[0].images)
    arrays = [dataset.images, dataset.labels, part.indices, scattered]
    assert all(array.flags.aligned and array.flags.writeable for array in arrays)
    if is_common:
        (mapping,) = {one for found in group.gather_metrics([*map(mapping_of, arrays)]) for one in found}
        assert mapping != "00:00 0"
        dataset.images[:] = group.rank
        group.barrier()
        assert (dataset.images == group.rank).all()
        del shared, dataset, part, scattered, arrays
        gc.collect()
        assert f" {mapping} " not in Path("/proc/self/maps").read_text()
        assert "numbacnn-" not in descriptors()


class Odd(Exception):  # noqa: N818  it is none of ours
    """An error that cannot be made anew of its words."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def check_errors(group: distributed.Group) -> None:
    """They come to all processes, with their type and words."""
    with pytest.raises(FileNotFoundError, match="the folder '/nowhere' from `data_dir` does not exist"):
        group.share(lambda: data.mnist("train", data_dir="/nowhere"))
    with pytest.raises(Odd if group.rank == 0 else RuntimeError, match="this is why"):
        group.share(lambda: (_ for _ in ()).throw(Odd("this is", "why")))
    if group.size > 1:
        with pytest.raises(TypeError, match="`function` must return what can be pickled: "):
            group.share(lambda: lambda: None)
    assert group.share(lambda: "well") == "well"


def main() -> None:
    """Check everything."""
    group, backend = distributed.init(), backends.get("reference")
    assert distributed.init() is group
    last = group.size - 1
    for value in (None, {"array": np.arange(5), "text": "ä" * 100_000}):
        for root in (0, last):
            found = group.broadcast(value if group.rank == root else "others", root)
            assert repr(found) == repr(value)
    ranks = group.gather_metrics({"rank": group.rank, "long": "x" * 10 ** (group.rank % 4)})
    assert [one["rank"] for one in ranks] == [*range(group.size)]
    assert [len(one["long"]) for one in ranks] == [10 ** (rank % 4) for rank in range(group.size)]
    with pytest.raises(ValueError, match=f"`root` {group.size} "):
        group.broadcast(0, group.size)
    check_sums(group.rank, group.size, backend, group.sum_pieces)
    check_gradients(group, backend)
    assert group.transport == (None if group.size == 1 else "mpi")
    check_shared(group, is_common=group.size > 1 and hasattr(os, "memfd_create"))
    check_errors(group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "readlink", lambda path: "/memfd:another (deleted)")  # as in containers of their own
        check_shared(group, is_common=False)
        patch.delattr(os, "memfd_create", raising=False)
        check_shared(group, is_common=False)
    group.barrier()
    assert 0 <= group.local_rank < group.size and not group.first_has_ended(within=0)
    assert sorted(group.gather_metrics(group.local_rank)) == [*range(group.size)]  # of one machine
    if group.rank == 0:
        print("well")


if __name__ == "__main__":
    sys.exit(main())
