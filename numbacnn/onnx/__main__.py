"""``python -m numbacnn.onnx FILE``: what is in an ONNX file, what is not supported, what it says of an image."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..command_line import Parser, UserError, number, one_line, path, printable, run_command, say, sizes
from ..data import DataFileError, read_image
from ..nn.state import Shape, as_shapes
from .messages import Model, ValueInfo, read_model
from .reader import Import
from .tensors import name_of_type

__all__ = ["main", "new_parser"]

MOST_PRINTED = 5


def _described(info: ValueInfo) -> str:
    of_tensor = info.type.tensor_type if info.type else None
    if of_tensor is None:
        return f"{info.name}: no tensor"
    sizes = "of any shape" if of_tensor.shape is None else ""
    if of_tensor.shape is not None:
        sizes = ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in of_tensor.shape.dim).join("()")
    return f"{info.name} {sizes} {name_of_type(of_tensor.elem_type)}"


def _lines_of_file(file: Path, model: Model) -> list[str]:
    graph = model.graph
    assert graph is not None
    initializers = {tensor.name for tensor in graph.initializer}
    operators = Counter(node.op_type for node in graph.node)
    versions = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    producer = " ".join(filter(None, (model.producer_name, model.producer_version))) or "nobody says"
    return [
        f"{file}: {file.stat().st_size:,} bytes, IR version {model.ir_version}, written by {producer}",
        f"operators of {versions}: " + ", ".join(f"{count} {name}" for name, count in operators.most_common()),
        *[f"input {_described(info)}" for info in graph.input if info.name not in initializers],
        *[f"output {_described(info)}" for info in graph.output],
    ]


def _table(graph: nn.Graph, shapes: Sequence[Shape]) -> list[str]:
    """A line for each layer: name, layer, where its inputs come from, shape of the output, parameters, FLOPs."""
    rows = [("name", "layer", "inputs", "output shape", "parameters", "MFLOPs")]
    for name, layer, inner in graph.child_inputs(*shapes):
        given = as_shapes(inner)
        rows.append(
            (
                name,
                " ".join(repr(layer).split()),
                ", ".join(map(str, graph.sources(name))),
                str(layer.output_shape(*given)),
                f"{sum(parameter.size for parameter in layer.parameters()):,}",
                f"{layer.flops(*given) / 1e6:,.3f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths[:4], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[4:], widths[4:], strict=True)]
        lines.append("  ".join(cells))
    count = sum(parameter.size for parameter in graph.parameters())
    return [*lines, f"{count:,} parameters, {graph.flops(*shapes) / 1e6:,.3f} MFLOPs for inputs {list(shapes)}"]


def _input_of_image(file: Path, shape: tuple[int, ...], mean: Sequence[float], std: Sequence[float]) -> Any:
    """The picture in a file as what the model takes, (1, c, h, w), scaled to 0..1 and normalised."""
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise UserError(f"--run {file}: the model takes {shape}, which is no image of 1 or 3 channels")
    try:
        pixels = read_image(file, (shape[2], shape[3]), shape[1]).astype(np.float32) / 255
    except (DataFileError, ImportError) as error:
        raise UserError(f"--run {file}: {one_line(error)}") from error
    factors = [np.asarray(values, np.float32).reshape(-1, 1, 1) for values in (mean, std)]
    for option, values in zip(("--mean", "--std"), factors, strict=True):
        if len(values) not in (1, shape[1]) or (option == "--std" and not np.all(values)):
            listed = " ".join(f"{value:g}" for value in values.ravel())
            rule = f"must be 1 or {shape[1]} numbers{', not 0' if option == '--std' else ''}"
            raise UserError(f"{option} {listed}: {rule}")
    return ((pixels - factors[0]) / factors[1])[None]


def _lines_of_outputs(outputs: Any) -> list[str]:
    lines = []
    for i, y in enumerate(outputs if isinstance(outputs, tuple) else (outputs,)):
        scores = np.asarray(y)[0].reshape(-1)
        best = np.argsort(-scores, kind="stable")[:MOST_PRINTED]
        lines.append(f"output {i} {np.shape(y)}: the largest of {scores.size} numbers")
        lines += [f"  {index:6d}  {scores[index]:.6g}" for index in best.tolist()]
    return lines


def new_parser(program: str) -> Parser:
    """The options of the command."""
    parser = Parser(program, "What is in an ONNX file, what is not supported, what it says of an image.")
    add = parser.add_argument
    add("file", type=path, metavar="FILE", help="an ONNX file")
    add("--shape", type=sizes, help="of the input, where the file leaves it open: 1,3,224,224")
    add("--run", type=path, metavar="IMAGE", help="run the model on a picture (needs Pillow)")
    add("--mean", type=number(), nargs="+", default=[0.0], help="taken away from pixels of 0..1")
    add("--std", type=number(), nargs="+", default=[1.0], help="that these are then divided by")
    return parser


def _examine(arguments: argparse.Namespace) -> int:
    """Print all that can be told of the file."""
    lines: list[str] = []
    failed = 0
    try:
        model = read_model(arguments.file)
        lines += _lines_of_file(arguments.file, model)
        loaded = Import(model, arguments.file, arguments.shape)
        layers: nn.Graph = loaded.graph()
        shapes = loaded.shapes
        lines += ["", *_table(layers, shapes)]
        if arguments.run is not None:
            image = _input_of_image(arguments.run, shapes[0], arguments.mean, arguments.std)
            lines += ["", *_lines_of_outputs(layers.predict(image))]
    except ValueError as error:
        lines.append(str(error))
        failed = 1
    # A file's names may hold what the terminal's encoding has no sign for.
    say(printable("\n".join(lines)))
    return failed


def main(argv: Sequence[str] | None = None, program: str = "python -m numbacnn.onnx") -> int:
    """Print what is in the file; 1 where something in it is wrong or not supported, and then what."""
    arguments = new_parser(program).parse_args(argv)
    return run_command(lambda: _examine(arguments))


if __name__ == "__main__":
    sys.exit(main())
