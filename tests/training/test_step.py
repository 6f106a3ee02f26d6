"""The training step and evaluation, against formulas written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import backends, nn, optim
from numbacnn.training import TrainingStep, evaluate, fit
from tests.training.toy import loaders, model_and_optimizer


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_step_is_gradient_descent(backend: backends.Backend, reduction: str) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(7, 3)), generator.integers(0, 4, 7)
    model = nn.Linear(3, 4, dtype=np.float64)
    weight, bias = model.state_dict().values()
    step = TrainingStep(model, nn.CrossEntropyLoss(reduction=reduction), optim.SGD(model.parameters(), lr=0.5))
    for _ in range(3):
        assert step(x, y) is None
        loss_sum, correct, examples = step.totals()
        logits = x @ weight.T + bias
        probabilities = softmax(logits)
        assert isinstance(loss_sum, float)
        assert isinstance(correct, int)
        assert examples == 7
        np.testing.assert_allclose(loss_sum, -np.log(probabilities[np.arange(7), y]).sum(), rtol=1e-12)
        assert correct == (logits.argmax(axis=1) == y).sum()
        dlogits = (probabilities - np.eye(4)[y]) / (7 if reduction == "mean" else 1)
        weight, bias = weight - 0.5 * dlogits.T @ x, bias - 0.5 * dlogits.sum(axis=0)
        np.testing.assert_allclose(model.state_dict()["weight"], weight, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(model.state_dict()["bias"], bias, rtol=1e-10, atol=1e-12)


def test_gradients_from_before_do_not_count() -> None:
    states = []
    for leftover in (0, 100):
        model, optimizer = model_and_optimizer()
        for parameter in model.parameters():
            parameter.accumulate(np.full(parameter.shape, leftover))
        TrainingStep(model, nn.CrossEntropyLoss(), optimizer)(*next(iter(loaders()[0])))
        states.append(model.state_dict())
    for first, second in zip(*(state.values() for state in states), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_gradients_that_nothing_is_added_to_are_zero(backend: backends.Backend, capture: bool, trained: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 4))
    aside = nn.Parameter(np.ones((2, 3)))
    parameters = [*model.parameters(), *([aside] if trained else [])]
    frozen = model[1].bias
    optimizer = optim.SGD([p for p in parameters if p is not frozen], lr=0.5)
    loss = nn.CrossEntropyLoss()
    loss.aside = aside
    step = TrainingStep(model, loss, optimizer, capture=capture)
    x, y = np.random.default_rng(0).normal(size=(5, 1, 3, 3)).astype(np.float32), np.arange(5) % 4
    for _ in range(3):
        for parameter in (aside, *model.parameters()):
            parameter.grad = np.full(parameter.shape, 7.0)
        step(x, y)
        np.testing.assert_array_equal(backend.to_numpy(aside.grad), 0 if trained else 7)
        assert np.abs(backend.to_numpy(frozen.grad)).max() < 1 < 7
    np.testing.assert_array_equal(backend.to_numpy(aside.value), 1)


class Witness(nn.Identity):
    """Calls a function at the beginning of its backward pass."""

    def __init__(self, note: Callable[[], None]) -> None:
        super().__init__()
        self.note = note

    def backward(self, dy: object, input_gradient: bool = True) -> backends.Array | None:
        self.note()
        return super().backward(dy, input_gradient)


def test_a_step_holds_what_layers_saved_no_longer_than_their_backward_pass(backend: backends.Backend) -> None:
    first, last = nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Add(nn.Identity(), nn.Linear(4, 4)))
    held: list[list[bool]] = []
    witness = Witness(lambda: held.append([layer._saved is not None for layer in last.layers()[1:]]))
    model = nn.Sequential(first, witness, last)
    x, y = np.ones((5, 3)), np.zeros(5, int)
    loss = nn.CrossEntropyLoss()
    for _ in range(2):  # in a loop of one's own, they are there for another backward pass
        loss(model(x), y)
        for _ in range(2):
            model.backward(loss.backward())
    assert held == [[True] * 4] * 4
    held.clear()
    TrainingStep(model, loss, optim.SGD(model.parameters(), lr=0.5), capture=False)(x, y)
    assert held == [[False] * 4]
    for layer in model.layers():
        with pytest.raises(RuntimeError, match="`backward` called before `forward`"):
            _ = layer.saved


def test_evaluation_weighs_every_sample_alike(backend: backends.Backend) -> None:
    model, _ = model_and_optimizer()
    _, loader = loaders()
    model.eval()
    images, labels = (np.concatenate(arrays) for arrays in zip(*loader, strict=True))
    assert len(labels) == 10  # in batches of 8 and 2
    logits = np.asarray(backend.to_numpy(model(images)), np.float64)
    for reduction in ("mean", "sum"):
        loss, accuracy = evaluate(model, loader, nn.CrossEntropyLoss(reduction=reduction))
        np.testing.assert_allclose(loss, -np.log(softmax(logits)[np.arange(10), labels]).mean(), rtol=1e-5)
        assert accuracy == (logits.argmax(axis=1) == labels).mean()


def test_evaluation_leaves_modes_and_state_alone() -> None:
    model, _ = model_and_optimizer()
    model.train()
    model[2].eval()
    state, random_state = model.state_dict(), model.random_state()
    results = {evaluate(model, loaders()[1], nn.CrossEntropyLoss()) for _ in range(2)}
    assert len(results) == 1
    assert [layer.training for layer in model] == [True, True, False, True, True]
    assert model.random_state() == random_state
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_evaluation_restores_modes_after_an_error() -> None:
    model, _ = model_and_optimizer()
    with pytest.raises(ValueError, match=r"channels|features|shape|size"):
        evaluate(model, [(np.zeros((2, 1, 5, 5), np.float32), np.zeros(2, np.int64))], nn.CrossEntropyLoss())
    assert all(layer.training for layer in model.layers())


def test_a_loss_that_is_no_number_is_refused() -> None:
    model, optimizer = model_and_optimizer()
    loss = nn.CrossEntropyLoss(reduction="none")
    with pytest.raises(ValueError, match=r"`loss` must have the `reduction` 'mean' or 'sum'.*: CrossEntropyLoss"):
        evaluate(model, loaders()[1], loss)
    with pytest.raises(ValueError, match="`loss` must have the `reduction` 'mean' or 'sum'"):
        TrainingStep(model, loss, optimizer)(*next(iter(loaders()[0])))


KINDS: dict[str, tuple[Any, Any, Any]] = {
    "numbers": (lambda: nn.Linear(4, 3), nn.MSELoss, lambda rng, n: rng.random((n, 3), np.float32)),
    "several labels": (
        lambda: nn.Linear(4, 3),
        lambda: nn.BCEWithLogitsLoss(pos_weight=[1, 2, 3]),
        lambda rng, n: rng.integers(0, 2, (n, 3)).astype(np.float32),
    ),
    "probabilities": (
        lambda: nn.Linear(4, 3),
        nn.CrossEntropyLoss,
        lambda rng, n: rng.dirichlet([1, 1, 1], n).astype(np.float32),
    ),
    "a label for each pixel": (
        lambda: nn.Sequential(nn.Reshape(1, 2, 2), nn.Conv2d(1, 3, 1)),
        lambda: nn.CrossEntropyLoss([1, 2, 3], ignore_index=1),
        lambda rng, n: rng.integers(0, 3, (n, 2, 2)),
    ),
    "images": (
        lambda: nn.Sequential(nn.Reshape(1, 2, 2), nn.Conv2d(1, 2, 1)),
        lambda: nn.SmoothL1Loss("sum"),
        lambda rng, n: rng.random((n, 2, 2, 2), np.float32),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_targets_of_any_kind(backend: backends.Backend, kind: str) -> None:
    """Fit, with and without tests, captured and not, ends where a loop of one's own does."""
    make, loss_of, target_of = KINDS[kind]
    rng = np.random.default_rng(0)
    batches = [(rng.random((n, 4), np.float32), target_of(rng, n)) for n in (8, 8, 5)]
    ends = []
    for capture, tests in ((True, batches), (False, None)):
        nc.manual_seed(0)
        model = make()
        history = fit(model, batches, tests, loss_of(), optim.SGD(model.parameters(), lr=0.05), 3, capture=capture)
        ends.append((model.state_dict(), history))
    nc.manual_seed(0)
    model, loss = make(), loss_of()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        for x, y in batches:
            losses.append(loss(model(x), y) * (len(x) if loss.reduction == "mean" else 1))
            optimizer.zero_grad()
            model.backward(loss.backward())
            optimizer.step()
    for state, history in ends:
        for name, value in model.state_dict().items():
            np.testing.assert_allclose(state[name], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            [r.train_loss for r in history.records], np.reshape(losses, (3, 3)).sum(1) / 21, 1e-5
        )
        # Of the targets here, probabilities alone say what the right answers are.
        assert all(np.isnan(r.train_accuracy) == (kind != "probabilities") for r in history.records)
    (_, first), (_, second) = ends
    assert all(np.isnan(r.test_accuracy) == (kind != "probabilities") for r in first.records)
    total = sum(loss(model(x), y) * (len(x) if loss.reduction == "mean" else 1) for x, y in batches)
    assert first.records[-1].test_loss == pytest.approx(total / 21, rel=1e-5)
    assert all(np.isnan(r.test_loss) for r in second.records)


def test_labels_that_are_ignored_are_not_right(backend: backends.Backend) -> None:
    logits, labels = np.eye(3, dtype=np.float32), np.array([0, 1, -100])
    loss, accuracy = evaluate(nn.Identity(), [(logits, labels)], nn.CrossEntropyLoss())
    assert accuracy == pytest.approx(2 / 3) and loss == pytest.approx(np.log(np.e + 2) - 1)


def test_nothing_to_evaluate_on() -> None:
    with pytest.raises(ValueError, match="`loader` gives no samples"):
        evaluate(model_and_optimizer()[0], [], nn.CrossEntropyLoss())


def test_the_optimizer_of_another_model_is_refused() -> None:
    model, optimizer = model_and_optimizer()
    other, _ = model_and_optimizer()
    loss, some = nn.CrossEntropyLoss(), model.parameters()[:1]
    number = len(model.parameters())
    with pytest.raises(ValueError, match=rf"`optimizer` .* `model`, .* but {number} of its {number} are not"):
        TrainingStep(other, loss, optimizer)
    with pytest.raises(ValueError, match=rf"but 1 of its {number + 1} are not, the first of them of shape \(3,\)"):
        extra = nn.Parameter(np.zeros(3))
        TrainingStep(model, loss, optim.SGD([*model.parameters(), extra], lr=0.1))
    with pytest.raises(ValueError, match="`optimizer` must be made of parameters of `model`"):
        fit(other, *loaders(), loss, optimizer, 1)
    for few in (some, model.parameters()):
        TrainingStep(model, loss, optim.SGD(few, lr=0.1))


def test_the_loss_may_have_parameters_of_its_own() -> None:
    model, _ = model_and_optimizer()
    loss = nn.CrossEntropyLoss()
    loss.scale = nn.Parameter([1.0])
    TrainingStep(model, loss, optim.SGD([*model.parameters(), loss.scale], lr=0.1))
