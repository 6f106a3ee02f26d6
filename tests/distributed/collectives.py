"""What processes say to each other: ``python -m tests.distributed.collectives``, which prints "well" if all is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import backends, distributed, nn
from numbacnn.backends import Backend
from numbacnn.distributed import exchange
from numbacnn.sharding import own_nodes, own_shards, sum_of_nodes


def array_of(node: tuple[int, int], n: int, dtype: Any) -> Any:
    """Numbers of all sizes, whose sum depends on the order."""
    rng = np.random.default_rng([*node, n])
    return (rng.standard_normal(n) * 10.0 ** rng.integers(-6, 6, n)).astype(dtype)


def check_sums(rank: int, size: int, backend: Backend, sum_nodes: Callable[..., None]) -> None:
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
            sum_nodes(backend, nodes, layout, shards, out)
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


def main() -> None:
    """Check everything."""
    group, backend = distributed.init(), backends.get("reference")
    assert distributed.init() is group
    exchange.OverMpi.piece_bytes = 256
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
    check_sums(group.rank, group.size, backend, group.sum_nodes)
    check_gradients(group, backend)
    assert group.transport == (None if group.size == 1 else "mpi")
    group.barrier()
    assert 0 <= group.local_rank < group.size and not group.first_has_ended(within=0)
    assert sorted(group.gather_metrics(group.local_rank)) == [*range(group.size)]  # of one machine
    if group.rank == 0:
        print("well")


if __name__ == "__main__":
    sys.exit(main())
