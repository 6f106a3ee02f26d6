"""A model's ONNX graph computes what the model does; runs where onnx and ONNX Runtime are installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import nn, use_backend
from tests.models.variants import BOOK

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own

from bench.onnx_graph import to_onnx  # noqa: E402

LAYERS = nn.Sequential(
    *(nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=((0, 1), (2, 1)), dilation=(1, 2), bias=False), nn.Tanh()),
    *(nn.MaxPool2d((2, 3), stride=1, padding=(1, 0), dilation=(2, 1)), nn.BatchNorm2d(4)),
    *(nn.Add(nn.Identity(), nn.Conv2d(4, 4, 3, padding=1, groups=2)), nn.AvgPool2d(3, 2, padding=1)),
    *(nn.AvgPool2d(2, padding=1, count_include_pad=False), nn.Flatten(), nn.Linear(24, 5, bias=False)),
    nn.BatchNorm1d(5),
)


@pytest.mark.parametrize("name", [*BOOK, "layers"])
def test_the_graph_computes_what_the_model_does(name: str) -> None:
    build, shape = BOOK.get(name, (lambda: LAYERS, (2, 3, 12, 11)))
    rng = np.random.default_rng(0)
    with use_backend("reference"):
        model: Any = build().to("reference")
    state = model.state_dict()
    for key, array in state.items():
        if array.ndim == 1:
            state[key] = rng.uniform(0.5, 1.5, array.shape)
    model.load_state_dict(state)
    x = rng.standard_normal(shape, np.float32)
    session = runtime.InferenceSession(to_onnx(model, shape).SerializeToString())
    expected = model.eval()(x)
    (y,) = session.run(None, {"x": x})
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_layer_without_a_counterpart() -> None:
    with use_backend("reference"):
        layer = nn.MaxPool2d(2, ceil_mode=True)
    with pytest.raises(TypeError, match=r"MaxPool2d\(.*ceil_mode=True\) has no counterpart"):
        to_onnx(layer, (1, 1, 5, 5))
