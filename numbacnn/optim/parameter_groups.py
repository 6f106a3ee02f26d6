"""Parameters that share settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..nn.state import Parameter
from ..ops.arguments import number

__all__ = ["ParameterGroup", "checked_settings", "parameter_groups", "scale_rates"]


def checked_settings(kind: Any, settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The values of an optimizer of class ``kind``, by the names that they are kept by: ``betas`` are beta1 and beta2.

    ``where`` they are given, errors say: ValueError or TypeError for values out of range, ValueError for names of no
    setting.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        full = f"{where}[{name!r}]" if where else name
        if name in kind.pairs:
            if not isinstance(value, (tuple, list)) or len(value) != 2:
                raise ValueError(f"`{full}` {value!r} must be a pair ({', '.join(kind.pairs[name])})")
            found |= checked_settings(kind, dict(zip(kind.pairs[name], value, strict=True)), where)
        elif name in kind.settings:
            found[name] = kind.settings[name](full, value)
        else:
            known = ", ".join((*kind.pairs, *kind.settings))
            raise ValueError(f"`{full}` is no setting of {kind.__name__}, which has {known}")
    return found


class RateScale:
    """What ``optimizer.lr = ...`` has multiplied the rates of all groups by, as against ``base_lr`` of each."""

    def __init__(self) -> None:
        self.value = 1.0


class ParameterGroup(Mapping[str, Any]):
    """An entry of ``optimizer.param_groups``: parameters with settings of their own.

    ``group["lr"]`` and the other settings may be read and, between steps, set; ``group["params"]`` are the parameters,
    which stay. A value out of range is a ValueError or TypeError, a name of no setting a ValueError.

    Attributes:
        base_lr: the rate that this group was given by itself, which ``optimizer.lr = ...`` scales.

    >>> import numbacnn as nc
    >>> from numbacnn import nn, optim
    >>> with nc.use_backend("reference"):
    ...     body, head = nn.Linear(2, 3), nn.Linear(3, 1)
    >>> groups = [{"params": body.parameters()}, {"params": head.parameters(), "lr": 0.1}]
    >>> optimizer = optim.SGD(groups, lr=0.01)
    >>> optimizer.param_groups[0]["weight_decay"] = 1e-4
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.01, 0.1]
    >>> optimizer.lr = 0.005
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.005, 0.05]
    """

    def __init__(self, kind: Any, parameters: Iterable[Parameter], settings: Mapping[str, Any], scale: Any) -> None:
        self._kind = kind
        self._parameters = tuple(parameters)
        self._settings = dict(settings)
        self._scale: RateScale = scale
        self.base_lr: float = settings["lr"]

    def __getitem__(self, name: str) -> Any:
        if name in self._kind.pairs:
            return tuple(self._settings[one] for one in self._kind.pairs[name])
        return self._parameters if name == "params" else self._settings[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise ValueError("`params` of a group cannot be set: make another optimizer")
        settings = checked_settings(self._kind, {name: value})
        self.write(settings)
        if "lr" in settings:
            self.base_lr = settings["lr"] / (self._scale.value or 1.0)

    def __iter__(self) -> Iterator[str]:
        return iter(("params", *self._settings))

    def __len__(self) -> int:
        return 1 + len(self._settings)

    def write(self, settings: Mapping[str, Any]) -> None:
        """Set what was checked; ``base_lr`` stays."""
        self._settings.update(settings)

    def to_json(self) -> dict[str, Any]:
        """The settings and ``base_lr``, as numbers."""
        return {**self._settings, "base_lr": self.base_lr}

    def from_json(self, state: Mapping[str, Any]) -> Callable[[], None]:
        """Check what :meth:`to_json` gave; what is returned puts it in place."""
        settings = checked_settings(self._kind, {name: value for name, value in state.items() if name != "base_lr"})
        base_lr = number("base_lr", state["base_lr"], 0)

        def put() -> None:
            self.write(settings)
            self.base_lr = base_lr

        return put

    def summary(self) -> str:
        """How many parameters there are, and the settings."""
        settings = ", ".join(f"{name}={value}" for name, value in self._settings.items())
        return f"{len(self._parameters)} parameters, {settings}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary()})"


def parameter_groups(parameters: Iterable[Any], kind: Any, settings: Mapping[str, Any]) -> list[ParameterGroup]:
    """The groups of an optimizer of class ``kind``, of a list of dicts or, for a single one, of Parameters."""
    if isinstance(parameters, (Parameter, Mapping)):
        raise TypeError(f"`parameters` is a single {type(parameters).__name__}, must be a list")
    defaults, entries = checked_settings(kind, settings), list(parameters)
    if not entries:
        raise ValueError("`parameters` is empty: there is nothing to train")
    scale, seen = RateScale(), dict[int, int]()
    if not any(isinstance(entry, Mapping) for entry in entries):
        return [ParameterGroup(kind, _members("`parameters`", entries, seen, 0), defaults, scale)]
    groups = []
    for i, entry in enumerate(entries):
        where = f"`parameters`[{i}]"
        if not isinstance(entry, Mapping):
            raise TypeError(f"{where} of type {type(entry).__name__} must be a dict, as another entry is")
        if "params" not in entry:
            raise ValueError(f"{where} has the keys {[*entry]}, must have 'params'")
        own = checked_settings(kind, {k: v for k, v in entry.items() if k != "params"}, where.replace("`", ""))
        members = [entry["params"]] if isinstance(entry["params"], Parameter) else entry["params"]
        members = _members(f"{where}['params']", members, seen, i)
        if not members:
            raise ValueError(f"{where}['params'] is empty: there is nothing to train in it")
        groups.append(ParameterGroup(kind, members, defaults | own, scale))
    return groups


def _members(where: str, entries: Iterable[Any], seen: dict[int, int], group: int) -> list[Parameter]:
    """Parameters that are not ``seen``: those of this group and of groups before it."""
    found: list[Parameter] = []
    for i, entry in enumerate(entries):
        parameter = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
        if not isinstance(parameter, Parameter):
            raise TypeError(f"{where}[{i}] of type {type(parameter).__name__} must be a Parameter")
        if id(parameter) in seen:
            other = seen[id(parameter)]
            raise ValueError(f"{where}[{i}] is in {'the list twice' if other == group else f'group {other}, too'}")
        seen[id(parameter)] = group
        found.append(parameter)
    return found


def scale_rates(groups: Sequence[ParameterGroup], lr: float) -> None:
    """Give the first group the rate ``lr``, and the others theirs in the proportions of ``base_lr``.

    ValueError, and nothing is changed, where the first one's is 0 and others are not.
    """
    scale, base = groups[0]._scale, groups[0].base_lr
    if all(group.base_lr == base for group in groups):
        rates, scale.value = [lr] * len(groups), 1.0
        for group in groups:
            group.base_lr = lr
    elif base == 0:
        raise ValueError(
            f"`lr` {lr} has no proportion to that of the first group, which is 0: set `param_groups[i]['lr']` of each"
        )
    else:
        rates = [lr, *(number("lr", group.base_lr * (lr / base), 0) for group in groups[1:])]
        scale.value = lr / base
    for group, rate in zip(groups, rates, strict=True):
        group.write({"lr": rate})
