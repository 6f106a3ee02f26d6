"""What the estimators learn, from what, and that it is the same each time."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from functools import partial
from typing import Any

import numba
import numpy as np
import pytest
from joblib import parallel_backend
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.backends import Backend
from numbacnn.sklearn import CNNClassifier, CNNRegressor

DIGITS, LABELS = (array[:240] for array in load_digits(return_X_y=True))
IMAGES = (DIGITS / 16).reshape(-1, 8, 8)
ROWS = np.random.default_rng(0).normal(size=(24, 3))
NUMBERS = ROWS @ [1.0, -2.0, 0.5]
CLASSES = (NUMBERS > 0.5).astype(int)


def small(**arguments: Any) -> CNNClassifier:
    return CNNClassifier(**{"epochs": 2, "random_state": 0, **arguments})


def build(channels: int, classes: int, width: int = 4) -> nn.Layer:
    """A network that draws random numbers and keeps running averages."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.GlobalAvgPool2d(), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(width, classes),
    )  # fmt: skip


def test_without_scikit_learn_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['sklearn.utils.validation'] = None\nimport numbacnn as nc\nnc.sklearn.CNNClassifier"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert '`numbacnn.sklearn` needs scikit-learn 1.6 or newer: pip install "numbacnn[sklearn]"' in done.stderr


def test_a_search_finds_the_same_in_threads_and_in_processes() -> None:
    found = []
    for way in ("sequential", "threading", "loky"):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), small(image_shape=(8, 8))),
            {"cnnclassifier__model": ["small", build], "cnnclassifier__lr": [1e-3, 1e-2]}, cv=2, n_jobs=2,
        )  # fmt: skip
        with parallel_backend(way):
            found.append(search.fit(DIGITS, LABELS).cv_results_["mean_test_score"])
    get_reusable_executor().shutdown(wait=True)
    assert found[0].max() > 0.7 and found[0].min() < 0.6
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_a_random_state_gives_the_same_bits_and_leaves_global_ones_alone() -> None:
    legacy = np.random.mtrand._rand
    before = legacy.get_state()[1:3]
    nc.manual_seed(3)
    draws = [nn.init.draw_seed() for _ in range(2)]
    nc.manual_seed(3)
    assert nn.init.draw_seed() == draws[0]
    fits = [small(model=build, early_stopping=True, random_state=state) for state in (0, 0, 1, None)]
    first, again, other, by_chance = (each.fit(IMAGES, LABELS).predict_proba(IMAGES) for each in fits)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        on_one = fits[0].fit(IMAGES, LABELS).predict_proba(IMAGES)
    finally:
        numba.set_num_threads(threads)
    assert nn.init.draw_seed() == draws[1]
    np.testing.assert_equal(legacy.get_state()[1:3], before)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, on_one)
    assert not np.array_equal(first, other) and not np.array_equal(first, by_chance)


def test_a_random_state_of_numpy_is_drawn_from() -> None:
    state = np.random.RandomState(0)
    one, other = (small(random_state=state).fit(ROWS, CLASSES).predict_proba(ROWS) for _ in range(2))
    again = small(random_state=np.random.RandomState(0)).fit(ROWS, CLASSES).predict_proba(ROWS)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_copy_by_pickle_predicts_and_goes_on_alike(backend: Backend) -> None:
    classifier = small(model=build, epochs=1).fit(IMAGES[:20], LABELS[:20])
    other = pickle.loads(pickle.dumps(classifier))
    assert other.model_.backend is backend
    for _ in range(2):
        np.testing.assert_array_equal(classifier.predict_proba(IMAGES[:20]), other.predict_proba(IMAGES[:20]))
        for each in (classifier, other):
            each.partial_fit(IMAGES[:20], LABELS[:20])
    assert classifier.n_iter_ == other.n_iter_ == 3


def test_a_layer_is_copied_with_its_weights_and_what_is_frozen() -> None:
    nc.manual_seed(1)
    model = build(1, 10)
    model[0].freeze()
    before = model.state_dict()
    classifier = small(model=model)
    trained = clone(classifier).fit(IMAGES, LABELS).model_
    assert classifier.fit(IMAGES, LABELS).model is model and classifier.model_ is not model
    after, states = model.state_dict(), (trained.state_dict(), classifier.model_.state_dict())
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
        np.testing.assert_array_equal(*(state[name] for state in states))
        assert np.array_equal(states[0][name], array) == name.startswith("0."), name


def test_fit_begins_anew_or_goes_on() -> None:
    anew, warm = (CNNClassifier(epochs=3, random_state=0, warm_start=on).fit(ROWS, CLASSES) for on in (False, True))
    first = anew.predict_proba(ROWS)
    np.testing.assert_array_equal(first, warm.predict_proba(ROWS))
    np.testing.assert_array_equal(anew.fit(ROWS, CLASSES).predict_proba(ROWS), first)
    model, losses = warm.model_, [record.train_loss for record in warm.fit(ROWS, CLASSES).history_.records]
    assert warm.model_ is model and anew.n_iter_ == 3 and warm.n_iter_ == 6
    assert [record.epoch for record in warm.history_.records] == [1, 2, 3, 4, 5, 6] and losses[3] < losses[2]
    with pytest.raises(ValueError, match=r"`y` holds 2, must hold the classes \[0 1\] alone"):
        warm.fit(ROWS, CLASSES + 1)


def test_partial_fit_takes_classes_and_keeps_the_optimizer() -> None:
    names = np.where(CLASSES, "yes", "no")
    parts = small(optimizer=partial(optim.SGD, momentum=0.9), lr=0.1)
    with pytest.raises(ValueError, match="`classes` must be given in the first call of partial_fit"):
        parts.partial_fit(ROWS, names)
    parts.partial_fit(ROWS[CLASSES == 1], names[CLASSES == 1], classes=["yes", "no"])
    assert parts.classes_.tolist() == ["no", "yes"] and parts.n_iter_ == 1
    optimizer = parts._optimizer
    for _ in range(20):
        parts.set_params(lr=0.05).partial_fit(ROWS, names)
    assert parts._optimizer is optimizer and optimizer.lr == 0.05
    assert parts.n_iter_ == 21 and parts.score(ROWS, names) > 0.9
    parts.set_params(backend="reference").partial_fit(ROWS, names)
    assert parts.model_.backend.name == "reference" and parts.score(ROWS, names) > 0.9
    with pytest.raises(ValueError, match=r"`classes` \['maybe' 'no'\] must be those of the first call, \['no' 'yes'\]"):
        parts.partial_fit(ROWS, names, classes=["no", "maybe"])
    with pytest.raises(ValueError, match="`class_weight` 'balanced' is not for partial_fit"):
        small(class_weight="balanced").partial_fit(ROWS, names, ["no", "yes"])


THIRDS = np.arange(24) % 3


@pytest.mark.parametrize(
    ("weighted", "sample_weight", "repeated", "times"),
    [
        ({"class_weight": {1: 3}}, None, {}, np.where(CLASSES, 3, 1)),
        ({}, THIRDS, {}, THIRDS),
        ({"class_weight": {0: 2, 1: 3}}, THIRDS / 7, {}, THIRDS * np.where(CLASSES, 3, 2)),
        ({"class_weight": "balanced"}, None, {}, np.where(CLASSES, (CLASSES == 0).sum(), CLASSES.sum())),
        ({"class_weight": "balanced"}, THIRDS, {"class_weight": "balanced"}, THIRDS),
    ],
)
def test_weights_are_as_good_as_repeated_samples(weighted: Any, sample_weight: Any, repeated: Any, times: Any) -> None:
    """In steps of all samples, in which their order does not matter."""
    one, other = (small(batch_size=1000, epochs=10, **arguments) for arguments in (weighted, repeated))
    one.fit(ROWS, CLASSES, sample_weight)
    other.fit(np.repeat(ROWS, times, axis=0), np.repeat(CLASSES, times))
    expected = other.predict_proba(ROWS)
    np.testing.assert_allclose(one.predict_proba(ROWS), expected, rtol=1e-9)
    without = small(batch_size=1000, epochs=10).fit(ROWS, CLASSES).predict_proba(ROWS)
    assert abs(without - expected).max() > 1e-3


def test_samples_of_weight_0_are_as_if_they_were_not_there() -> None:
    one = small(model=build, batch_size=16).fit(IMAGES, LABELS, np.arange(240) < 200)
    other = small(model=build, batch_size=16).fit(IMAGES[:200], LABELS[:200])
    np.testing.assert_array_equal(one.predict_proba(IMAGES), other.predict_proba(IMAGES))


@pytest.mark.parametrize("targets", [NUMBERS, NUMBERS[:, None], np.stack([NUMBERS, -NUMBERS, NUMBERS**2], 1)])
def test_numbers_are_predicted_as_they_were_given(targets: np.ndarray) -> None:
    times = np.arange(24) % 3
    whole = {"batch_size": 1000, "epochs": 10, "random_state": 0}
    weighted = CNNRegressor(**whole).fit(ROWS, targets, times)
    repeated = CNNRegressor(**whole).fit(np.repeat(ROWS, times, axis=0), np.repeat(targets, times, axis=0))
    found = weighted.predict(ROWS)
    assert found.shape == targets.shape and weighted.n_outputs_ == targets.size // 24
    np.testing.assert_allclose(found, repeated.predict(ROWS), rtol=1e-9)
    longer = CNNRegressor(epochs=100, batch_size=8, random_state=0).fit(ROWS, targets)
    assert longer.score(ROWS, targets) > 0.9
    assert longer.partial_fit(ROWS, targets, times).n_iter_ == 101
    with pytest.raises(ValueError, match=r"`y` of shape \(24, 7\) must have . numbers a sample, as in fit"):
        longer.partial_fit(ROWS, np.zeros((24, 7)))


def test_images_have_any_of_their_forms() -> None:
    fits = [
        small(image_shape=(8, 8)).fit(IMAGES.reshape(-1, 64), LABELS),
        small(image_shape=(1, 8, 8)).fit(IMAGES, LABELS),
        small().fit(IMAGES[:, None].astype(np.float32), LABELS),
    ]
    expected = fits[0].predict_proba(IMAGES)
    for classifier in fits:
        assert classifier.image_shape_ == (1, 8, 8) and classifier.n_features_in_ == 64
        for form in (IMAGES, IMAGES[:, None], IMAGES.reshape(-1, 64)):
            np.testing.assert_array_equal(classifier.predict_proba(form), expected)


def test_pixels_of_uint8_are_scaled() -> None:
    pixels = (DIGITS * 15).astype(np.uint8)
    scaled = (pixels / np.float32(255)).reshape(-1, 8, 8)
    found, same = small(image_shape=(8, 8)).fit(pixels, LABELS), small().fit(scaled, LABELS)
    np.testing.assert_allclose(found.predict_proba(pixels), same.predict_proba(scaled), rtol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 5, 2), (2, 33, 20)])
def test_small_takes_images_of_any_size(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).random((6, *shape))
    found = CNNRegressor(epochs=1, backend="reference").fit(images, np.arange(6)).predict(images)
    assert found.shape == (6,) and np.isfinite(found).all()


def test_models_by_name_and_by_function() -> None:
    images = np.random.default_rng(0).random((12, 3, 28, 28), np.float32)
    classifier = small(model="lenet", epochs=1).fit(images, np.arange(12) % 3)
    assert repr(classifier.model_) == repr(nc.models.lenet(3, 3))
    wide = small(model=lambda features, classes: nn.Linear(features, classes, dtype=np.float64)).fit(ROWS, CLASSES)
    assert wide.model_.weight.shape == (2, 3) and wide.predict_proba(ROWS).dtype == np.float64


def test_early_stopping_keeps_the_best_epoch() -> None:
    classifier = CNNClassifier(
        epochs=60, lr=0.02, early_stopping=True, validation_fraction=0.3, n_iter_no_change=3, random_state=0
    ).fit(IMAGES, LABELS)
    losses = [record.test_loss for record in classifier.history_.records]
    assert classifier.n_iter_ == len(losses) == int(np.argmin(losses)) + 4 < 60
    until_then = clone(classifier).set_params(epochs=int(np.argmin(losses)) + 1, n_iter_no_change=60)
    np.testing.assert_array_equal(
        classifier.predict_proba(IMAGES), until_then.fit(IMAGES, LABELS).predict_proba(IMAGES)
    )


def test_a_pipeline_of_words_tells_how_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    names = np.array(["no", "yes"], object)[CLASSES]
    pipeline = make_pipeline(StandardScaler(), small(epochs=60, batch_size=8, verbose=True))
    assert cross_val_score(pipeline, ROWS, names, cv=2).mean() > 0.6
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 120 and lines[0].startswith("epoch 1/60: loss ")
    fitted = pipeline.fit(ROWS, names, cnnclassifier__sample_weight=1 + CLASSES)
    assert fitted.predict(ROWS).dtype == object and fitted[-1].history_.records[-1].train_accuracy > 0.9


REFUSED = [
    (small(epochs=0), {}, "`epochs` 0 must be at least 1"),
    (small(batch_size=0), {}, "`batch_size` 0 must be at least 1"),
    (small(lr=-1), {}, "`lr` -1 must be at least 0"),
    (small(optimizer="best"), {}, "`optimizer` 'best' must be one of 'adagrad', 'adam'"),
    (small(optimizer=3), {}, r"`optimizer` 3 must be a name or a function of \(parameters, lr\)"),
    (small(optimizer=lambda parameters, lr: lr), {}, "`optimizer` must return an Optimizer, but returned 0.001"),
    (small(backend="tpu"), {}, "`backend` 'tpu' must be one of"),
    (small(backend=3), {}, "`backend` 3 must be a name or None"),
    (small(early_stopping=3), {}, "`early_stopping` 3 must be True or False"),
    (small(early_stopping=True, validation_fraction=1), {}, "`validation_fraction` 1.0 must be above 0 and below 1"),
    (small(early_stopping=True, n_iter_no_change=0), {}, "`n_iter_no_change` 0 must be at least 1"),
    (small(class_weight={5: 1}), {}, r"The classes, \[.*\], are not in class_weight"),
    (small(class_weight={0: -1}), {}, r"`class_weight\[0\]` -1.0 must be at least 0"),
    (small(class_weight="fair"), {}, "The 'class_weight' parameter"),
    (small(), {"sample_weight": np.ones(3)}, r"`sample_weight` of shape \(3,\) must be \(24,\)"),
    (small(), {"sample_weight": -np.ones(24)}, "`sample_weight` must be finite numbers, 0 or more, but holds -1.0"),
    (small(), {"y": CLASSES[:3]}, "`y` has 3 entries, must have one for each of the 24 samples in `X`"),
    (small(image_shape=(2, 2)), {}, r"`image_shape` \(2, 2\) is of 4 numbers, but a row of `X` has 3"),
    (small(image_shape=(3,)), {}, r"`image_shape` \(3,\) must be \(h, w\) or \(c, h, w\)"),
    (small(image_shape=(3, 2)), {"X": np.zeros((24, 2, 3))}, r"`image_shape` \(3, 2\) must be .*, \(1, 2, 3\)"),
    (small(), {"X": np.zeros((24, 1, 1, 2, 3))}, r"`X` of shape \(24, 1, 1, 2, 3\) must be \(n, features\)"),
    (small(), {"X": np.full((24, 3, 3), 1e300)}, r"`X` holds 1e\+300, a value too large for float32"),
    (small(model="lenet"), {}, "`model` 'lenet' takes images; `image_shape` must say"),
    (small(model="lenet"), {"X": np.zeros((24, 8, 8))}, r"`model` 'lenet' does not take samples of shape \(1, 8, 8\)"),
    (small(model="nothing"), {}, "`model` 'nothing' must be one of 'small', 'alexnet'"),
    (small(model=3), {}, r"`model` 3 must be a name, a function of \(channels, classes\) or a Layer"),
    (small(model=lambda channels, classes: None), {}, "`model` must return a Layer, but returned None"),
    (small(model=nn.Linear(3, 5)), {}, r"`model` \(Linear\) gives \(1, 5\) for one sample .* must give \(1, 2\)"),
]


@pytest.mark.parametrize(("classifier", "changes", "message"), REFUSED)
def test_errors_name_the_argument(classifier: CNNClassifier, changes: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        copy.deepcopy(classifier).fit(**{"X": ROWS, "y": CLASSES, **changes})


def test_labels_and_images_that_do_not_fit() -> None:
    from scipy import sparse

    with pytest.raises(TypeError, match="Sparse data was passed for y, but dense data is required"):
        small().fit(ROWS, sparse.csr_array(CLASSES[:, None]))
    classifier = small().fit(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"`X` of shape \(240, 8, 8, 1\) must be \(n, 1, 8, 8\), as in fit"):
        classifier.predict(IMAGES[..., None])
    with pytest.raises(ValueError, match=r"`X` of shape \(240, 8, 8\) must be \(n, features\), as in fit"):
        small().fit(DIGITS, LABELS).predict(IMAGES)
