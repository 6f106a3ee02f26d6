"""What is saved is what the package `onnx` accepts and what other runtimes compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from tests.models.variants import ALL
from tests.onnx.test_save import drawn, shapes_of
from tests.registry import ENTRIES
from tests.registry.test_layers import cases, made, passes

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

TOLERANCE = 1e-4


def by_runtime(path: Path, *inputs: np.ndarray) -> list[np.ndarray]:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {one.name: x for one, x in zip(session.get_inputs(), inputs, strict=True)}))


def check(path: Path) -> None:
    onnx.checker.check_model(onnx.load(path), full_check=True)


def assert_near(found: Any, expected: Any, what: str = "") -> None:
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale, err_msg=what)


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("name", ENTRIES)
def test_every_layer_in_onnx_runtime(tmp_path: Path, name: str, opset: int) -> None:
    path = tmp_path / "layer.onnx"
    for seed, case in enumerate(cases(name, np.float32, 4)):
        layer = made(case, seed).eval()
        nc.onnx.save(layer, path, shapes_of(case), opset=opset)
        check(path)
        assert_near(by_runtime(path, *case.inputs)[0], passes(layer, case.inputs, False)["y"], repr(layer))


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
        nn.AvgPool2d((3, 2), 3, padding=1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(3, 2, ceil_mode=True, divisor_override=4),
        nn.AvgPool1d(3, 2, padding=1, ceil_mode=True),
        nn.MaxPool2d(3, 2, padding=((0, 1), (1, 0)), ceil_mode=True),
        nn.MaxPool2d(2, 2, dilation=2, ceil_mode=True),
        nn.LPPool2d(2, 3, 2, ceil_mode=True),
        nn.LPPool2d(3, 2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding=2, padding_mode="reflect"),
        nn.Conv2d(4, 4, (2, 4), padding="same_lower"),
        nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(4, 4, 2, padding=1, dilation=3, output_padding=2),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.AdaptiveMaxPool2d((3, 4)),
        nn.Upsample(size=(15, 6)),
        nn.Upsample(scale_factor=(1.5, 0.7), mode="bilinear"),
        nn.Upsample(scale_factor=1.4, mode="bilinear", align_corners=True),
        nn.LocalResponseNorm(4, k=2.0),
        nn.BatchNorm2d(4, track_running_stats=False),
    ],
    ids=repr,
)
def test_settings_for_which_there_is_no_attribute(tmp_path: Path, layer: nn.Layer) -> None:
    lines = isinstance(layer, nn.AvgPool1d)
    x = np.abs(np.random.default_rng(0).standard_normal((2, 4, 10) if lines else (2, 4, 10, 8))).astype(np.float32)
    path = tmp_path / "layer.onnx"
    nc.onnx.save(layer, path, x.shape)
    check(path)
    expected = layer.eval()(x)
    assert_near(by_runtime(path, x)[0], expected)
    assert_near(nc.onnx.load(path)(x), expected)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("fold", [False, True])
def test_every_model_in_onnx_runtime(tmp_path: Path, name: str, fold: bool) -> None:
    model, x = drawn(name, np.float32)
    path = tmp_path / "model.onnx"
    nc.onnx.save(model, path, x.shape, fold_batch_norm=fold)
    check(path)
    expected = model(x)
    assert_near(by_runtime(path, x)[0], expected)
    assert_near(by_runtime(path, np.concatenate([x, x]))[0], np.concatenate([expected, expected]))


@pytest.mark.parametrize("name", ALL)
def test_every_model_in_openvino(tmp_path: Path, name: str) -> None:
    openvino = pytest.importorskip("openvino")
    model, x = drawn(name, np.float32)
    nc.onnx.save(model, tmp_path / "model.onnx", x.shape)
    core = openvino.Core()
    compiled = core.compile_model(str(tmp_path / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_near(compiled(x)[0], model(x))


@pytest.mark.parametrize("name", ALL)
def test_every_model_in_opencv(tmp_path: Path, name: str) -> None:
    cv2 = pytest.importorskip("cv2")
    model, x = drawn(name, np.float32)
    nc.onnx.save(model, tmp_path / "model.onnx", x.shape, dynamic_batch=False)
    net = cv2.dnn.readNetFromONNX(str(tmp_path / "model.onnx"))
    net.setInput(x)
    assert_near(net.forward(), model(x))
