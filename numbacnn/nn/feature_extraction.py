"""What is inside of a model: what its layers give, and the part of it that leads to one of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backends import Array
from .containers import Add, Concat, Sequential
from .densenet_block import DenseBlock
from .grad_mode import evaluating
from .graph import Graph
from .layer import Layer, as_inputs, inherits_forward
from .watching import Forward, passes_as_before, watched

__all__ = ["layer_named", "outputs", "upto"]

_CONTAINERS = (Sequential, Concat, Add, DenseBlock, Graph)


def outputs(model: Layer, x: Any, names: Iterable[str]) -> dict[str, Array]:
    """What the layers called ``names`` give for the input ``x`` of ``model``, in evaluation mode, by name.

    Of a model of several inputs ``x`` is a tuple of them.

    Names are those of ``model.named_layers()``; of several layers that share one, the outermost counts. Every output
    is the layer's own, without the activation that a `Conv2d` or `Linear` would otherwise compute along with it; of
    a layer that runs more than once, it is the last. The arrays are of the model's backend and the caller's to keep.
    Afterwards the model is as before: its modes, its numbers and what it saved for ``backward``.

    Raises:
        TypeError: one string for ``names``.
        ValueError: a name that the model does not have, or of a layer that its forward pass does not run.

    >>> from numbacnn import use_backend
    >>> from numbacnn.nn import Flatten, ReLU
    >>> with use_backend("reference"):
    ...     model = Sequential(ReLU(), Flatten())
    >>> outputs(model, [[[-1, 2]]], ["0", "1"])
    {'0': array([[[0., 2.]]], dtype=float32), '1': array([[0., 2.]], dtype=float32)}
    """
    if isinstance(names, str):
        raise TypeError(f"`names` {names!r} must be several names, such as a list, not one string")
    wanted = {name: layer_named("names", model, name) for name in names}
    found: dict[int, Array] = {}

    def recording(name: str, layer: Layer, forward: Forward) -> Forward:
        def record(*inputs: Any) -> Array:
            y = forward(*inputs)
            found[id(layer)] = layer.backend.copy(layer.backend.asarray(y))
            return y

        return record if any(layer is other for other in wanted.values()) else forward

    inputs = as_inputs(model, x)
    with passes_as_before(model), evaluating(model), watched(model, recording):
        model.forward(*inputs)
    for name, layer in wanted.items():
        if id(layer) not in found:
            raise ValueError(f"`names` has {name!r}, a {type(layer).__name__} that the forward pass does not run")
    return {name: found[id(layer)] for name, layer in wanted.items()}


def upto(model: Layer, name: str) -> Layer:
    """The part of ``model`` that computes the output of the layer called ``name``, made of the same layers.

    Of each `Sequential` and `DenseBlock` on the way to the layer it has what comes before, of each `Concat` and `Add`
    only the branch that leads there, of a `Graph` the nodes that do. Names are the model's, and so are those in the
    state dict; weights and modes are shared. Its ``backward`` gives gradients that start at the layer,
    `receptive_field` what an element of its output sees.

    Raises:
        ValueError: a name that the model does not have, or of a layer inside of one that is none of the five.

    >>> from numbacnn.nn import Identity, ReLU, Tanh
    >>> model = Sequential(ReLU(), Add(Identity(), Sequential(Tanh(), ReLU())), ReLU())
    >>> upto(model, "1.1.0")
    Sequential(
      (0): ReLU()
      (1): Add(
        (1): Sequential(
          (0): Tanh()
        )
      )
    )
    """
    return _upto(model, layer_named("name", model, name), name)


def _upto(layer: Layer, target: Layer, name: str) -> Layer:
    if layer is target:
        return layer
    if not (isinstance(layer, _CONTAINERS) and any(inherits_forward(layer, kind) for kind in _CONTAINERS)):
        raise ValueError(
            f"`name` {name!r} is inside of a {type(layer).__name__}, whose forward pass is its own: what comes before "
            "a layer is known within Sequential, Concat, Add, DenseBlock and Graph"
        )
    children = list(layer.named_children())
    last = next(i for i, (_, child) in enumerate(children) if any(inner is target for inner in child.layers()))
    child_name, child = children[last]
    if isinstance(layer, Graph):
        return layer.part(child_name, _upto(child, target, name))
    if isinstance(layer, DenseBlock):
        before: dict[str, Layer] = {"": layer[:last]} if last else {}
        sequence = Sequential({**before, child_name: _upto(child, target, name)})
        sequence.backend, sequence.training = layer.backend, layer.training
        return sequence
    part = layer[0 if isinstance(layer, Sequential) else last : last + 1]
    part._layers[child_name] = _upto(child, target, name)
    return part


def layer_named(argument: str, model: Layer, name: str) -> Layer:
    """The layer called ``name``, of several the outermost; a ValueError for none calls it ``argument``."""
    layers: dict[str, Layer] = {}
    for other, layer in model.named_layers():
        layers.setdefault(other, layer)
    if name not in layers:
        known = ", ".join(other for other in layers if other)
        raise ValueError(f"`{argument}` {name!r} must be a layer of the model, which has {known or 'none'}")
    return layers[name]
