"""The built-in data set: reproducible, balanced, and no task for a linear classifier."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from numbacnn.data import shapes

module = sys.modules["numbacnn.data.datasets.shapes"]


def test_defaults(monkeypatch):
    monkeypatch.setattr(module, "TRAIN_SIZE", 70)
    monkeypatch.setattr(module, "TEST_SIZE", 30)
    train, test = shapes("train"), shapes("test")
    assert (len(train), len(test)) == (70, 30)
    assert (train.name, test.name) == ("shapes train", "shapes test")
    assert train.image_shape == test.image_shape == (1, 28, 28)
    assert train.images.dtype == np.uint8
    assert train.classes == test.classes == module.CLASSES and len(set(module.CLASSES)) == 10


@pytest.mark.parametrize("workers", [1, 7])
def test_the_same_bits_whatever_the_number_of_threads(monkeypatch, workers):
    expected = shapes("train", 1500)
    monkeypatch.setattr(module, "ThreadPoolExecutor", lambda _: executor(workers))
    executor = sys.modules["concurrent.futures"].ThreadPoolExecutor
    again = shapes("train", 1500)
    np.testing.assert_array_equal(again.images, expected.images)
    np.testing.assert_array_equal(again.labels, expected.labels)


@pytest.mark.parametrize(("image_size", "channels"), [(28, 1), (13, 3), (70, 2)])
def test_the_first_samples_do_not_depend_on_the_size(image_size, channels):
    whole = shapes("train", 700, image_size, channels, seed=5)
    for size in (1, 9, 64, 333, 640, 641):
        part = shapes("train", size, image_size, channels, seed=5)
        np.testing.assert_array_equal(part.images, whole.images[:size])
        np.testing.assert_array_equal(part.labels, whole.labels[:size])


def test_splits_and_seeds_and_blocks_differ():
    sets = [shapes(split, 1300, seed=seed).images for split in ("train", "test") for seed in (0, 1)]
    distinct = {image.tobytes() for images in sets for image in images}
    assert len(distinct) == 4 * 1300


def test_classes_are_balanced_in_every_prefix():
    labels = shapes("test", 1287, image_size=8).labels
    counts = np.cumsum(np.eye(10, dtype=int)[labels], axis=0)
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1
    assert len({tuple(labels[start : start + 10]) for start in range(0, 1280, 10)}) > 120


@pytest.mark.parametrize("image_size", [8, 9, 28, 96])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_image_sizes_and_channels(image_size, channels):
    dataset = shapes("train", 40, image_size, channels)
    assert dataset.images.shape == (40, channels, image_size, image_size)
    # The same picture at every size: its mean changes little.
    small, large = dataset.images.mean((1, 2, 3)), shapes("train", 40, 48, channels).images.mean((1, 2, 3))
    assert np.abs(small - large).max() < 16
    if channels > 1:
        assert (np.ptp(dataset.images.mean((2, 3)), axis=1) > 1).mean() > 0.9


def test_pixels():
    dataset = shapes("train", 2000)
    assert dataset.images.min() == 0 and dataset.images.max() == 255
    pixels = dataset.images / 255
    # Dark ground, bright shapes, and neither a blank nor a full image.
    assert 0.25 < pixels.mean() < 0.45
    covered = (pixels > 0.5).mean((1, 2, 3))
    assert covered.min() > 0.03 and covered.max() < 0.95
    # Noise differs between images.
    corners = pixels[:, 0, :3, :3].std((1, 2))
    assert np.percentile(corners, 30) > 0.01


@pytest.fixture
def plain(monkeypatch):
    """Shapes of one size in white on black, straight and in the middle, without noise and clutter."""
    for constant in ("ROTATION", "SHEAR", "SHIFT", "STROKED_SHARE"):
        monkeypatch.setattr(module, constant, 0.0)
    for constant in ("BACKGROUND", "CLUTTER", "NOISE"):
        monkeypatch.setattr(module, constant, (0.0, 0.0))
    monkeypatch.setattr(module, "FOREGROUND", (1.0, 1.0))
    monkeypatch.setattr(module, "SCALE", (0.8, 0.8))


def images_of(name, **arguments):
    dataset = shapes("test", 200, **arguments)
    return dataset.images[dataset.labels == module.CLASSES.index(name), 0] / 255


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("name", "area"), [("circle", np.pi * 1.1**2), ("bars", 4 * 0.6 * 0.9), ("arch", 2.529)])
def test_edges_are_smooth_enough_to_measure_areas(monkeypatch, name, area):
    monkeypatch.setattr(module, "ROTATION", 3.0)
    monkeypatch.setattr(module, "SHEAR", 0.2)
    monkeypatch.setattr(module, "SHIFT", 0.1)
    monkeypatch.setattr(module, "SCALE", (0.5, 0.5))
    covered = images_of(name).sum((1, 2)) / (0.5 * 14) ** 2
    assert abs(covered.mean() / area - 1) < 0.02
    assert covered.std() / area < 0.02


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_stroked_shapes_have_a_faded_inside(monkeypatch, share):
    monkeypatch.setattr(module, "STROKED_SHARE", share)
    circles = images_of("circle")
    middle, rim = circles[:, 13:15, 13:15].mean((1, 2)), circles[:, 13:15, 2:4].mean((1, 2))
    assert (rim > 0.9).all()
    assert (middle < 0.75).all() if share else (middle == 1).all()


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("name", module.CLASSES)
def test_each_name_is_its_shape(name):
    bright = images_of(name, image_size=20)[0] > 0.5
    probes = {
        "circle": ((10, 10, True), (10, 2, True), (1, 10, True), (3, 3, False)),
        "triangle": ((12, 10, True), (13, 4, True), (4, 4, False), (4, 10, True)),
        "arch": ((3, 10, True), (16, 10, False), (16, 4, True), (16, 15, True)),
        "cross": ((10, 10, True), (3, 10, True), (10, 3, True), (4, 4, False)),
        "stripes": ((10, 10, True), (7, 10, False), (4, 10, True), (12, 10, False)),
        "arrow": ((6, 10, True), (15, 10, True), (15, 6, False), (8, 6, True)),
        "crescent": ((10, 16, True), (10, 8, False), (3, 12, True), (10, 3, False)),
        "corner": ((14, 6, True), (14, 14, True), (6, 6, True), (6, 13, False)),
        "bars": ((10, 10, False), (10, 5, True), (10, 14, True), (5, 5, True)),
        "hourglass": ((5, 10, True), (14, 10, True), (10, 5, False), (10, 14, False)),
    }[name]
    assert [bool(bright[row, column]) for row, column, _ in probes] == [expected for *_, expected in probes]


def test_a_linear_classifier_does_not_suffice():
    train, test = shapes("train", 6000), shapes("test", 1500)

    def features(dataset):
        pixels = dataset.images.reshape(len(dataset), -1).astype(np.float64) / 255
        return np.column_stack((pixels, np.ones(len(dataset))))

    x, y = features(train), np.eye(10)[train.labels]
    accuracy = max(
        (np.argmax(features(test) @ np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y), 1) == test.labels)
        .mean()
        for ridge in (1.0, 30.0, 300.0)
    )  # fmt: skip
    assert 0.4 < accuracy < 0.8


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"split": "valid"}, ValueError, "`split` 'valid' must be one of 'train', 'test'"),
        ({"size": 0}, ValueError, "`size` 0 must be at least 1"),
        ({"size": 2.0}, TypeError, "`size` 2.0 must be an int"),
        ({"image_size": 7}, ValueError, "`image_size` 7 must be at least 8"),
        ({"channels": 0}, ValueError, "`channels` 0 must be at least 1"),
        ({"seed": -1}, ValueError, "`seed` -1 must be at least 0"),
        ({"seed": True}, TypeError, "`seed` True must be an int"),
    ],
)
def test_refusals(arguments, error, words):
    with pytest.raises(error, match=words):
        shapes(**({"split": "train", "size": 10} | arguments))
