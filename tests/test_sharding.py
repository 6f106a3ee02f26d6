"""Where batches are cut, who has which shards, and that sums are those of one tree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from numbacnn.sharding import Alone, add_up, own_nodes, own_shards, shard_of, sum_of_nodes


def joined(left: str, right: str) -> str:
    return f"({left}{right})"


@given(samples=st.integers(0, 40), shards=st.integers(1, 20), data=st.data())
def test_any_number_of_processes_forms_the_sum_of_one(samples: int, shards: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, shards))
    cuts = [shard_of(samples, shards, number) for number in range(shards)]

    def shard(number: int) -> str | None:
        return f"{number}," if cuts[number].stop > cuts[number].start else None

    found, computed = {}, []
    for rank in range(size):
        own = own_shards(shards, rank, size)
        computed += own
        nodes = own_nodes(shards, own, samples)
        found |= {node: add_up(node, shard, joined) for node in nodes}
        assert len(nodes) <= 2 * max(1, len(own).bit_length())
    assert computed == [*range(shards)] and None not in found.values()
    assert sum_of_nodes(found, shards, joined) == add_up((0, shards), shard, joined)


@given(samples=st.integers(0, 100), shards=st.integers(1, 20))
def test_each_sample_is_in_one_shard_and_shards_are_alike(samples: int, shards: int) -> None:
    cuts = [shard_of(samples, shards, number) for number in range(shards)]
    assert [i for cut in cuts for i in range(samples)[cut]] == [*range(samples)]
    lengths = {cut.stop - cut.start for cut in cuts}
    assert max(lengths) - min(lengths) <= 1


def test_the_tree_is_balanced() -> None:
    assert add_up((0, 8), str, joined) == "(((01)(23))((45)(67)))"
    assert add_up((0, 6), str, joined) == "(((01)(23))(45))"
    assert own_nodes(8, range(1, 8), 8) == [(1, 2), (2, 4), (4, 8)]


def test_a_process_alone_has_what_it_gives() -> None:
    value = object()
    assert Alone().broadcast(value) is value and Alone().gather_metrics(value) == [value]
