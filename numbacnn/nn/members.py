"""Which layers, parameters and buffers an attribute of a layer holds, and what may be assigned to one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..ops.arguments import flag
from .state import WITHOUT_MEANING, State

if TYPE_CHECKING:
    from .layer import Layer

__all__ = ["PLAIN", "check_assignment", "members"]

PLAIN = frozenset((bool, int, float, str, type(None)))
"""What holds nothing."""


def members(name: str, value: Any, kinds: tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """Dotted name and object of each of ``kinds`` in the attribute ``name``, also in lists, tuples and dicts in it.

    Raises:
        ValueError: for one under a dict's key that is no part of a dotted name.
    """
    if isinstance(value, kinds):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            if type(item) not in PLAIN:
                yield from members(f"{name}.{i}", item, kinds)
    elif isinstance(value, (dict, Mapping)):
        for key, item in value.items():
            if type(item) in PLAIN:
                continue
            for dotted, member in members(f"{name}.{key}", item, kinds):
                if not isinstance(key, str) or not key or "." in key:
                    raise ValueError(
                        f"the key {key!r} of `{name}` must be a string without dots, for it is in the names of what "
                        f"is under it, such as a {type(member).__name__}"
                    )
                yield dotted, member


def check_assignment(layer: Layer, name: str, value: Any, base: type[Layer]) -> None:
    """TypeError, AttributeError or RuntimeError if ``layer.name = value`` would not do what it says.

    ``base`` is `Layer`, whose own attributes are no names for what a subclass is made of.
    """
    kind, former, kinds = type(layer).__name__, vars(layer).get(name), (base, State)
    if name in WITHOUT_MEANING:
        raise AttributeError(f"`{name}` means nothing to a layer; {WITHOUT_MEANING[name]}: {kind}")
    if name == "training":
        flag(name, value)
    elif name == "backend" and value is not (former or value):
        raise ValueError(f"`backend` of {kind} is not to be set: `to` moves a layer with all that it is made of")
    if isinstance(value, (set, frozenset)):
        if any(isinstance(item, kinds) for item in value):
            raise TypeError(f"`{name}` of {kind} is a set, which has no order: layers and parameters go into a list")
        return
    if any(list(members(name, value, kinds))):
        if "_training" not in vars(layer):
            raise RuntimeError(f"{kind}.__init__ must call `super().__init__()` before it assigns `{name}`")
        if hasattr(base, name):
            raise TypeError(f"`{name}` of {kind} is an attribute of every layer: another name must be taken")
    if value is None or not isinstance(former, kinds):
        return
    if isinstance(former, State) and not isinstance(value, State):
        raise TypeError(
            f"`{name}` of {kind} is a {type(former).__name__}, not to be replaced by a {type(value).__name__}: "
            f"`layer.{name}.value = ...` changes its numbers"
        )
    if isinstance(former, base):
        if not isinstance(value, base):
            raise TypeError(f"`{name}` of {kind} is a layer, not to be replaced by a {type(value).__name__}")
        layer.drop_saved()
