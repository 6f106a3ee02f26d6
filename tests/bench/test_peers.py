"""What a peer is asked to compute is what we compute; runs where the peer is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import peers
from bench.conv_rows import PASSES, call_backend, random_operands, reduction_length
from numbacnn import backends
from tests.cases import CONV2D_CASES
from tests.numeric import assert_within

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("g", [g for g in CONV2D_CASES if g.n], ids=lambda g: g.descriptor)
def test_torch_computes_the_same(g: Any) -> None:
    threads = torch.get_num_threads()
    arrays = random_operands(g)
    try:
        functions = peers.load("torch", 1).conv2d(g, *arrays)
        assert torch.get_num_threads() == 1
        for pass_ in PASSES:
            expected = call_backend(
                backends.get("reference"), g, pass_, "auto", [array.astype(np.float64) for array in arrays]
            )
            result = functions[pass_]()
            assert not result.requires_grad
            assert_within(np.asarray(result), expected, reduction_length(g, pass_))
    finally:
        torch.set_num_threads(threads)
