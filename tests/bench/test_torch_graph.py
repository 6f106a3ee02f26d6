"""A model's modules in PyTorch compute what the model does; runs where PyTorch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import drawn
from numbacnn import nn, use_backend

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # the package's own

from bench.torch_graph import to_torch  # noqa: E402

LAYERS = (
    "3x12x11",
    lambda: nn.Sequential(
        *(nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False), nn.Tanh()),
        *(nn.MaxPool2d((2, 3), stride=1, padding=(1, 0), dilation=(2, 1)), nn.BatchNorm2d(4), nn.Sigmoid()),
        *(nn.Add(nn.Identity(), nn.Conv2d(4, 4, 3, padding=1, groups=2)), nn.AvgPool2d(3, 2, padding=1)),
        *(nn.AvgPool2d(2, padding=1, count_include_pad=False), nn.Dropout(0.25), nn.Flatten(), nn.Linear(32, 5)),
    ),
)


@pytest.mark.parametrize("number", [*range(len(drawn.KINDS)), None])
def test_the_modules_compute_what_the_model_does(number: int | None) -> None:
    rng = np.random.default_rng(0)
    with use_backend("reference"):
        model: Any = LAYERS[1]() if number is None else drawn.network_of(drawn.draw(0, number).text)
    shape = (3, 12, 11) if number is None else drawn.draw(0, number).image_shape
    x = rng.standard_normal((2, *shape), np.float32)
    module = to_torch(model)
    module.load_state_dict({key: torch.from_numpy(array) for key, array in model.state_dict().items()})
    with torch.no_grad():
        y = module.eval()(torch.from_numpy(x)).numpy()
    expected = model.eval()(x)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layer", [lambda: nn.Conv2d(1, 1, 3, padding=((0, 1), (0, 0))), lambda: nn.BatchNorm1d(3)])
def test_a_layer_without_a_counterpart(layer: Any) -> None:
    with use_backend("reference"), pytest.raises(TypeError, match="has no counterpart in PyTorch"):
        to_torch(layer())
