"""A state dict and the parameters and buffers that take it: what fits, and a report of what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends import Array
from ..ops.arguments import flag
from .state import Shape, State, matching_arrays

__all__ = ["IncompatibleKeys", "fitting_arrays"]

MOST_NAMES = 20
"""Of each kind that are listed."""


@dataclass(frozen=True)
class IncompatibleKeys:
    """What `Layer.load_state_dict` found that does not fit. Printed, it is a report with the likeliest cause.

    >>> from numbacnn import nn
    >>> model = nn.Sequential({"fc": nn.Linear(4, 7)})
    >>> state = {"fc.weight": [[0.0] * 4] * 10, "x": 1}
    >>> print(model.load_state_dict(state, strict=False, ignore_mismatched_sizes=True))
    1 missing: fc.bias
    1 unexpected: x
    1 of another shape: fc.weight (10, 4), must have (7, 4)
    the head has another number of classes, 10 in the state and 7 in the model
    """

    missing_keys: list[str] = field(default_factory=list)
    """Names of the model's that the state does not have; their numbers stay."""
    unexpected_keys: list[str] = field(default_factory=list)
    """Names of the state's that the model does not have."""
    mismatched_keys: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    """Name, shape in the state and shape in the model of those that differ; the model's numbers stay."""
    cause: str = ""
    """What is most likely the reason, "" where none is."""

    def __str__(self) -> str:
        shapes = [f"{name} {found}, must have {wanted}" for name, found, wanted in self.mismatched_keys]
        kinds = (("missing", self.missing_keys), ("unexpected", self.unexpected_keys), ("of another shape", shapes))
        lines = [f"{len(names)} {kind}: {', '.join(_listed(names))}" for kind, names in kinds if names]
        return "\n".join([*lines, *filter(None, [self.cause])]) or "all keys match"


def fitting_arrays(
    owner: str, targets: Mapping[str, State], state: Mapping[str, Any], strict: bool, ignore_mismatched_sizes: bool
) -> tuple[dict[str, Array], IncompatibleKeys]:
    """The arrays that fit their targets, converted for them, and what was left out; ValueError for what may not be."""
    strict = flag("strict", strict)
    ignore_mismatched_sizes = flag("ignore_mismatched_sizes", ignore_mismatched_sizes)
    missing = [name for name in targets if name not in state]
    unexpected = [name for name in state if name not in targets]
    mismatched = []
    for name, target in targets.items():
        shape = _shape(state[name]) if name in state else None
        if shape is not None and shape != target.shape:
            mismatched.append((name, shape, target.shape))
    cause = _of_a_prefix(missing, unexpected) or _of_the_head(mismatched)
    report = IncompatibleKeys(missing, unexpected, mismatched, cause)
    others = {name for name, *_ in mismatched}
    arrays, problems = matching_arrays({name: target for name, target in targets.items() if name not in others}, state)
    if not ignore_mismatched_sizes:
        shapes = [f"{name} has shape {found}, must have {wanted}" for name, found, wanted in mismatched]
        problems = [*_listed(shapes), *problems]
    if strict:
        problems += _listed([f"missing {name}" for name in missing])
        problems += _listed([f"unexpected {name}" for name in unexpected])
    if problems:
        hint = f"; {cause}" if cause else ""
        if cause and mismatched and not ignore_mismatched_sizes and cause == _of_the_head(mismatched):
            hint += ": with `ignore_mismatched_sizes=True` the model's numbers stay there"
        raise ValueError(f"`state` does not fit {owner}: {'; '.join(problems)}{hint}")
    return arrays, report


def _shape(array: Any) -> Shape | None:
    """None for what is no array, whose error tells more."""
    try:
        return tuple(int(size) for size in (array.shape if hasattr(array, "shape") else np.shape(array)))
    except (TypeError, ValueError):
        return None


def _listed(names: list[str]) -> list[str]:
    """The first of them, and how many more there are."""
    return names[:MOST_NAMES] + [f"{len(names) - MOST_NAMES} more"] * (len(names) > MOST_NAMES)


def _of_a_prefix(missing: Collection[str], unexpected: Collection[str]) -> str:
    """The cause, where half of the missing names are there, behind others or without what is before them."""
    for longer, shorter, which in ((unexpected, missing, "state"), (missing, unexpected, "model")):
        prefix, count = _most_common_prefix(longer, set(shorter))
        if 2 * count >= max(len(missing), 1):
            return f"names in the {which} begin with {prefix!r}, which the {_OTHER[which]}'s do not"
    return ""


_OTHER = {"state": "model", "model": "state"}


def _most_common_prefix(longer: Iterable[str], shorter: Collection[str]) -> tuple[str, int]:
    """What most often is before one of the ``shorter`` names, and how often."""
    counts: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".")
        counts.update(
            ".".join(parts[:i]) + "." for i in range(1, len(parts)) if ".".join(parts[i:]) in shorter
        )  # fmt: skip
    return counts.most_common(1)[0] if counts else ("", 0)


def _of_the_head(mismatched: Collection[tuple[str, Shape, Shape]]) -> str:
    """The cause, where one layer has another number of outputs and all else is the same."""
    layers = {name.rpartition(".")[0] for name, *_ in mismatched}
    sizes = {(found[:1], wanted[:1]) for _, found, wanted in mismatched}
    if len(layers) != 1 or len(sizes) != 1 or any(found[1:] != wanted[1:] for _, found, wanted in mismatched):
        return ""
    ((found, wanted),) = sizes
    if not found or not wanted:
        return ""
    return f"the head has another number of classes, {found[0]} in the state and {wanted[0]} in the model"
