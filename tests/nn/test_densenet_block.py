"""Dense blocks: the layers share one array, and nobody sees it."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, ops, optim
from numbacnn.backends import Backend
from numbacnn.models.densenet import dense_block
from numbacnn.training import TrainingStep
from tests.quick import reference_by_default as reference_by_default
from tests.recorder import Recorder
from tests.strategies import SIMULATED

GROWTH = 2
Block = Callable[..., nn.Layer]


def concatenated(*layers: nn.Layer) -> nn.Sequential:
    """What a dense block computes, written out."""
    return nn.Sequential(*(nn.Concat(nn.Identity(), layer) for layer in layers))


def copying(*layers: nn.Layer) -> nn.DenseBlock:
    """A dense block of layers that may do anything, and so get copies."""
    for layer in layers:
        vars(layer)["forward"] = layer.forward
    return nn.DenseBlock(*layers)


def layer(channels: int, *body: nn.Layer, dtype: Any = np.float32) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels, dtype=dtype), *body)


def convolution(channels: int, dtype: Any = np.float32) -> nn.Conv2d:
    return nn.Conv2d(channels, GROWTH, 3, padding=1, algorithm="loops" if SIMULATED else "auto", dtype=dtype)


def dense(block: Block = nn.DenseBlock, layers: int = 3, dtype: Any = np.float32) -> nn.Sequential:
    """From 3 channels, with a layer before the block and one after it that depend on each other's values."""
    nn.init.manual_seed(0)
    channels = [3 + GROWTH * i for i in range(layers + 1)]
    inside = [layer(c, nn.ReLU(), convolution(c, dtype), dtype=dtype) for c in channels[:-1]]
    return nn.Sequential(nn.Tanh(), block(*inside), nn.BatchNorm2d(channels[-1], dtype=dtype), nn.ReLU())


def images(n: int = 2, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, 3, 2, 3)).astype(dtype)


def results(model: nn.Layer, x: Any, input_gradient: bool = True) -> list[np.ndarray]:
    """What both passes give and leave behind."""
    y = model(x)
    dx = model.backward(np.cos(np.asarray(y)), input_gradient=input_gradient)
    states = [*(p.grad for p in model.parameters()), *(buffer.value for _, buffer in model.named_buffers())]
    return [np.asarray(array) for array in (y, *[dx] * input_gradient, *states)]


def assert_same(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for array, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(array, other)
        assert array.dtype == other.dtype


@pytest.mark.parametrize("block", [nn.DenseBlock, copying])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("input_gradient", [True, False])
def test_the_same_bits_as_written_out(backend: Backend, block: Block, dtype: Any, input_gradient: bool) -> None:
    for n in (2, 0):
        x = images(n, dtype)
        actual = results(dense(block, dtype=dtype), x, input_gradient)
        assert_same(actual, results(dense(concatenated, dtype=dtype), x, input_gradient))


def test_a_block_that_is_the_whole_model(backend: Backend) -> None:
    for input_gradient in (True, False):
        pair = [results(dense(block)[1], images(), input_gradient) for block in (nn.DenseBlock, concatenated)]
        assert_same(*pair)


@pytest.mark.skipif(SIMULATED, reason="the same, with more convolutions")
@pytest.mark.parametrize("bottleneck", [True, False])
def test_the_blocks_of_densenet(backend: Backend, bottleneck: bool) -> None:
    x, pair = np.random.default_rng(0).standard_normal((2, 5, 6, 7)), []
    for change in (lambda block: block, lambda block: concatenated(*block)):
        nn.init.manual_seed(0)
        pair.append(results(change(dense_block(4, 5, 3, bottleneck, dtype=np.float64)), x))
    assert_same(*pair)


def test_evaluation_and_frozen_norms(backend: Backend) -> None:
    models = [dense(), dense(concatenated)]
    for model in models:
        model(images(4))
    for mode in ("evaluation", "frozen", "layer frozen", "prediction", "folded"):
        pair = []
        for model in models:
            model.train()
            norms = [layer for layer in model.layers() if isinstance(layer, nn.BatchNorm2d)]
            for norm in norms:
                norm.train(mode != "frozen")
            if mode == "evaluation":
                with nn.enable_grad():
                    pair.append(results(model.eval(), images()))
            elif mode == "prediction":
                pair.append([np.asarray(model.predict(images(5), batch_size=2))])
                with pytest.raises(RuntimeError, match="after `forward` in evaluation mode"):
                    model.backward(np.ones((1, 9, 2, 3)))
            elif mode == "folded":
                pair.append([np.asarray(nn.fold_batch_norm(model)(images()))])
            else:
                if mode == "layer frozen":
                    norms[1].eval()
                pair.append(results(model, images()))
        assert_same(*pair)


def test_what_was_returned_stays(backend: Backend) -> None:
    block = dense()[1]
    first, second = block(images(2)), None
    before = np.array(first)
    block.drop_saved()
    x = backend.asarray(images(4)[:2])
    second = block(x)
    np.testing.assert_array_equal(x, images(4)[:2])
    np.testing.assert_array_equal(first, before)
    dy = backend.asarray(np.ones(second.shape, np.float32))
    gradients = [np.array(gradient) for gradient in (block.backward(dy), block.backward(dy))]
    assert_same(*([gradient] for gradient in gradients))
    np.testing.assert_array_equal(dy, np.ones(second.shape))
    np.testing.assert_array_equal(first, before)


def test_an_empty_block_is_the_identity(backend: Backend) -> None:
    block, x = nn.DenseBlock(), images()
    y = block(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(block.backward(y), x)
    assert block.backward(y, input_gradient=False) is None
    assert block.output_shape((2, 3, 4, 5)) == (2, 3, 4, 5)


def test_the_dtype_is_that_of_the_weights(backend: Backend) -> None:
    y = dense()[1](images(dtype=np.float64))
    assert y.dtype == np.float32
    mixed = nn.DenseBlock(layer(3, convolution(3)), layer(5, convolution(5, np.float64), dtype=np.float64))
    assert [array.dtype for array in results(mixed, images())[:2]] == [np.float32] * 2


class Wrong(nn.ReLU):
    """Another shape than it says."""

    def forward(self, x):
        return ops.concat([x, x], backend=self.backend)


class Silent(nn.ReLU):
    """Does not say which shape."""

    def output_shape(self, shape):
        raise NotImplementedError("no shape")


@pytest.mark.parametrize(
    ("make", "shape", "error", "message"),
    [
        (dense, (2, 4, 2, 3), ValueError, r"the input of BatchNorm2d\(3, .*must have \(n, c, h, w\) with c = 3"),
        (dense, (2, 3), ValueError, r"the input of DenseBlock has shape \(2, 3\), must have \(n, c, h, w\)"),
        (dense, (1, 3, 1, 1), ValueError, "must hold more than one value per channel in training"),
        (
            lambda: nn.DenseBlock(layer(3, convolution(3)), layer(6, convolution(6))),
            (2, 3, 2, 3),
            ValueError,
            r"layer '1\.0', BatchNorm2d.*with c = 6",
        ),
        (
            lambda: nn.DenseBlock(nn.MaxPool2d(2)),
            (2, 3, 2, 3),
            ValueError,
            r"layer '0' of DenseBlock gives the shape \(2, 3, 1, 1\), must give \(2, c, 2, 3\)",
        ),
        (lambda: nn.DenseBlock(nn.Flatten()), (2, 3, 2, 3), ValueError, "layer '0' of DenseBlock gives the shape"),
        (
            lambda: nn.DenseBlock(layer(3, convolution(3), Wrong())),
            (2, 3, 2, 3),
            ValueError,
            r"layer '0', Sequential.*`y` \(2, 4, 2, 3\) must have the shape \(2, 2, 2, 3\) that `output_shape` says",
        ),
        (lambda: nn.DenseBlock(layer(3, Silent())), (2, 3, 2, 3), NotImplementedError, "layer '0.1', Silent"),
    ],
)
def test_errors_name_the_layer(
    backend: Backend, make: Callable[[], nn.Layer], shape: tuple[int, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()(np.ones(shape, np.float32))


def test_backward_needs_a_forward_pass_of_its_own(backend: Backend) -> None:
    block = dense()[1]
    with pytest.raises(RuntimeError, match=r"`backward` called before `forward` on DenseBlock"):
        block.backward(np.ones((2, 9, 2, 3)))
    block(images())
    for wrong in ((2, 8, 2, 3), (3, 9, 2, 3), (2, 9)):
        with pytest.raises(ValueError, match="must have that of the output"):
            block.backward(np.ones(wrong))


@pytest.mark.parametrize("name", ["forward", "backward"])
@pytest.mark.parametrize("find", [lambda layer: layer, lambda layer: layer[0], lambda layer: layer[2]])
def test_passes_of_a_user_s_own_are_called(find: Callable[[Any], nn.Layer], name: str) -> None:
    model, called = dense(), []
    own = find(model[1][1])
    function = getattr(own, name)
    vars(own)[name] = lambda *a, **b: (called.append(tuple(a[0].shape)), function(*a, **b))[1]
    assert_same(results(model, images()), results(dense(concatenated), images()))
    assert len(called) == 1 and called[0][1] in (GROWTH, 5)


def test_captured_steps() -> None:
    states = []
    for captured in (True, False):
        model = nn.Sequential(*dense(), nn.GlobalAvgPool2d(), nn.Flatten())
        loss = nn.CrossEntropyLoss()
        step = TrainingStep(model, loss, optim.SGD(model.parameters(), lr=0.1))
        if captured:
            recorder = Recorder()
            model.to(recorder)
            loss.to(recorder)
        for i in range(4):
            step(np.random.default_rng(i).standard_normal((4, 3, 2, 3), np.float32), np.arange(4))
        assert step.mode == ("captured" if captured else "plain")
        states.append(list(model.state_dict().values()))
    assert_same(*states)


def test_what_is_known_of_a_block() -> None:
    model = nn.Sequential({"block": dense()[1]})
    assert next(iter(model.state_dict())) == "block.0.0.weight"
    assert model["block"].child_inputs((2, 3, 4, 5))[2][2] == (2, 7, 4, 5)
    assert nn.receptive_field(model, (1, 3, 9, 9)).size == (7, 7)
    assert re.search(r"\(block\) DenseBlock +\(1, 9, 4, 5\)", str(nc.summary(model, (1, 3, 4, 5))))
    model.eval()
    part = nn.upto(model, "block.2.1")
    np.testing.assert_array_equal(part(images()), nn.outputs(model, images(), ["block.2.1"])["block.2.1"])
    assert set(part.state_dict()) <= set(model.state_dict())
    first = nn.upto(model, "block.0.0")
    np.testing.assert_array_equal(first(images()), model["block"][0][0](images()))


@pytest.mark.parametrize("block", [nn.DenseBlock, copying])
def test_memory_of_a_training_step_is_linear_but_for_the_activations_of_the_layers(block: Block) -> None:
    """A layer's ReLU keeps what its convolution reads: all channels so far, in any case."""

    def held_and_most(layers: int) -> np.ndarray:
        model = dense(block, layers)
        activations = sum(3 + GROWTH * i for i in range(layers)) * plane
        tracemalloc.start()
        y = model(x)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        model.backward(y)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (np.array([held, most]) - activations) / plane

    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    plane = x.nbytes // 3
    few, more, many = (held_and_most(layers) for layers in (8, 12, 16))
    bend = (many - more) - (more - few)
    # Copies of all channels so far would grow by so many planes more with each four layers than with the four before.
    square = 4 * 4 * GROWTH
    if block is copying:
        assert (bend > 0.9 * square).all()
    else:
        assert (bend < [1, 0.5 * square]).all()  # when most is held, the layer at work has its own needs
