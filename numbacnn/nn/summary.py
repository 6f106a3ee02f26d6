"""The table of a model, without running it: shapes, parameters, work, receptive fields, algorithms."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from ..ops.arguments import shape_of
from .containers import Sequential
from .folded import Branch, folded
from .layer import Layer
from .printing import known_shape
from .receptive import ReceptiveField
from .state import Shape, Shapes, as_shapes
from .table import Table

__all__ = ["Row", "Summary", "model_html", "summary"]

HEADERS = ("output shape", "parameters", "MFLOPs", "sees", "jump", "algorithm", "memory")
LEFT = ("output shape", "algorithm")
"""What begins at the left of its column."""


@dataclass(frozen=True)
class Row:
    """One layer of a summary.

    ``parameters`` counts the numbers in the layer and what is in it, ``flops`` one forward pass (two per
    multiply-accumulate of convolution and linear layers), ``memory`` the bytes of its output, 0 for a container, whose
    output is its layers'. ``receptive_field`` is None where there is no image, and from a layer of one's own on that
    does not define ``window``. ``detail`` is what the layer prints of its arguments.
    """

    name: str
    layer: str
    depth: int
    output_shape: Shapes
    parameters: int
    flops: int
    receptive_field: ReceptiveField | None
    algorithms: dict[str, str] = dataclasses.field(default_factory=dict)
    memory: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Summary:
    """What `summary` found: ``rows``, the model itself first, and the totals.

    Printed, it is the table; a notebook shows one whose containers can be folded.
    """

    rows: list[Row]
    input_shape: Shapes
    parameters: int
    flops: int
    memory: int
    trainable: int
    """How many of the parameters are not frozen."""

    def __str__(self) -> str:
        cells = [["  " * row.depth + _titled(row.name, row.layer), *_cells(row, self._unknown)] for row in self.rows]
        left = [i for i, header in enumerate(HEADERS, 1) if header in LEFT]
        return Table(["layer", *HEADERS], cells, left=[0, *left]).text(self._total())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return folded([_branch(row, self._unknown) for row in self.rows], HEADERS, LEFT, self._total())

    @property
    def _unknown(self) -> str:
        """What stands for fields of images that are not known."""
        return "?" if len(as_shapes(self.input_shape)[0]) == 4 else ""

    def _total(self) -> str:
        frozen = self.parameters - self.trainable
        split = f"{self.trainable:,} trainable and {frozen:,} frozen, " if frozen else ""
        return (
            f"{self.parameters:,} parameters, {split}{self.flops / 1e6:,.3f} MFLOPs forward, "
            f"{_bytes(self.memory)} of activations for an input {self.input_shape}"
        )


def summary(model: Layer, input_shape: Shapes) -> Summary:
    """The layers of ``model``, and what becomes of an input of ``input_shape``: (n, c, h, w), or what the model takes.

    Of a model with several inputs it is a tuple of their shapes, and the fields are in pixels of the first.
    ``sees`` is the receptive field, height x width in pixels of the input, and ``jump`` how far apart the fields of
    neighbours are; they count padding, are left out where the input is no image, and ``?`` where a layer of one's own
    does not define ``window``. ``algorithm`` is what a
    convolution uses, forward / input gradient / weight gradient where these differ. Memory is that of the outputs.
    """
    shapes = tuple(map(_checked, as_shapes(input_shape)))
    shape: Shapes = shapes if model.takes_several else shapes[0]
    image = (shapes[0][2], shapes[0][3]) if len(shapes[0]) == 4 else None
    parameters = model.parameters()
    itemsize = parameters[0].dtype.itemsize if parameters else 4
    rows = _rows("", model, shape, ReceptiveField() if image else None, image, 0, itemsize)
    return Summary(
        rows,
        shape,
        sum(parameter.size for parameter in parameters),
        rows[0].flops,
        sum(row.memory for row in rows),
        sum(parameter.size for parameter in parameters if parameter.requires_grad),
    )


def model_html(model: Layer) -> str:
    """A model as a notebook shows it: containers that can be folded, and in them the layers.

    With the columns of its `summary` for the input that it was given last, if there was one and they can be told.
    """
    shape = known_shape(model)
    if shape is not None:
        # A layer of one's own may not tell shapes, and a layer that was replaced may want others.
        with suppress(NotImplementedError, TypeError, ValueError):
            return summary(model, shape)._repr_html_()
    tree = [
        Branch(
            depth,
            _titled(name, type(layer).__name__),
            layer.extra_repr(),
            [f"{sum(p.size for p in layer.parameters()):,}"],
        )
        for depth, name, layer in _tree("", model, 0)
    ]
    return folded(tree, ["parameters"], [])


def _tree(name: str, layer: Layer, depth: int) -> Iterator[tuple[int, str, Layer]]:
    yield depth, name, layer
    for child_name, child in layer.named_children():
        yield from _tree(child_name, child, depth + 1)


def _checked(shape: Shape) -> Shape:
    flat = isinstance(shape, (tuple, list)) and len(shape) != 4
    return shape_of("input_shape", shape, ", ".join("n" * len(shape)) if flat else "n, c, h, w")


def _rows(
    name: str,
    layer: Layer,
    shape: Shapes,
    before: ReceptiveField | None,
    image: tuple[int, int] | None,
    depth: int,
    itemsize: int,
) -> list[Row]:
    shapes = as_shapes(shape)
    output_shape = layer.output_shape(*shapes)
    children = layer.child_inputs(*shapes)
    rows = [
        Row(
            name,
            type(layer).__name__,
            depth,
            output_shape,
            sum(parameter.size for parameter in layer.parameters()),
            layer.flops(*shapes),
            _receptive_field(layer, before, shape, image),
            layer.algorithms(*shapes),
            0 if children else sum(map(math.prod, as_shapes(output_shape))) * itemsize,
            layer.extra_repr(),
        )
    ]
    fields = _fields_within(layer, before, shape, image, len(children))
    for (child_name, child, child_shape), field in zip(children, fields, strict=True):
        rows += _rows(child_name, child, child_shape, field, image, depth + 1, itemsize)
    return rows


def _fields_within(
    layer: Layer, before: ReceptiveField | None, shape: Shapes, image: tuple[int, int] | None, count: int
) -> list[ReceptiveField | None]:
    """Before each child: as far as they are known, in a Sequential up to the first layer that does not tell."""
    if before is None or image is None:
        return [None] * count
    try:
        return list(layer.child_fields(before, shape, image))
    except NotImplementedError:
        if not isinstance(layer, Sequential):
            return [None] * count
    fields: list[ReceptiveField | None] = []
    field: ReceptiveField | None = before
    for _, child, inner in layer.child_inputs(*as_shapes(shape)):
        fields.append(field)
        field = _receptive_field(child, field, inner, image)
    return fields


def _receptive_field(
    layer: Layer, before: ReceptiveField | None, shape: Shapes, image: tuple[int, int] | None
) -> ReceptiveField | None:
    if before is None or image is None:
        return None
    try:
        return layer.receptive_field(before, cast(Shape, shape), image)
    except NotImplementedError:
        return None


def _titled(name: str, kind: str) -> str:
    return f"({name}) {kind}" if name else kind


def _branch(row: Row, unknown: str) -> Branch:
    return Branch(row.depth, _titled(row.name, row.layer), row.detail, _cells(row, unknown))


def _cells(row: Row, unknown: str) -> list[str]:
    algorithms, field = list(row.algorithms.values()), row.receptive_field
    return [
        str(row.output_shape),
        f"{row.parameters:,}",
        f"{row.flops / 1e6:,.3f}",
        "{}x{}".format(*map(math.floor, field.size)) if field else unknown,
        "{}x{}".format(*field.jump) if field and field.jump != (0, 0) else unknown if field is None else "",
        "/".join(algorithms if len(set(algorithms)) > 1 else algorithms[:1]),
        _bytes(row.memory) if row.memory else "",
    ]


def _bytes(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
