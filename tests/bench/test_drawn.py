"""Networks drawn from a seed are the same ones each time, and of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from bench import drawn
from numbacnn import nn, use_backend


def test_a_seed_stands_for_its_networks() -> None:
    found = [drawn.draw(3, number) for number in range(len(drawn.KINDS))]
    assert found == [drawn.draw(3, number) for number in range(len(drawn.KINDS))]
    assert len({network.text for network in [*found, *(drawn.draw(4, n) for n in range(7))]}) == 14
    assert [network.name for network in found] == [f"{kind}-3.{n}" for n, kind in enumerate(drawn.KINDS)]
    # what the generator of NumPy gives, whatever machine it runs on
    assert drawn.draw(0, 2).text.startswith("1x96x96: conv 16 3 2 | residual 24 2 | residual 24 1 | residual 36 2 |")


@pytest.mark.parametrize("seed", [0, 1, 11])
@pytest.mark.parametrize("number", range(len(drawn.KINDS)))
def test_a_drawn_network_is_of_its_size_and_runs(seed: int, number: int) -> None:
    network = drawn.draw(seed, number)
    with use_backend("reference"):
        model = drawn.network_of(network.text)
    shape = (2, *network.image_shape)
    assert model.output_shape(shape) == (2, drawn.CLASSES)
    assert drawn.FLOPS[0] <= model.flops((1, *network.image_shape)) <= drawn.FLOPS[1]
    if seed == 0:
        assert np.isfinite(model.eval()(np.zeros(shape, np.float32))).all()


def test_what_the_kinds_are_made_of() -> None:
    def layers(kind: str) -> set[type]:
        text = drawn.draw(0, list(drawn.KINDS).index(kind)).text
        with use_backend("reference"):
            return {type(layer) for layer in drawn.network_of(text).layers()}

    assert nn.BatchNorm2d not in layers("plain") | layers("fire")
    assert {nn.Add, nn.BatchNorm2d} <= layers("residual") & layers("bottleneck") & layers("inverted")
    assert nn.Concat in layers("fire") and nn.DenseBlock in layers("dense")
    with use_backend("reference"):
        separable = drawn.network_of("3x32x32: conv 8 3 1 | separable 12 5 2 | head 10")
    assert [layer.groups for layer in separable if isinstance(layer, nn.Conv2d)] == [1, 8, 1]
    assert separable.output_shape((1, 3, 32, 32)) == (1, 10)


def test_an_unknown_block() -> None:
    with pytest.raises(ValueError, match=r"`text` has a block 'mix', must have conv, plain, .*: '1x8x8: mix 3'"):
        drawn.network_of("1x8x8: mix 3")
