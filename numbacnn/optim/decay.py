"""Which parameters weight decay is for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..nn.state import Parameter

__all__ = ["norms_and_biases", "which_decay"]


def norms_and_biases(parameters: Iterable[Parameter | tuple[str, Parameter]]) -> list[Parameter]:
    """The parameters with fewer than two axes, which are seldom decayed: biases, scale and shift of normalisations.

    He et al. 2019 ("Bag of tricks"), section 3.1.

    >>> import numbacnn as nc
    >>> from numbacnn import nn, optim
    >>> with nc.use_backend("reference"):
    ...     model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> exempt = optim.norms_and_biases(model.parameters())
    >>> [name for name, parameter in model.named_parameters() if parameter in exempt]
    ['0.bias', '1.weight', '1.bias']
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=5e-4, no_decay=exempt)
    """
    each = (entry[1] if isinstance(entry, tuple) else entry for entry in parameters)
    return [parameter for parameter in each if len(parameter.shape) < 2]


def which_decay(parameters: Sequence[Parameter], no_decay: Iterable[Parameter]) -> list[bool]:
    """For each parameter, whether it is not in ``no_decay``; all that is there must be in ``parameters``."""
    if isinstance(no_decay, Parameter):
        raise TypeError("`no_decay` is a single Parameter, must be a list")
    exempt = list(no_decay)
    mine = {id(parameter) for parameter in parameters}
    for i, parameter in enumerate(exempt):
        if not isinstance(parameter, Parameter):
            raise TypeError(f"`no_decay`[{i}] of type {type(parameter).__name__} must be a Parameter")
        if id(parameter) not in mine:
            raise ValueError(f"`no_decay`[{i}] is not in `parameters`")
    exempted = {id(parameter) for parameter in exempt}
    return [id(parameter) not in exempted for parameter in parameters]
