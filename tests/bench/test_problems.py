"""The problems that are measured are ones that every algorithm gets right."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numba
import numpy as np
import pytest

from bench import problems
from bench.conv_rows import PASSES, call_backend, random_operands, reduction_length
from bench.train_contenders import MODELS
from numbacnn import backends, summary
from numbacnn.backends.contract import Backend, ConvPass
from numbacnn.backends.geometry import Conv2dGeometry
from tests.numeric import assert_within

DESCRIPTORS = [descriptor for listed in problems.CONV2D.values() for descriptor in listed]
# The definition takes minutes for the others, which differ from the wide ones in sizes alone.
COMPUTED = [descriptor for descriptor in DESCRIPTORS if descriptor not in problems.CONV2D["deep"]]


@functools.cache
def small(descriptor: str) -> Conv2dGeometry:
    g = problems.parse(descriptor)
    return dataclasses.replace(g, n=min(g.n, 1 if g.h > 100 else 2))


@functools.cache
def definition(g: Conv2dGeometry, pass_: ConvPass) -> np.ndarray:
    arrays = [array.astype(np.float64) for array in random_operands(g)]
    return call_backend(backends.get("reference"), g, pass_, "loops", arrays)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off")
@pytest.mark.parametrize("pass_", PASSES)
@pytest.mark.parametrize("descriptor", COMPUTED)
def test_every_algorithm_is_right(descriptor: str, pass_: ConvPass, backend: Backend) -> None:
    if backend.name == "cuda" and numba.config.ENABLE_CUDASIM:
        pytest.skip("the simulator would take hours")
    g = small(descriptor)
    operands: list[Any] = [backend.asarray(array) for array in random_operands(g)]
    for algorithm in backend.conv2d_algorithms():
        result = backend.to_numpy(call_backend(backend, g, pass_, algorithm, operands))
        assert result.dtype == np.float32
        assert_within(result, definition(g, pass_), reduction_length(g, pass_))


def test_descriptors_are_in_their_shortest_form_and_each_there_once() -> None:
    assert [problems.parse(descriptor).descriptor for descriptor in DESCRIPTORS] == DESCRIPTORS
    assert len(set(DESCRIPTORS)) == len(DESCRIPTORS)


def test_the_wide_layers_are_for_the_gpu_by_default() -> None:
    assert problems.lists_for("cuda") == list(problems.CONV2D)
    assert problems.lists_for("cpu") == ["lenet", "kinds", "depthwise"]
    wide = [problems.parse(descriptor) for descriptor in problems.CONV2D["wide"]]
    assert len({g.macs for g in wide}) == 1


def test_every_kind_is_there() -> None:
    kinds = [problems.parse(descriptor) for descriptor in problems.CONV2D["kinds"]]
    assert any(g.is_pointwise for g in kinds)
    assert any((g.kh, g.sh, g.groups, g.dh) == (3, 1, 1, 1) for g in kinds)
    assert any((g.kh, g.sh) == (3, 2) for g in kinds)
    assert any(g.kh == 5 for g in kinds)
    assert any(g.groups == g.c == g.k for g in kinds)
    assert any(1 < g.groups < g.c for g in kinds)
    assert any(g.c % 2 and g.c > 16 for g in kinds)
    assert any(g.dh > 1 for g in kinds)
    assert any((g.kh, g.sh) == (11, 4) for g in kinds)
    assert [problems.parse(line).y_shape[1:] for line in problems.CONV2D["lenet"]] == [(6, 28, 28), (16, 10, 10)]


def test_the_convolutions_of_the_models_are_those_of_their_summaries() -> None:
    descriptors = problems.of_models(3)
    assert len(set(descriptors)) == len(descriptors)
    assert [problems.parse(descriptor).descriptor for descriptor in descriptors] == descriptors
    assert descriptors[:3] == ["n3c1h28k6r5s1p2", "n3c6h14k16r5s1p0", "n3c1h224k96r11s4p0"]
    with backends.use_backend("reference"):
        model = MODELS["googlenet"].ours()
    shape = (3, *MODELS["googlenet"].image_shape)
    found = list(problems.convolutions(model, shape))
    rows = [row for row in summary(model, shape).rows if row.layer == "Conv2d"]
    assert [(g.y_shape, 2 * g.macs) for g in found] == [(row.output_shape, row.flops) for row in rows]
    assert {g.descriptor for g in found} < set(descriptors)


@pytest.mark.parametrize(
    ("descriptor", "message"),
    [
        ("n2c3", "lacks the fields h, k, r"),
        ("hello", "must be .*letter-number fields"),
        ("n0c3h8k4r3", "batch `n` and the groups `g` must be at least 1"),
        ("n2c3h8k4r3g0", "batch `n` and the groups `g` must be at least 1"),
        ("n2c3h8k4r3g2", "`groups` 2 must divide the 3 channels"),
        ("n2c3h8k0r3", "must not be empty"),
        ("n2c3h8k4r3s0", "`stride`"),
        ("n2c3h2k4r5", "does not fit the padded input 2x2"),
        ("n2c3h8k4r3s9999999999999999999", "every number must be below"),
    ],
)
def test_problems_that_cannot_be_measured(descriptor: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"problem '{descriptor}': .*{message}"):
        problems.parse(descriptor)
