"""What a peer is asked to compute is what we compute; runs where the peer is installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench import peers, train
from bench.command import UserError
from bench.contender import largest_difference
from bench.conv_rows import PASSES, call_backend, random_operands, reduction_length
from bench.model_contenders import images
from bench.precision import LAYOUTS, Ways, bounded
from bench.torch_conv import TorchConv
from bench.train_contenders import MODELS, Task
from numbacnn import backends, use_backend
from numbacnn.backends.geometry import Conv2dGeometry
from tests.cases import CONV2D_CASES
from tests.numeric import assert_within

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own


def installed(name: str) -> bool:
    return all(importlib.util.find_spec(package) for package in peers.PACKAGES[name])


@pytest.fixture
def torch() -> Iterator[Any]:
    package = pytest.importorskip("torch")
    threads = package.get_num_threads()
    try:
        yield package
    finally:
        package.set_num_threads(threads)


@pytest.mark.torch
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("g", [g for g in CONV2D_CASES if g.n], ids=lambda g: g.descriptor)
def test_torch_computes_the_same(g: Any, device: str, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")
    # Compiling takes a second for each.
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    arrays = random_operands(g)
    loaded = peers.load(["torch"], 1, device)
    assert torch.get_num_threads() == 1
    eager = ["torch", "torch channels_last"]
    compiled = ["torch.compile", "torch.compile frozen"] * (device == "cpu")
    with loaded.case():
        makers = loaded.conv2d(g, *arrays)
        assert {pass_: list(found) for pass_, found in makers.items()} == {
            "forward": eager + compiled, "backward_input": eager, "backward_weight": eager
        }  # fmt: skip
        for pass_ in PASSES:
            expected = call_backend(
                backends.get("reference"), g, pass_, "loops", [array.astype(np.float64) for array in arrays]
            )
            for name, make in makers[pass_].items():
                peer = make()
                result = peer.run()
                assert (peer.precision, peer.layout) == ("float32", LAYOUTS["channels_last" in name])
                assert (peer.sample is None) == (device == "cuda" or name in compiled)
                assert peer.sample is None or 0 < peer.sample() < 60
                values = peer.to_numpy(result)
                if peer.bound is None:
                    assert_within(values, expected, reduction_length(g, pass_))
                else:
                    assert np.abs(values - expected).max() <= peer.bound * np.abs(expected).max()


@pytest.mark.torch
def test_torch_computes_in_bfloat16(torch: Any) -> None:
    loaded = peers.load(["torch"], 1, "cpu", Ways(("float32", "bf16"), runs=("eager",)))
    g = Conv2dGeometry.parse("n2c3h7w6k6r3s2p1pb2")
    arrays = random_operands(g)
    with loaded.case():
        alone = loaded.conv2d(g, *arrays)["forward"]["torch-bf16 channels_last"]()
        expected = call_backend(backends.get("reference"), g, "forward", "loops", arrays)
        assert 1e-4 < largest_difference(alone.to_numpy(alone.run()), expected) < bounded("bf16") == alone.bound
        assert (alone.precision, alone.layout) == ("bf16", "channels_last")
    for kind in TorchConv.kinds(torch, "cpu", Ways(("bf16",))):
        assert kind.name == "torch-bf16" + " channels_last" * (kind.layout == "channels_last")
        for pass_, compute in kind.conv2d(g, *arrays).items():
            result = compute()
            assert result.dtype == torch.bfloat16
            expected = call_backend(backends.get("reference"), g, pass_, "loops", arrays)
            assert 1e-4 < largest_difference(kind.to_numpy(result), expected) < bounded("bf16")
    task = Task(MODELS["lenet"], 2, 2)
    with use_backend("reference"):
        logits = task.network().eval()(images(task))
    makers = loaded.inference(task, images(task))
    assert list(makers) == [
        *("torch", "torch channels_last", "torch-bf16", "torch-bf16 channels_last"),
    ]
    for make in list(makers.values())[2:]:
        contender = make()
        assert (contender.precision, contender.bound) == ("bf16", bounded("bf16"))
        assert 1e-5 < largest_difference(contender.to_numpy(contender.run()), logits) < bounded("bf16")
    trained = []
    for make in loaded.training(replace(task, examples=8)).values():
        trainer = make()
        loss = train.one_epoch(trainer, 0)[1]
        weights = trainer._model.state_dict()["0.weight"]
        assert weights.dtype == torch.float32
        trained.append((trainer.name, loss, weights))
    assert [name for name, *_ in trained] == list(makers)
    for (_, loss, weights), (_, exact, its) in zip(trained[2:], trained[:2], strict=True):
        assert 0 < abs(loss - exact) < 0.1 * exact
        assert 0 < (weights - its).abs().max() < 0.1 * its.abs().max()


@pytest.mark.torch
def test_weights_are_frozen_and_each_case_is_compiled_anew(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options, resets = [], []

    def compile(model: Any, **given: Any) -> Any:
        options.append(given)
        return model

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(torch._dynamo, "reset", lambda: resets.append(1))
    loaded = peers.load(["torch"], 1)
    task = Task(MODELS["lenet"], 2, 2)
    for _ in range(2):
        with loaded.case():
            found = {name: make() for name, make in loaded.inference(task, images(task)).items()}
    assert list(found) == ["torch", "torch channels_last", "torch.compile", "torch.compile frozen"]
    assert options == [{}, {"options": {"freezing": True}}] * 2
    assert len(resets) == 2
    first = found["torch"].to_numpy(found["torch"].run())
    for other in found.values():
        np.testing.assert_allclose(other.to_numpy(other.run()), first, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "mnn", "ncnn"])
def test_a_library_alone_in_its_process_computes_the_same(name: str) -> None:
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    loaded = peers.load([name], 1)
    size = 1 if name in peers.ONE_IMAGE else 2
    task = Task(MODELS["lenet"], size, size)
    assert loaded.only_infer == [name] and loaded.training(task) == {}
    with use_backend("reference"):
        expected = task.network().eval()(images(task))
    g = Conv2dGeometry.parse(f"n{size}c4h7w6k6r3s2p1pb2g2")
    arrays = random_operands(g)
    with loaded.case():
        for make, values in (
            (loaded.inference(task, images(task))[name], expected),
            (loaded.conv2d(g, *arrays)["forward"][name], call_backend(
                backends.get("reference"), g, "forward", "loops", arrays)),
        ):  # fmt: skip
            peer = make()
            assert peer.sample is not None and 0 < peer.sample() < 60
            result = peer.run()
            assert largest_difference(result, np.asarray(values)) < 1e-5
    with pytest.raises((RuntimeError, ValueError)):
        peer.run()  # the process has ended with the case


def test_a_library_without_batches_is_asked_for_single_images() -> None:
    if not installed("ncnn"):
        pytest.skip("ncnn is not installed")
    loaded = peers.load(["ncnn"], 1)
    for size, expected in ((1, ["ncnn"]), (2, [])):
        task = Task(MODELS["lenet"], size, size)
        assert list(loaded.inference(task, images(task))) == expected


def test_all_are_those_that_are_installed_and_the_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    loaded = peers.load(["all"], 1)
    assert set(loaded.names) | loaded.missing.keys() == set(peers.NAMES) - set(peers.OF_GPU)
    for name in ("onnxruntime", "openvino"):
        assert loaded.missing[name].startswith(f"peer {name} cannot be imported (")
    with pytest.raises(ImportError, match=r'peer onnxruntime cannot be imported .*: pip install "numbacnn\[bench\]"'):
        peers.load(["onnxruntime"], 1)


@pytest.mark.torch
def test_without_a_gpu_torch_says_so(torch: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("PyTorch finds a GPU")
    with pytest.raises(UserError, match=r"peer torch .* finds no GPU"):
        peers.load(["torch"], 1, "cuda")
