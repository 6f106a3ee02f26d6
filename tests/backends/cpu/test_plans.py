"""How a convolution is cut up: what was measured to be the faster way is what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu.convolution import bands, direct_data, direct_weight_plan
from numbacnn.backends.cpu.convolution.correlation import forward_correlation, forward_strides
from numbacnn.backends.cpu.runtime import machine_code
from numbacnn.backends.cpu.vector import tiles
from numbacnn.backends.cpu.vector.simd import REGISTERS, VECTOR_BYTES
from numbacnn.backends.geometry import Conv2dGeometry

LANES = VECTOR_BYTES // 4

pytestmark = pytest.mark.skipif((REGISTERS, LANES) != (32, 16), reason="the measurements are of AVX-512")


def plan_of(descriptor: str) -> direct_data._Plan:
    g = Conv2dGeometry.parse(descriptor)
    return direct_data.plan_of(
        direct_data.Problem(forward_correlation(g), forward_strides(g), g.n, g.c, g.k, g.c, 1, 4)
    )


@pytest.mark.parametrize("vectors", [5, 7])
def test_a_pixel_of_few_vectors_is_one_panel(vectors: int) -> None:
    plan = plan_of(f"n4c64h14k{vectors * LANES}r3s1p1")
    assert not plan.by_positions
    assert plan.vectors == vectors


@pytest.mark.parametrize("descriptor", ["n1c40h12k80r1s1p0", "n1c128h28k24r1s1p0", "n16c256h10k20r1s1p0"])
def test_images_are_not_transposed_for_short_sums(descriptor: str) -> None:
    assert not plan_of(descriptor).by_positions


def test_images_are_transposed_for_long_sums_of_few_outputs() -> None:
    plan = plan_of("n16c64h16k12r3s1p1")
    assert plan.by_positions
    assert plan.vectors <= 4


def test_few_outputs_and_many_inputs_change_places() -> None:
    assert direct_weight_plan.plan_of(Conv2dGeometry.parse("n16c64h16k12r3s1p1"), 4).by_inputs
    assert not direct_weight_plan.plan_of(Conv2dGeometry.parse("n16c12h16k64r3s1p1"), 4).by_inputs


def test_unevenness_is_of_the_busier_core() -> None:
    assert bands.unevenness((4, 3)) == 1
    assert bands.unevenness((3, 1)) == pytest.approx(4 / 3)
    assert bands.unevenness((1, 14), (1, 2)) == pytest.approx(28 / 16)
    assert bands.unevenness((2, 4), (1, 2)) == pytest.approx(12 / 10)
    assert bands.unevenness((0, 1)) == 1


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
def test_machine_code_is_held_together() -> None:
    """A holder for each microkernel took a megabyte and a half."""
    for tile in map(tiles.gathering_tile, (1, 2), (1, 1)):
        for kind in "fd":
            assert tile.address(np.dtype(kind))
    assert len(machine_code._engines) == 1
