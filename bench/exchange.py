"""What crosses ONNX files unchanged: our models in other runtimes, and recorded networks and tests here.

``python -m bench.exchange --help``.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import numbacnn as nc
from numbacnn import models, nn

from . import machine, onnx_suites
from .command import UserError, WrongResultError, exit_code, say
from .report import Table, measured_when, write_results

__all__ = ["MODELS", "RUNTIMES", "ZooModel", "draw_states", "light_section", "main", "models_section", "suites_section"]

RESULTS = Path(__file__).parent / "results"
BATCH, SEVERAL = 2, 8
BOUND = 1e-4
"""How far outputs may be from each other, relative to the largest."""


class ZooModel(NamedTuple):
    """An architecture, and the pictures, or the lines, that it is meant for."""

    build: Callable[[], nn.Layer]
    image_shape: tuple[int, ...]


def _models() -> dict[str, ZooModel]:
    found = {
        "lenet": ZooModel(models.lenet, (1, 28, 28)),
        "lenet, batch norm": ZooModel(functools.partial(models.lenet, batch_norm=True), (1, 28, 28)),
        "nin": ZooModel(models.nin, (1, 224, 224)),
        "efficientnet_lite0": ZooModel(models.efficientnet_lite0, (3, 224, 224)),
        "cifar_resnet": ZooModel(models.cifar_resnet, (3, 32, 32)),
        "mobilenet_v2": ZooModel(models.mobilenet_v2, (3, 224, 224)),
        "squeezenet": ZooModel(models.squeezenet, (3, 224, 224)),
        "shufflenet_v2": ZooModel(models.shufflenet_v2, (3, 224, 224)),
        "unet": ZooModel(functools.partial(models.unet, width=16), (3, 96, 96)),
        "unet, bilinear": ZooModel(functools.partial(models.unet, width=16, up="bilinear"), (3, 96, 96)),
        "unet, the paper's": ZooModel(functools.partial(models.unet, 1, width=16, padding="valid"), (1, 188, 188)),
        "dcgan_generator": ZooModel(models.dcgan_generator, (100, 1, 1)),
        "dcgan_discriminator": ZooModel(models.dcgan_discriminator, (3, 64, 64)),
        "series_fcn": ZooModel(models.series_fcn, (1, 128)),
        "series_resnet": ZooModel(models.series_resnet, (1, 128)),
    }
    for name, options in {"ResNeXt": {"groups": 32, "width_per_group": 4}, "SE": {"se_reduction": 16}}.items():
        build = functools.partial(models.resnet, depth=50, layout="torchvision", **options)
        found[f"resnet, {name}"] = ZooModel(build, (3, 224, 224))
    sizes = {"alexnet": 224, "vgg": 224, "googlenet": 96, "resnet": 96, "densenet": 96}
    for name, size in sizes.items():
        build = getattr(models, name)
        found[name] = ZooModel(build, (1, size, size))
        found[f"{name}, torchvision"] = ZooModel(functools.partial(build, layout="torchvision"), (3, 224, 224))
    return dict(sorted(found.items()))


MODELS = _models()
"""Every architecture of the package in its layouts, with the book's pictures and ImageNet's."""

Compute = Callable[[Path, np.ndarray], np.ndarray]


def _by_onnxruntime(path: Path, x: np.ndarray) -> np.ndarray:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # It warns of each initializer that nothing uses.
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    y: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return y


def _by_openvino(path: Path, x: np.ndarray) -> np.ndarray:
    core = import_module("openvino").Core()
    return np.array(core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0])


def _by_opencv(path: Path, x: np.ndarray) -> np.ndarray:
    net = import_module("cv2").dnn.readNetFromONNX(str(path))
    net.setInput(x)
    return np.array(net.forward())


RUNTIMES: dict[str, Compute] = {"onnxruntime": _by_onnxruntime, "openvino": _by_openvino, "opencv": _by_opencv}
"""What computes the model of a file."""
PACKAGES = {"onnx": "onnx", "onnxruntime": "onnxruntime", "openvino": "openvino", "cv2": "opencv-python-headless"}
"""Distributions by what is imported of them."""

ROWS = Table([("model", -23), ("largest", 8), *((name, 11) for name in RUNTIMES)])


def draw_states(model: nn.Layer, rng: np.random.Generator) -> None:
    """Give ``model`` weights with which features neither vanish nor explode, and statistics that normalise."""
    nn.init.kaiming_normal(model)
    for name, state in (*model.named_buffers(), *model.named_parameters()):
        if name.endswith("running_var"):
            state.value = rng.uniform(0.5, 1.5, state.shape)
        elif len(state.shape) == 1 and not name.endswith("weight"):
            state.value = rng.normal(0, 0.2, state.shape)


def take_statistics(model: nn.Layer, x: np.ndarray) -> None:
    """Normalise by the statistics of ``x``, which takes many pixels; others let features grow from block to block."""
    norms = [layer for layer in model.layers() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    former = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train().forward(x)
    for norm, momentum in zip(norms, former, strict=True):
        norm.momentum = momentum
    model.eval()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.exchange",
        description="Write every model of the package to an ONNX file and compare ONNX Runtime, OpenVINO and OpenCV "
        "with it; then load the networks and tests of the package onnx, and compare what they have recorded.",
        epilog="Takes some minutes. Nothing is written where outputs differ by more than rounding.",
    )
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS), help="default: all")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", default=RESULTS,
                        help="folder for exchange.json (default: bench/results)")  # fmt: skip
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    missing = [distribution for package, distribution in PACKAGES.items() if not _is_there(package)]
    if missing:
        raise UserError(f'{", ".join(missing)} must be installed: pip install "numbacnn[test-onnx]"')
    output = arguments.output_dir
    output.mkdir(parents=True, exist_ok=True)
    say(ROWS.header())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        rows = [_model_row(name, path) for name in arguments.models]
        light = [_light_row(name, path) for name in onnx_suites.light_networks()]
    suites = [_suite_row(suite) for suite in onnx_suites.SUITES]
    facts, versions = machine.describe(), machine.versions(*PACKAGES.values())
    settings = {"backend": "cpu", "dtype": "float32", "batch_size": BATCH, "seed": 0, "runtimes": list(RUNTIMES)}
    write_results(
        output / "exchange.json", "exchange", facts, versions, settings, rows=rows, light=light, suites=suites
    )


def _is_there(package: str) -> bool:
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def _model_row(name: str, path: Path) -> dict[str, Any]:
    """Largest differences of each runtime from us."""
    made = MODELS[name]
    nn.init.manual_seed(0)
    model, rng = made.build(), np.random.default_rng(0)
    draw_states(model, rng)
    x = rng.standard_normal((BATCH, *made.image_shape)).astype(np.float32)
    take_statistics(model, rng.standard_normal((SEVERAL, *made.image_shape)).astype(np.float32))
    y = np.asarray(model.predict(x))
    differences = {}
    for runtime, compute in RUNTIMES.items():
        nc.onnx.save(model, path, x.shape, dynamic_batch=runtime != "opencv")
        differences[runtime] = _difference(compute(path, x), y, f"{runtime}'s outputs of {name}")
    largest = float(np.abs(y).max())
    say(ROWS.line([name, f"{largest:.3g}", *(f"{value:.1e}" for value in differences.values())]))
    return {
        "model": name, "image_shape": list(made.image_shape), "outputs": list(y.shape[1:]), "largest": largest,
        "differences": differences,
    }  # fmt: skip


def _light_row(name: str, path: Path) -> dict[str, Any]:
    """Differences from what is recorded, and with random weights from ONNX Runtime."""
    import onnx

    case = onnx_suites.light_network(name)
    (x,), (recorded,) = case.inputs, case.outputs
    onnx.save(case.proto, path)
    difference = _difference(nc.onnx.load(path).predict(x), recorded, f"outputs of {name}")
    onnx.save(onnx_suites.with_drawn_weights(case.proto), path)
    expected = _by_onnxruntime(path, x)
    drawn = _difference(nc.onnx.load(path).predict(x), expected, f"outputs of {name} with random weights")
    say(f"{name}: {difference:.1e} from what is recorded, {drawn:.1e} with random weights")
    return {
        "network": name.removeprefix("light_"),
        "recorded": float(np.abs(recorded).max()),
        "recorded_values": len(np.unique(recorded)),
        "difference": difference,
        "drawn_largest": float(np.abs(expected).max()),
        "drawn_difference": drawn,
    }


def _suite_row(suite: str) -> dict[str, Any]:
    tally = onnx_suites.run_suite(suite)
    if tally.wrong:
        name, why = next(iter(tally.wrong.items()))
        raise WrongResultError(f"{len(tally.wrong)} tests of {suite} fail, the first is {name}: {why}")
    say(f"{suite}: {tally.passed} passed, {tally.excluded} excluded, of {tally.total}")
    return {"suite": suite, "passed": tally.passed, "excluded": tally.excluded, "total": tally.total}


def _difference(found: Any, expected: Any, what: str) -> float:
    """The largest; WrongResultError where it is more than rounding explains."""
    if found.shape != expected.shape:
        raise WrongResultError(f"{what} have the shape {found.shape}, must have {expected.shape}")
    difference, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    if not difference <= BOUND * largest:
        raise WrongResultError(f"{what} differ by {difference:.2g}, and the largest is {largest:.2g}")
    return difference


def models_section(results: dict[str, Any]) -> str:
    """Our models in other runtimes as Markdown: a row per model."""
    runtimes = results["settings"]["runtimes"]
    lines = [
        f"{_origin(results)} The largest absolute difference from what this package computes, for "
        f"{results['settings']['batch_size']} random pictures and random weights.",
        "",
        f"| model | picture | output | largest output | {' | '.join(runtimes)} |",
        f"|---|---|---|---:|{'---:|' * len(runtimes)}",
    ]
    for row in results["rows"]:
        shapes = ["x".join(map(str, row[name])) for name in ("image_shape", "outputs")]
        cells = [row["model"], *shapes, f"{row['largest']:.3g}"]
        cells += [f"{row['differences'][runtime]:.1e}" for runtime in runtimes]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def light_section(results: dict[str, Any]) -> str:
    """The light networks of the package onnx as Markdown: a row per network."""
    lines = [
        "| network | recorded output | largest difference | with random weights, largest output | "
        "largest difference from ONNX Runtime |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in results["light"]:
        several = row["recorded_values"]
        recorded = f"{row['recorded']:.3g}{' everywhere' if several == 1 else f', {several} values'}"
        cells = [row["network"], recorded, f"{row['difference']:.1e}"]
        cells += [f"{row['drawn_largest']:.3g}", f"{row['drawn_difference']:.1e}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def suites_section(results: dict[str, Any]) -> str:
    """The test suites of the package onnx as Markdown: a row per suite."""
    lines = ["| suite | passed | excluded | tests |", "|---|---:|---:|---:|"]
    lines += [f"| {row['suite']} | {row['passed']} | {row['excluded']} | {row['total']} |" for row in results["suites"]]
    return "\n".join(lines)


def _origin(results: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"{results['machine']['cpu']}; {versions}; {measured_when(results)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 for a wrong result, 2 for what the user can put right."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
