"""What the names and sources of a graph's nodes say by themselves: their order, and the last use of each value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Plan", "Source", "checked_inputs", "checked_source", "value_of"]


class Source(NamedTuple):
    """Where a value comes from: an input or a node, and of a node with several outputs which one."""

    name: str
    output: int | None = None

    def __str__(self) -> str:
        return self.name if self.output is None else f"{self.name}[{self.output}]"


class Plan(NamedTuple):
    """What follows from names and sources alone."""

    order: tuple[str, ...]
    last_uses: dict[str, tuple[str, ...]]
    """The values that nobody needs after a node."""
    only_use: dict[str, str]
    """The node that alone uses what another gives, which is not returned either."""
    returned: frozenset[str]

    @classmethod
    def of(
        cls, inputs: tuple[str, ...], outputs: tuple[Source, ...], sources: Mapping[str, tuple[Source, ...]]
    ) -> Plan:
        order = _order(inputs, sources)
        returned = frozenset(source.name for source in outputs)
        uses: dict[str, list[str]] = {name: [] for name in (*inputs, *order)}
        for name in order:
            for source in sources[name]:
                uses[source.name].append(name)
        unused = [name for name in inputs if not uses[name]]
        if unused:
            raise ValueError(f"`inputs` {', '.join(map(repr, unused))}: no node uses them")
        idle = [name for name in order if not uses[name] and name not in returned]
        if idle:
            raise ValueError(f"node {idle[0]!r} leads to no output: `outputs` are {', '.join(map(str, outputs))}")
        last: dict[str, list[str]] = {name: [] for name in order}
        for name, users in uses.items():
            if name not in returned:
                last[users[-1]].append(name)
        only = {name: users[0] for name, users in uses.items() if len(users) == 1 and name not in returned}
        return cls(
            order,
            {name: tuple(gone) for name, gone in last.items()},
            {name: user for name, user in only.items() if name not in inputs},
            returned,
        )


def _order(inputs: tuple[str, ...], sources: Mapping[str, tuple[Source, ...]]) -> tuple[str, ...]:
    """The nodes, sources first, and otherwise as they came."""
    done, order, left = set(inputs), [], list(sources)
    while left:
        name = next((name for name in left if all(source.name in done for source in sources[name])), None)
        if name is None:
            raise ValueError(
                f"these nodes of a Graph get each other's outputs in a cycle: {', '.join(map(repr, left))}"
            )
        order.append(name)
        done.add(name)
        left.remove(name)
    return tuple(order)


def checked_inputs(names: tuple[str, ...], nodes: Mapping[str, Any]) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"`inputs` has {name!r}, must be strings without dots")
        if name in nodes or names.count(name) > 1:
            raise ValueError(f"`inputs` has {name!r}, a name that is taken")
    if not names:
        raise ValueError("`inputs` must name one input at least")
    return names


def checked_source(where: str, given: Any, known: tuple[str, ...]) -> Source:
    name, index = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    if not isinstance(name, str) or not (index is None or (type(index) is int and index >= 0)):
        raise TypeError(f"{where}: the source {given!r} must be a name, or (name, i) for output i")
    if name not in known:
        raise ValueError(f"{where}: there is no {name!r}, but {', '.join(map(repr, known))}")
    return Source(name, index)


def value_of(values: Mapping[str, Any], source: Source) -> Any:
    """The value of a source, or its shape: a tuple with tuples in it, or with arrays, is one of several outputs."""
    value = values[source.name]
    several = isinstance(value, tuple) and bool(value) and not isinstance(value[0], int)
    if several == (source.output is None):
        raise ValueError(
            f"node {source.name!r} gives {len(value) if several else 'one'} outputs: "
            + (f"a source is ({source.name!r}, i)" if several else f"its source is {source.name!r}")
        )
    return value[source.output] if several else value
