"""`Layer`, the node of the layer graph, with explicit forward and backward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from .. import backends
from ..backends import Array, Backend
from ..ops.arguments import LAST_COUNT, integer, real_array
from ..ops.elementwise import LAST_SEED
from .grad_mode import enables_grad_within, evaluating, may_save
from .members import PLAIN, check_assignment, members
from .printing import Printed, remember_shapes
from .receptive import ReceptiveField, Window
from .saved import Remembering
from .state import (
    Buffer,
    Constant,
    OnBackend,
    Parameter,
    Shape,
    Shapes,
    State,
    as_shapes,
    scaled_pixels,
)

if TYPE_CHECKING:
    from .loading import IncompatibleKeys

__all__ = ["Layer", "as_inputs", "check_dy_shape", "check_result", "inherits_forward", "is_stock"]

_L = TypeVar("_L", bound="Layer")


class Layer(Printed, OnBackend, Remembering):
    """A node of the model: ``forward(x)`` and, next to it, ``backward(dy)``.

    A subclass calls ``super().__init__()``, which sets ``training`` (True) and ``backend`` (the default one), and
    assigns its parameters, buffers and child layers to attributes; they are found there, in order, also inside lists,
    tuples and dicts. ``forward`` keeps what backward needs by ``self.saved = ...``, once; the next forward pass
    replaces it. ``backward(dy, input_gradient=True)`` adds to the gradients of the parameters and returns the gradient
    of the input, or None with ``input_gradient=False``; ``self.saved`` raises RuntimeError there when nothing was
    saved. What is saved is not copied: do not change an input or output in place between forward and backward.

    A layer remembers one forward pass. ``backward`` is for the last one, and may be called again for it, which adds to
    the gradients again. Where several forward passes came before, as of one layer for both inputs of a siamese network,
    the second backward pass is refused with a RuntimeError, for it may be meant for another of them: join the inputs
    into one batch, go back after each forward pass, or give each place a layer of its own by `nn.tied_copy`, which
    shares the weights. :meth:`drop_saved` forgets forward passes that get no backward pass.

    Images of dtype uint8 are pixel values: a model that is called, `predict` and the layers of this package scale them
    from 0..255 to 0..1, as the loader does.

    In evaluation mode nothing is saved: assigning to ``self.saved`` then only drops what was there, so that prediction
    holds no activations. Two things ask for gradients all the same: a layer in training mode around the one in
    evaluation mode, and ``with nn.enable_grad():``. A layer of one's own is such a layer around when it is called,
    ``layer(x)``, as the containers are in ``forward`` as well. :meth:`freeze` keeps a part of a model as it is.

    >>> from numbacnn import use_backend
    >>> class Scale(Layer):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = Parameter(np.float32([2]))
    ...     def forward(self, x):
    ...         self.saved = x
    ...         return x * self.factor.value
    ...     def backward(self, dy, input_gradient=True):
    ...         x = self.saved
    ...         self.factor.accumulate([(dy * x).sum()])
    ...         return dy * self.factor.value if input_gradient else None
    >>> with use_backend("reference"):
    ...     scale = Scale()
    >>> scale(np.array([1.0, 3.0], np.float32)), scale.backward(np.array([1.0, 1.0], np.float32))
    (array([2., 6.], dtype=float32), array([2., 2.], dtype=float32))
    >>> [(name, parameter.grad) for name, parameter in scale.named_parameters()]
    [('factor', array([4.], dtype=float32))]
    """

    capturable: ClassVar[bool] = False
    """Of a class of one's own: whether what it computes may be captured, see `TrainingStep`; not inherited.

    Say True where ``forward`` and ``backward`` only call layers, ops and ``accumulate``, the same ones each time for
    the same shapes and settings, and keep things in ``saved`` alone. NumPy on arrays, numbers read from them, random
    numbers and counts would be done once, when the capture is made.
    """

    _no_members: ClassVar[tuple[str, ...]] = ("_saved", "_forward_cache", "_seen")
    _training: bool
    """The mode that `train` and `eval` have set."""
    _frozen: bool = False
    _remedy = "join the inputs into one batch, or give each place its own `nn.tied_copy` of the layer"

    takes_several: bool = False
    """Whether ``forward`` takes several inputs, or any number of them."""
    seed: int | None = None
    """Of a layer that draws random numbers: its seed, ..."""
    calls: int = 0
    """... and how many times it has drawn; together they are its :meth:`random_state`."""

    @property
    def mixes_samples(self) -> bool:
        """Whether in evaluation mode a sample's output depends on the batch that it is in."""
        return False

    def __init__(self) -> None:
        self.training = True
        self.backend = backends.get()
        self._saved: Any = None
        self._forward_cache: dict[Any, Any] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "saved" and not name.startswith("_"):
            check_assignment(self, name, value, Layer)
            if name != "training":  # in which nothing is known yet
                vars(self).get("_forward_cache", {}).clear()
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        kind = type(self).__name__
        hint = "" if "_training" in vars(self) else f": {kind}.__init__ must call `super().__init__()`"
        raise AttributeError(f"{kind!r} object has no attribute {name!r}{hint}")

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_saved": None, "_forward_cache": {}}

    # What a layer computes.

    def forward(self, x: Any) -> Any:
        """The output for the input ``x``, or for several inputs; a tuple of several outputs."""
        raise NotImplementedError(f"{type(self).__name__} must define `forward`")

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        """The gradient of the last input, given that of its output; parameters accumulate theirs.

        A tuple of the gradients of several inputs; of several outputs ``dy`` is one.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `backward`")

    @enables_grad_within
    def __call__(self, *inputs: Any) -> Any:
        remember_shapes(self, inputs)
        return check_result(self, self.forward(*[scaled_pixels(x, self.backend) for x in inputs]))

    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """The outputs (n, ...) for all of ``x`` (n, ...), of NumPy or a backend, as one array of the model's backend.

        Of a model of several inputs ``x`` is a tuple of them, all of n samples; of several outputs a tuple is returned.

        In evaluation mode, ``batch_size`` samples at a time, at least 1, so that memory does not grow with n but for
        the outputs. Images of dtype uint8 are scaled from 0..255 to 0..1, as a loader scales them. Afterwards every
        layer is in the mode it was in. Nothing waits for the outputs. Several threads may predict at once with a model
        that is in evaluation mode already.

        >>> from numbacnn import nn, use_backend
        >>> with use_backend("reference"):
        ...     nn.Sequential(nn.Dropout(), nn.ReLU()).predict([[-1, 1], [2, -2], [3, 4]], batch_size=2)
        array([[0., 1.],
               [2., 0.],
               [3., 4.]], dtype=float32)
        """
        batch_size = integer("batch_size", batch_size, 1)
        inputs = as_inputs(self, x)
        remember_shapes(self, inputs)
        n = inputs[0].shape[0]
        outputs: list[Array] | None = None
        is_tuple = False
        with evaluating(self):
            # Without samples, an empty batch tells the shape and the dtype.
            for start in range(0, max(n, 1), batch_size):
                stop = min(start + batch_size, n)
                found = check_result(self, self.forward(*[scaled_pixels(x[start:stop], self.backend) for x in inputs]))
                is_tuple = isinstance(found, tuple)
                ys = [self.backend.asarray(y) for y in (found if is_tuple else (found,))]
                if outputs is None:
                    outputs = [self.backend.empty((n, *y.shape[1:]), y.dtype) for y in ys]
                for y, output in zip(ys, outputs, strict=True):
                    part = output[start:stop]
                    if tuple(y.shape) != tuple(part.shape):
                        raise ValueError(f"the output for {stop - start} samples is {tuple(y.shape)}, not {part.shape}")
                    self.backend.assign(part, y)
        return tuple(outputs or ()) if is_tuple else (outputs or [None])[0]

    @property
    def training(self) -> bool:
        """Whether it computes as in training: the mode that was set last, but of a frozen layer False."""
        return self._training and not self._frozen

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = mode

    @property
    def saves(self) -> bool:
        """Whether a forward pass keeps what it assigns to ``saved``: in training mode or in ``nn.enable_grad()``.

        Not below the first layer that trains, in the forward pass of a `TrainingStep`, which asks for no gradients
        there.
        """
        return may_save(self._training)

    def drop_saved(self) -> None:
        """Forget what forward passes saved, here and in the layers within: backward needs a new forward pass."""
        for layer in self.layers():
            layer._saved = None

    # What is known without computing.

    def output_shape(self, shape: Shape) -> Any:
        """The shape of the output for an input of ``shape``, or for those of several; a tuple of several outputs'."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `output_shape` for sizes to be known before a run"
        )

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of a forward pass: two per multiply-accumulate of convolution and linear layers."""
        return sum(child.flops(*as_shapes(inner)) for _, child, inner in self.child_inputs(shape))

    def window(self) -> Window | None:
        """What of the input an output element sees: a window, `WHOLE_IMAGE`, or None for only its own position."""
        raise NotImplementedError(f"{type(self).__name__} must define `window` for receptive fields to be known")

    def receptive_field(self, field: ReceptiveField, shape: Shape, image: tuple[int, int]) -> ReceptiveField:
        """The receptive field after this layer, given that of its input of ``shape``, in an image of size ``image``.

        NotImplementedError for a layer that has no ``window`` to tell it.
        """
        return field.through(self.window(), image)

    def child_fields(self, field: ReceptiveField, shape: Shapes, image: tuple[int, int]) -> list[ReceptiveField]:
        """The receptive field before each of the :meth:`child_inputs`, given that of the input of ``shape``."""
        return [field] * len(self.child_inputs(*as_shapes(shape)))

    def algorithms(self, shape: Shape) -> dict[str, str]:
        """Where there is a choice, the algorithm of each pass: ``forward``, ``backward_input``, ``backward_weight``."""
        return {}

    def child_inputs(self, shape: Shape) -> Sequence[tuple[str, Layer, Shapes]]:
        """Name, layer and input shape of each child, for an input of ``shape``; containers know.

        Of a child with several inputs it is a tuple of their shapes.
        """
        return []

    # The tree.

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """Name and layer of what this layer is directly made of."""
        return self._members(Layer)

    def children(self) -> Iterator[Layer]:
        """The layers that this layer is directly made of."""
        return (child for _, child in self.named_children())

    def named_layers(self) -> list[tuple[str, Layer]]:
        """Dotted name and layer of the whole tree, depth first, itself first with the name ''; each layer once.

        A child of a container with the name '' has the container's.
        """
        return [(name, layer) for name, layer, first in self._walk("", set()) if first]

    def layers(self) -> list[Layer]:
        """All layers of the tree, depth first, itself first."""
        return [layer for _, layer in self.named_layers()]

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """Dotted name and parameter of the whole tree, each parameter once."""
        seen: dict[int, tuple[str, Parameter]] = {}
        for name, state in self._named_states():
            if isinstance(state, Parameter):
                seen.setdefault(id(state), (name, state))
        return list(seen.values())

    def parameters(self) -> list[Parameter]:
        """All parameters of the tree, as an optimizer takes them."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> list[tuple[str, Buffer]]:
        """Dotted name and buffer of the whole tree."""
        return [(name, state) for name, state in self._named_states() if isinstance(state, Buffer)]

    def _walk(self, name: str, seen: set[int]) -> Iterator[tuple[str, Layer, bool]]:
        yield name, self, id(self) not in seen
        seen.add(id(self))
        for child_name, child in self.named_children():
            yield from child._walk(f"{name}.{child_name}" if name and child_name else name or child_name, seen)

    def _named_states(self) -> Iterator[tuple[str, State]]:
        for layer_name, layer, _ in self._walk("", set()):
            states = list(layer._members(Parameter, Buffer))
            for kind in (Parameter, Buffer):
                for name, state in states:
                    if isinstance(state, kind):
                        yield f"{layer_name}.{name}" if layer_name else name, state

    def _members(self, *kinds: type[Any]) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if type(value) not in PLAIN and name not in self._no_members:
                yield from members(name, value, kinds)

    # The tree as a whole.

    def train(self: _L, mode: bool = True) -> _L:
        """Set ``training`` for the whole tree. Returns itself.

        Batch normalisation and dropout behave differently, and only in training forward saves for backward.
        """
        for layer in self.layers():
            layer.training = bool(mode)
        return self

    def eval(self: _L) -> _L:
        """``train(False)``."""
        return self.train(False)

    def freeze(self: _L) -> _L:
        """Keep the whole tree as it is, whatever trains around it, until :meth:`unfreeze`. Returns itself.

        ``requires_grad`` of its parameters becomes False: backward passes compute no gradients of them, optimizers
        leave them alone, weight decay included, whether made before or afterwards. And it computes as in evaluation
        mode, in training mode too: batch normalisation takes its running averages, which rest, and dropout does
        nothing. That goes for the layers that are not made of layers; one around a layer that trains is in the mode
        that was set. To have running averages follow the new data under weights that stay, as in PyTorch, set
        ``requires_grad`` of the parameters alone.

        Gradients go through a frozen layer where something before it needs them, the input of ``backward`` among
        it. Parameters that are in several places are frozen in all of them. `parameters` and `state_dict` have them as
        before, and no file says what is frozen.

        >>> from numbacnn import nn, use_backend
        >>> with use_backend("reference"):
        ...     model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        >>> model[:3].freeze().train()[1].training
        False
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['3.weight', '3.bias']
        """
        return self._set_frozen(True)

    def unfreeze(self: _L) -> _L:
        """Train the whole tree again, in the mode that was last set; gradients stay as they were. Returns itself."""
        return self._set_frozen(False)

    def _set_frozen(self: _L, frozen: bool) -> _L:
        for layer in self.layers():
            for _, parameter in layer._members(Parameter):
                parameter.requires_grad = not frozen
            if next(layer.children(), None) is None:
                layer._frozen = frozen
        return self

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def to(self: _L, backend: str | Backend) -> _L:
        """Move parameters, gradients and buffers to another backend and compute there from now on. Returns itself.

        What the last forward pass saved stays behind: backward needs a new forward pass. ValueError for a layer with an
        ``algorithm`` that the other backend does not have; nothing has moved then.
        """
        target = backends.get(backend)
        for layer in self.layers():
            layer._check_backend(target)
        for _, state in self._named_states():
            state.to(target)
        for layer in self.layers():
            for _, constant in layer._members(Constant):
                constant.to(target)
            vars(layer)["backend"] = target
        self.drop_saved()
        return self

    def _check_backend(self, backend: Backend) -> None:
        """ValueError for a backend on which this layer could not compute."""

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All parameters and buffers as new NumPy arrays, under PyTorch's names and in its order."""
        return {name: np.array(state.backend.to_numpy(state.value)) for name, state in self._named_states()}

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True, ignore_mismatched_sizes: bool = False
    ) -> IncompatibleKeys:
        """Overwrite parameters and buffers with arrays (anything NumPy takes) of the same names and shapes.

        Numbers of bfloat16 are taken exactly: as arrays of the package ml_dtypes, as tensors of PyTorch, or as their
        bits in uint16, which therefore stands for bfloat16 wherever a parameter or buffer is floating.

        Everything is checked before anything is changed. ValueError lists names that are missing or unexpected (not
        with ``strict=False``), that have another shape (not with ``ignore_mismatched_sizes``, which leaves the model's
        numbers there, such as those of a new head), or that hold no numbers of the right kind, and says what is most
        likely the cause. What was left out is returned, as an `IncompatibleKeys`, which prints as a report.
        """
        from .loading import fitting_arrays  # not every program loads weights

        targets = dict(self._named_states())
        arrays, report = fitting_arrays(type(self).__name__, targets, state, strict, ignore_mismatched_sizes)
        for name, array in arrays.items():
            targets[name].value = array
        return report

    def random_state(self) -> dict[str, list[int]]:
        """Dotted name -> [seed, calls] of each layer that draws random numbers."""
        return {name: [layer.seed, layer.calls] for name, layer in self.named_layers() if layer.seed is not None}

    def load_random_state(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`random_state` was taken.

        Everything is checked before anything is changed: ValueError or TypeError unless the names are the same, and for
        what is no pair of a seed and a number of calls.
        """
        targets = {name: layer for name, layer in self.named_layers() if layer.seed is not None}
        if set(state) != set(targets):
            raise ValueError(f"`state` has the layers {sorted(state)}, must have {sorted(targets)}")
        pairs = {}
        for name, pair in state.items():
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise ValueError(f"`state` of {name!r} is {pair!r}, must be [seed, calls]")
            pairs[name] = integer("seed", pair[0], 0, LAST_SEED), integer("calls", pair[1], 0, LAST_COUNT)
        for name, layer in targets.items():
            layer.seed, layer.calls = pairs[name]

    def extra_repr(self) -> str:
        """The arguments that ``print`` shows."""
        return ""


def as_inputs(model: Layer, x: Any) -> list[Array]:
    """``x``, real arrays, as what ``model`` takes: one input, or a tuple of several, of as many samples each."""
    if not model.takes_several:
        inputs = [real_array("x", x, model.backend)]
    elif isinstance(x, tuple):
        inputs = [real_array("x", part, model.backend) for part in x]
    else:
        raise TypeError(f"`x` is a {type(x).__name__}, must be a tuple of the inputs of {type(model).__name__}")
    for part in inputs:
        if not part.shape:
            raise ValueError("`x` () must have a first axis, the batch")
    if len({part.shape[0] for part in inputs}) > 1:
        raise ValueError(f"`x` has inputs of {[part.shape[0] for part in inputs]} samples, must have as many of each")
    return inputs


def check_dy_shape(dy: Any, shape: Shape) -> None:
    """ValueError unless ``dy`` has the shape of the output."""
    actual = tuple(dy.shape) if hasattr(dy, "shape") else np.shape(dy)
    if actual != shape:
        raise ValueError(f"`dy` has shape {actual}, must have that of the output, {shape}")


def check_result(layer: Layer, y: Any, method: str = "forward") -> Any:
    """``y``, what ``method`` of a layer returned; TypeError for None."""
    if y is None:
        raise TypeError(f"`{method}` of {type(layer).__name__} returned None, must return an array: {layer!r}")
    return y


def inherits_forward(layer: Layer, kind: type[Layer]) -> bool:
    """Whether ``forward`` is the one of ``kind``, neither a subclass's nor the object's own."""
    return type(layer).forward is kind.forward and "forward" not in vars(layer)


def is_stock(layer: Layer, *kinds: type[Layer], passes: Sequence[str] = ("forward",)) -> bool:
    """Whether ``layer`` is of one of the ``kinds``, no subclass, and runs these ``passes`` as its kind does."""
    return type(layer) in kinds and vars(layer).keys().isdisjoint(passes)
