"""Settings that change between two steps: a captured step does what a plain one would, whatever is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import backends, nn, optim
from numbacnn.training import TrainingStep, WeightAverage
from tests.recorder import Recorder
from tests.registry import ENTRIES
from tests.strategies import SIMULATED
from tests.training.toy import assert_same

ALGORITHM = "loops"


def on_images(layer: nn.Layer) -> nn.Sequential:
    front = nn.Conv2d(2, 4, 3, padding=1, algorithm=ALGORITHM)
    return nn.Sequential(front, layer, nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(4, 2))


def on_features(layer: nn.Layer) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 4), layer, nn.Linear(4, 2))


def dense_block() -> nn.Sequential:
    layer = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, algorithm=ALGORITHM))
    return nn.Sequential(nn.DenseBlock(layer), nn.Conv2d(6, 4, 1, algorithm=ALGORITHM))


MODELS: dict[type[nn.Layer], Callable[[], nn.Sequential]] = {
    nn.Add: lambda: on_images(nn.Add(nn.Identity(), nn.ReLU())),
    nn.AvgPool2d: lambda: on_images(nn.AvgPool2d(2)),
    nn.BatchNorm1d: lambda: on_features(nn.BatchNorm1d(4)),
    nn.BatchNorm2d: lambda: on_images(nn.BatchNorm2d(4)),
    nn.Concat: lambda: on_images(nn.Sequential(nn.Concat(nn.Identity(), nn.ReLU()), nn.Conv2d(8, 4, 1))),
    nn.Conv2d: lambda: on_images(nn.Conv2d(4, 4, 3, padding=1, algorithm=ALGORITHM)),
    nn.DenseBlock: lambda: on_images(dense_block()),
    nn.Dropout: lambda: on_features(nn.Dropout(0.5)),
    nn.Flatten: lambda: on_features(nn.Flatten()),
    nn.GlobalAvgPool2d: lambda: on_images(nn.GlobalAvgPool2d()),
    nn.GroupNorm: lambda: on_images(nn.GroupNorm(2, 4)),
    nn.Identity: lambda: on_images(nn.Identity()),
    nn.InstanceNorm2d: lambda: on_images(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
    nn.LayerNorm: lambda: on_features(nn.LayerNorm(4)),
    nn.Linear: lambda: on_features(nn.Linear(4, 4)),
    nn.LocalResponseNorm: lambda: on_images(nn.LocalResponseNorm(3, alpha=0.5)),
    nn.MaxPool2d: lambda: on_images(nn.MaxPool2d(2)),
    nn.ReLU: lambda: on_images(nn.ReLU()),
    nn.Sequential: lambda: on_images(nn.Sequential(nn.ReLU(), nn.Tanh())),
    nn.Sigmoid: lambda: on_images(nn.Sigmoid()),
    nn.Tanh: lambda: on_images(nn.Tanh()),
}
LOSSES: dict[type[nn.Loss], Callable[[], nn.Loss]] = {
    nn.CrossEntropyLoss: lambda: nn.CrossEntropyLoss([1.0, 3.0], label_smoothing=0.1),
    nn.NLLLoss: lambda: nn.NLLLoss([1.0, 3.0]),
}
OPTIMIZERS: dict[type[optim.Optimizer], Callable[[nn.Layer], optim.Optimizer]] = {
    optim.SGD: lambda model: optim.SGD(model.parameters(), 0.1, momentum=0.5),
    optim.Adam: lambda model: optim.Adam(model.parameters(), 0.01),
    optim.AdamW: lambda model: optim.AdamW(model.parameters(), 0.01),
    optim.NAdam: lambda model: optim.NAdam(model.parameters(), 0.01, weight_decay=0.1),
    optim.RMSprop: lambda model: optim.RMSprop(model.parameters(), 0.01, momentum=0.5),
    optim.Adagrad: lambda model: optim.Adagrad(model.parameters(), 0.01, lr_decay=0.1),
    optim.Lion: lambda model: optim.Lion(model.parameters(), 0.01),
}
NAMES = {"algorithm": "im2col", "reduction": "sum"}
"""Other values of settings that are strings."""
OF_OTHER_TARGETS = dict.fromkeys(
    (nn.BCEWithLogitsLoss, nn.HuberLoss, nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss),
    "they take no labels, and test_step.py trains with what they take",
)


def public(base: type) -> set[type]:
    """The classes below ``base`` that `nn` and `optim` offer, whether anybody has asked for them yet or not."""
    offered = [getattr(room, name) for room in (nn, optim) for name in room.__all__]
    return {kind for kind in offered if isinstance(kind, type) and issubclass(kind, base) and kind is not base}


def attributes(part: Any) -> Iterator[str]:
    """What a user may change."""
    yield from ["training"] * isinstance(part, nn.Layer)
    yield from (name for name in vars(part) if not name.startswith("_") and name != "backend")


def other(name: str, value: Any) -> Any:
    """A value of the same kind that is not the same."""
    if isinstance(value, (bool, type(None))):
        return not value
    if name == "ignore_index":
        return 1  # one of the labels
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 or 0.25
    if isinstance(value, str):
        return NAMES[name]
    if isinstance(value, tuple):
        return tuple(other(name, item) for item in value)
    array = 2 * value.backend.to_numpy(value.value) + 1
    return nn.Parameter(array, value.backend) if isinstance(value, nn.Parameter) else type(value)(array, value.backend)


class Training:
    """Two steps of training, to which more may be added."""

    def __init__(self, backend: Any, capture: bool, model: Any, loss: Any = None, optimizer: Any = None) -> None:
        with nc.use_backend("reference" if isinstance(backend, Recorder) else backend):
            nc.manual_seed(3)
            self.model = model().to(backend)
            self.loss = (loss or nn.CrossEntropyLoss)()
            self.loss.to(backend)
            self.optimizer = (optimizer or OPTIMIZERS[optim.SGD])(self.model)
            self.average = WeightAverage(self.model, 0.5)
        self.step = TrainingStep(
            *(self.model, self.loss, self.optimizer), weight_average=self.average, clip_norm=0.05, capture=capture
        )
        rng = np.random.default_rng(0)
        self.x, self.y = rng.random((4, 2, 4, 4), np.float32), np.arange(4) % 2
        self.train(2)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.step(self.x, self.y)

    def after(self, change: Callable[[Training], None]) -> dict[str, Any]:
        """What two steps after a change leave behind, and the error if one ends them."""
        error = ""
        try:
            change(self)
            self.train(2)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        return {
            **self.model.state_dict(),
            **self.optimizer.state_dict(),
            **{f"average {name}": value for name, value in self.average.state_dict().items()},
            **{f"gradient {name}": np.array(p.backend.to_numpy(p.grad)) for name, p in self.model.named_parameters()},
            "totals": self.step.totals(),
            "random": self.model.random_state(),
            "error": error,
        }


BACKENDS = ["recorder", *([] if SIMULATED or config.DISABLE_JIT else ["cpu"])]


@pytest.fixture(params=BACKENDS)
def changed(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """What is left after a change, which is the same whether steps are captured."""

    def run(change: Callable[[Training], None], model: Any = MODELS[nn.ReLU], **parts: Any) -> dict[str, Any]:
        results = []
        for capture in (True, False):
            backend = Recorder() if request.param == "recorder" else backends.get(request.param)
            training = Training(backend, capture, model, **parts)
            assert training.step.mode == ("captured" if capture else "plain")
            results.append(training.after(change))
            assert capture or training.step.mode == "plain"
        assert_same(*results)
        return results[0]

    return run


def nothing(training: Training) -> None:
    pass


def different(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return any(not np.array_equal(value, second[name]) for name, value in first.items())


def test_every_layer_loss_and_optimizer_is_looked_at() -> None:
    registered = {getattr(nn, name) for name in ENTRIES}  # whose captures are looked at there
    assert public(nn.Layer) == set(MODELS) | registered | {nn.Graph}
    assert public(nn.Loss) == set(LOSSES) | set(OF_OTHER_TARGETS)
    assert public(optim.Optimizer) == set(OPTIMIZERS)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_attributes_of_layers(changed: Callable[..., dict[str, Any]], kind: type[nn.Layer]) -> None:
    model = MODELS[kind]
    with nc.use_backend("reference"):
        made = model()
        names = list(attributes(next(layer for layer in made[1:].layers() if type(layer) is kind)))
    effective = set()
    for name in names:

        def change(training: Training, name: str = name) -> None:
            layer = next(layer for layer in training.model[1:].layers()[1:] if type(layer) is kind)
            setattr(layer, name, other(name, getattr(layer, name)))

        if different(changed(change, model), changed(nothing, model)):
            effective.add(name)
    assert effective >= {"p", "seed", "momentum", "eps", "stride", "weight"} & set(names)


@pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.__name__)
def test_attributes_of_losses(changed: Callable[..., dict[str, Any]], kind: type[nn.Loss]) -> None:
    for name in attributes(LOSSES[kind]()):

        def change(training: Training, name: str = name) -> None:
            setattr(training.loss, name, other(name, getattr(training.loss, name)))

        assert different(changed(change, loss=LOSSES[kind]), changed(nothing, loss=LOSSES[kind]))


@pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda kind: kind.__name__)
def test_settings_of_optimizers(changed: Callable[..., dict[str, Any]], kind: type[optim.Optimizer]) -> None:
    for name in (*kind.settings, *kind.pairs, *kind.shared):

        def change(training: Training, name: str = name) -> None:
            setattr(training.optimizer, name, other(name, getattr(training.optimizer, name)))

        make = OPTIMIZERS[kind]
        assert different(changed(change, optimizer=make), changed(nothing, optimizer=make))


def set_decay(training: Training) -> None:
    training.average.decay = 0.9


def set_clip_norm(training: Training) -> None:
    training.step.clip_norm = 0.01


def do_not_clip(training: Training) -> None:
    training.step.clip_norm = None


def do_not_average(training: Training) -> None:
    training.step.weight_average = None


def set_loss(training: Training) -> None:
    training.step.loss = nn.CrossEntropyLoss(reduction="sum")


def replace_a_child(training: Training) -> None:
    training.model._layers["1"] = nn.Tanh().to(training.model.backend)


def take_a_child_out(training: Training) -> None:
    del training.model._layers["1"]


def set_a_method(training: Training) -> None:
    relu = training.model[1]
    relu.forward = lambda x: relu.backend.copy(type(relu).forward(relu, x) * np.float32(2))


@pytest.mark.parametrize(
    "change",
    [set_decay, set_clip_norm, do_not_clip, do_not_average, set_loss, replace_a_child, take_a_child_out, set_a_method],
)
def test_parts_and_their_settings(
    changed: Callable[..., dict[str, Any]], change: Callable[[Training], None], recwarn: pytest.WarningsRecorder
) -> None:
    assert different(changed(change), changed(nothing))


def test_gradients_of_parameters_that_nobody_updates(changed: Callable[..., dict[str, Any]]) -> None:
    def of_the_end(model: nn.Sequential) -> optim.Optimizer:
        return optim.SGD(model[4].parameters(), 0.1)

    def anew(training: Training) -> None:
        training.model.zero_grad()
        training.y = training.y[:3]
        training.x, batch = training.x[:3], (training.x, np.arange(4) % 2)
        training.train(2)
        training.x, training.y = batch

    assert different(changed(anew, optimizer=of_the_end), changed(nothing, optimizer=of_the_end))


class Net(nn.Layer):
    """A model as users write them."""

    capturable = True

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(32, 4))
        self.act: nn.Layer = nn.ReLU()
        self.head = nn.Linear(4, 2)
        self.options = {"factors": [1.0]}
        self.offset = np.zeros((1, 2), np.float32)

    def forward(self, x: Any) -> Any:
        y = self.head(self.act(self.body(x)))
        offset = self.backend.asarray(np.broadcast_to(self.offset, (x.shape[0], 2)))
        return nc.ops.add([y] * int(self.options["factors"][0]) + [offset], backend=self.backend)

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        dy = nc.ops.add([dy] * int(self.options["factors"][0]), backend=self.backend)
        return self.body.backward(self.act.backward(self.head.backward(dy)), input_gradient)


def set_factor(training: Training) -> None:
    training.model.options["factors"][0] = 2.0


def set_offset(training: Training) -> None:
    training.model.offset[0, 0] = 1


def set_activation(training: Training) -> None:
    training.model.act = nn.Tanh().to(training.model.backend)


@pytest.mark.parametrize("change", [set_factor, set_offset, set_activation])
def test_a_layer_of_one_s_own_that_says_it_is_capturable(
    changed: Callable[..., dict[str, Any]], change: Callable[[Training], None]
) -> None:
    assert different(changed(change, Net), changed(nothing, Net))


class Silent(Net):
    """Does not say it of itself."""


class Counts(Net):
    """Counts its passes, which a launch would not."""

    capturable = True
    passes = 0

    def forward(self, x: Any) -> Any:
        self.passes += 1
        return super().forward(x)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Silent, "Silent is not a class of numbacnn; .* say `capturable = True` in it"),
        (Counts, "a pass changes `passes` of Counts"),
    ],
)
def test_the_reason_is_told_once(name: str, kind: type[Net], reason: str) -> None:
    backend = Recorder() if name == "recorder" else backends.get(name)
    with pytest.warns(RuntimeWarning, match=f"the step runs launch by launch, it is not captured: {reason}") as told:
        training = Training(backend, True, kind)
    assert len(told) == 1 and told[0].filename == __file__
    after = training.after(nothing)
    assert training.step.mode == "plain"
    plain = Training(backend, False, kind)
    assert_same(after, plain.after(nothing))
    assert vars(training.model).get("passes") == vars(plain.model).get("passes")


def test_nothing_is_told_where_nothing_could_be_captured() -> None:
    assert Training("reference", True, Silent).step.mode == "plain"


def test_settings_that_change_each_time_are_not_captured_each_time() -> None:
    recorder = Recorder()
    training = Training(recorder, True, MODELS[nn.Dropout])
    plain = Training("reference", False, MODELS[nn.Dropout])
    for each in (training, plain):
        for step in range(20):
            each.model[2].p = step / 40
            each.train(1)
    assert recorder.captured == 1
    assert_same(training.after(nothing), plain.after(nothing))
    assert training.step.mode == "captured"


@pytest.mark.parametrize("capture", [1, "yes", None])
def test_capture_is_a_bool(capture: Any) -> None:
    with nc.use_backend("reference"):
        model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="`capture`"):
        TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1), capture=capture)
    with pytest.raises(TypeError, match="`capture`"):
        nn.InferenceSession(model, capture=capture)
