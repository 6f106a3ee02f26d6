"""What a peer is asked to compute is what we compute; runs where the peer is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bench import peers
from bench.command import UserError
from bench.conv_rows import PASSES, call_backend, random_operands, reduction_length
from numbacnn import backends
from tests.cases import CONV2D_CASES
from tests.numeric import assert_within

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("g", [g for g in CONV2D_CASES if g.n], ids=lambda g: g.descriptor)
def test_torch_computes_the_same(g: Any, device: str, one_thread: None) -> None:
    arrays = random_operands(g)
    loaded = peers.load("torch", 1, device)
    assert [peer.name for peer in loaded] == ["torch", "torch-tf32"][: 1 + (device == "cuda")]
    assert torch.get_num_threads() == 1
    for peer in loaded:
        functions = peer.conv2d(g, *arrays)
        for pass_ in PASSES:
            expected = call_backend(
                backends.get("reference"), g, pass_, "auto", [array.astype(np.float64) for array in arrays]
            )
            result = functions[pass_]()
            assert not result.requires_grad
            values = peer.to_numpy(result)
            if peer.bound is None:
                assert_within(values, expected, reduction_length(g, pass_))
            else:
                assert np.abs(values - expected).max() <= peer.bound * np.abs(expected).max()


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch finds a GPU")
def test_without_a_gpu_torch_says_so(one_thread: None) -> None:
    with pytest.raises(UserError, match=r"peer torch .* finds no GPU"):
        peers.load("torch", 1, "cuda")
