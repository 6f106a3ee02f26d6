"""Dense blocks: the layers share one array, and nobody sees it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numbacnn import nn, ops, optim
from numbacnn.backends import Backend
from numbacnn.models.densenet import dense_block
from numbacnn.training import TrainingStep
from tests.quick import reference_by_default as reference_by_default
from tests.recorder import Recorder
from tests.strategies import SIMULATED

GROWTH = 2


def layer(channels: int, *body: nn.Layer, dtype: Any = np.float32) -> nn.Concat:
    """One of a dense block, with a body of ``body`` after the norm."""
    return nn.Concat({"input": nn.Identity(), "": nn.Sequential(nn.BatchNorm2d(channels, dtype=dtype), *body)})


def convolution(channels: int, dtype: Any = np.float32) -> nn.Conv2d:
    return nn.Conv2d(channels, GROWTH, 3, padding=1, algorithm="loops" if SIMULATED else "auto", dtype=dtype)


def dense(layers: int = 3, dtype: Any = np.float32) -> nn.Sequential:
    """From 3 channels, with a layer before the block and one after it that depend on each other's values."""
    nn.init.manual_seed(0)
    channels = [3 + GROWTH * i for i in range(layers + 1)]
    block = [layer(c, nn.ReLU(), convolution(c, dtype), dtype=dtype) for c in channels[:-1]]
    return nn.Sequential(nn.Tanh(), *block, nn.BatchNorm2d(channels[-1], dtype=dtype), nn.ReLU())


def copying(model: nn.Sequential) -> nn.Sequential:
    """The same model, with layers that may do anything and so run for themselves."""
    for concat in [layer for layer in model.layers() if isinstance(layer, nn.Concat)]:
        vars(concat)["forward"] = concat.forward
    return model


def images(n: int = 2, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, 3, 2, 3)).astype(dtype)


def results(model: nn.Sequential, x: Any, input_gradient: bool = True, dy: Any = None) -> list[np.ndarray]:
    """What both passes give and leave behind."""
    y = model(x)
    dx = model.backward(np.cos(np.asarray(y)) if dy is None else dy, input_gradient=input_gradient)
    states = [*(p.grad for p in model.parameters()), *(buffer.value for _, buffer in model.named_buffers())]
    return [np.asarray(array) for array in (y, *[dx] * input_gradient, *states)]


def assert_same(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for array, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(array, other)
        assert array.dtype == other.dtype


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many arrays each concatenation has joined."""
    found: list[int] = []
    concat = ops.concat
    monkeypatch.setattr(
        ops, "concat", lambda arrays, **options: (found.append(len(arrays)), concat(arrays, **options))[1]
    )
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("input_gradient", [True, False])
def test_the_same_bits_as_with_copies(backend: Backend, joins: list[int], dtype: Any, input_gradient: bool) -> None:
    for n in (2, 0):
        x = images(n, dtype)
        actual = results(dense(dtype=dtype), x, input_gradient)
        assert not joins
        assert_same(actual, results(copying(dense(dtype=dtype)), x, input_gradient))
        assert joins == [2] * 3
        joins.clear()


def test_a_block_that_is_the_whole_model(backend: Backend, joins: list[int]) -> None:
    for input_gradient in (True, False):
        actual = results(dense()[1:4], images(), input_gradient)
        assert not joins
        assert_same(actual, results(copying(dense()[1:4]), images(), input_gradient))
        joins.clear()


@pytest.mark.skipif(SIMULATED, reason="the same, with more convolutions")
@pytest.mark.parametrize("bottleneck", [True, False])
def test_the_blocks_of_densenet(backend: Backend, joins: list[int], bottleneck: bool) -> None:
    x, pairs = np.random.default_rng(0).standard_normal((2, 5, 6, 7)), []
    for change in (lambda model: model, copying):
        nn.init.manual_seed(0)
        pairs.append(results(change(dense_block(4, 5, 3, bottleneck, dtype=np.float64)), x))
        assert len(joins) == (4 if change is copying else 0)
    assert_same(*pairs)


def test_evaluation_and_frozen_norms(backend: Backend, joins: list[int]) -> None:
    models = [dense(), copying(dense())]
    for model in models:
        model(images(4))
    joins.clear()
    for mode in ("evaluation", "frozen", "body frozen", "prediction", "folded"):
        pair = []
        for model in models:
            model.train()
            for norm in [layer for layer in model.layers() if isinstance(layer, nn.BatchNorm2d)]:
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
                if mode == "body frozen":
                    model[2][1].eval()
                pair.append(results(model, images()))
        assert_same(*pair)
    assert set(joins) == {2} and len(joins) == 3 * 7


def test_what_was_returned_stays(backend: Backend) -> None:
    block = dense()[1:4]
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


def test_layers_may_run_and_go_back_one_by_one(backend: Backend) -> None:
    x, dy = images(), np.cos(np.arange(2 * 9 * 6)).reshape(2, 9, 2, 3).astype(np.float32)
    expected = results(copying(dense()), x, dy=dy)

    def by_hand(model: nn.Sequential, forward: bool) -> list[np.ndarray]:
        y = x
        for each in model if forward else [model]:
            y = each(y)
        dx = dy
        for each in [model] if forward else reversed(list(model)):
            dx = each.backward(dx)
        states = [*(p.grad for p in model.parameters()), *(buffer.value for _, buffer in model.named_buffers())]
        return [np.asarray(array) for array in (y, dx, *states)]

    for forward in (True, False):
        assert_same(by_hand(dense(), forward), expected)


class Wrong(nn.ReLU):
    """Another shape than it says."""

    def forward(self, x):
        return ops.concat([x, x], backend=self.backend)

    def backward(self, dy, input_gradient=True):
        first, second = ops.concat_backward(dy, [GROWTH, GROWTH], backend=self.backend)
        return ops.add([first, second], backend=self.backend)


class Silent(nn.ReLU):
    """Does not say which shape."""

    def output_shape(self, shape):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: nn.Sequential(layer(3, convolution(3)), layer(5, convolution(5), Wrong())), images()),
        (
            lambda: nn.Sequential(
                *(layer(3, convolution(3), Wrong()), layer(7, convolution(7)), layer(9, convolution(9)))
            ),
            images(),
        ),
        (lambda: nn.Sequential(layer(3, convolution(3)), layer(5, convolution(5), Silent())), images()),
        (lambda: nn.Sequential(layer(3, convolution(3)), layer(5, convolution(5))), images(dtype=np.float64)),
        (
            lambda: nn.Sequential(layer(3, convolution(3, np.float64)), layer(5, convolution(5), dtype=np.float64)),
            images(),
        ),
        (lambda: nn.Sequential(layer(3, convolution(3)), layer(5, convolution(5), dtype=np.float64)), images()),
    ],
)
def test_what_the_norms_do_not_expect_is_copied(
    backend: Backend, make: Callable[[], nn.Sequential], x: np.ndarray
) -> None:
    both = []
    for change in (lambda model: model, copying):
        nn.init.manual_seed(0)
        both.append(results(change(make()), x))
    assert_same(*both)


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (dense, (2, 4, 2, 3), r"the input of BatchNorm2d\(3, .*must have \(n, c, h, w\) with c = 3"),
        (dense, (2, 3), r"the input of BatchNorm2d\(3, .*must have \(n, c, h, w\) with c = 3"),
        (dense, (1, 3, 1, 1), "must hold more than one value per channel in training"),
        (lambda: nn.Sequential(layer(3, convolution(3)), layer(6, convolution(6))), (2, 3, 2, 3), "with c = 6"),
        (lambda: nn.Sequential(layer(3, nn.Conv2d(3, 2, 1)), layer(5, nn.Conv2d(5, 2, 2))), (2, 3, 2, 3), "arrays"),
        (lambda: nn.Sequential(layer(3, nn.MaxPool2d(2)), layer(6, convolution(6))), (2, 3, 2, 3), "arrays"),
        (lambda: nn.Sequential(layer(3, nn.Flatten()), layer(6, convolution(6))), (2, 3, 2, 3), "arrays"),
    ],
)
def test_errors_are_those_of_the_layers(
    backend: Backend, make: Callable[[], nn.Sequential], shape: tuple[int, ...], message: str
) -> None:
    for model in (make(), copying(make())):
        with pytest.raises(ValueError, match=message):
            model(np.ones(shape, np.float32))


def test_backward_needs_a_forward_pass_of_its_own(backend: Backend) -> None:
    for model in (dense(), copying(dense())):
        with pytest.raises(RuntimeError, match=r"`backward` called before `forward` on Concat"):
            model[1:4].backward(np.ones((2, 9, 2, 3)))
        model(images())
        for wrong in ((2, 8, 2, 3), (3, 9, 2, 3), (2, 9)):
            with pytest.raises(ValueError, match=r"shape|channels|axes"):
                model[1:4].backward(np.ones(wrong))
        model[1](images(4))
        with pytest.raises(ValueError, match="shape"):
            model.backward(np.ones((2, 9, 2, 3)))


def test_passes_of_a_user_s_own_are_called() -> None:
    for find in (
        lambda model: model[2],
        lambda model: model[2]["input"],
        lambda model: model[2][""],
        lambda model: model[2][""][0],
        lambda model: model[2][""][2],
    ):
        for name in ("forward", "backward"):
            model, called = dense(), []
            own, function = find(model), getattr(find(model), name)
            vars(own)[name] = lambda *a, f=function, c=called, **b: (c.append(tuple(a[0].shape)), f(*a, **b))[1]
            assert_same(results(model, images()), results(copying(dense()), images()))
            assert len(called) == 1 and called[0][1] != 9


def test_captured_steps(joins: list[int]) -> None:
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
    assert not joins


@pytest.mark.parametrize("change", [lambda model: model, copying])
def test_memory_of_a_training_step_is_linear_but_for_the_activations_in_the_bodies(change: Any) -> None:
    """A body's ReLU keeps what its convolution reads: all channels so far, in any case."""

    def held_and_most(layers: int) -> np.ndarray:
        model = change(dense(layers))
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
    if change is copying:
        assert (bend > 0.9 * square).all()
    else:
        assert (bend < [1, 0.5 * square]).all()  # when most is held, the layer at work has its own needs
