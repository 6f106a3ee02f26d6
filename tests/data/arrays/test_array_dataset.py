"""Data sets in memory."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.data import ArrayDataset


def images(n=4, dtype=np.uint8):
    return np.arange(n * 2 * 3 * 5).reshape(n, 2, 3, 5).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_holds_what_it_was_given(dtype):
    given = images(dtype=dtype)
    dataset = ArrayDataset(given, np.array([2, 0, 1, 2], np.int16), ("a", "b", "c", "d"), "letters")
    assert len(dataset) == 4
    assert dataset.images is given
    assert dataset.labels.tolist() == [2, 0, 1, 2] and dataset.labels.dtype == np.int64
    assert dataset.classes == ("a", "b", "c", "d") and dataset.num_classes == 4
    assert dataset.image_shape == (2, 3, 5)
    assert dataset.name == "letters"


def test_classes_default_to_the_labels():
    dataset = ArrayDataset(images(), [0, 3, 1, 0])
    assert dataset.classes == ("0", "1", "2", "3")
    empty = ArrayDataset(images(0), np.zeros(0, np.int64))
    assert len(empty) == 0 and empty.classes == () and empty.image_shape == (2, 3, 5)


def test_labels_are_the_data_sets_own():
    labels = np.array([0, 1, 0, 1])
    dataset = ArrayDataset(images(), labels)
    labels[:] = 0
    assert dataset.labels.tolist() == [0, 1, 0, 1]


def test_samples():
    dataset = ArrayDataset(images(), [0, 1, 0, 1])
    image, label = dataset[1]
    np.testing.assert_array_equal(image, images()[1])
    assert label == 1 and isinstance(label, int)
    image[:] = 0
    np.testing.assert_array_equal(dataset[-3][0], images()[1])
    assert [label for _, label in dataset] == [0, 1, 0, 1]
    for index in (4, -5):
        with pytest.raises(IndexError, match=rf"`index` {index} must be in -4\.\.3"):
            dataset[index]


@pytest.mark.parametrize(("limit", "length"), [(1, 1), (3, 3), (4, 4), (9, 4), (np.int64(2), 2)])
def test_subset_is_a_prefix_with_the_same_classes(limit, length):
    dataset = ArrayDataset(images(), [0, 0, 0, 1], ["a", "b"], "letters")
    part = dataset.subset(limit)
    np.testing.assert_array_equal(part.images, images()[:length])
    assert part.labels.tolist() == [0, 0, 0, 1][:length]
    assert (part.classes, part.name) == (("a", "b"), "letters")


def test_subset_limits():
    dataset = ArrayDataset(images(), [0, 0, 0, 1])
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"`limit` {limit} must be at least 1"):
            dataset.subset(limit)
    with pytest.raises(TypeError, match="`limit`"):
        dataset.subset(1.5)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((images(dtype=np.int64), [0] * 4), TypeError, "`images` of dtype int64 must be uint8, float32 or float64"),
        ((images()[0], [0] * 2), ValueError, r"`images` of shape \(2, 3, 5\) must have four axes"),
        ((images(), [0.0] * 4), TypeError, "`labels` of dtype float64 must be integers"),
        ((images(), [True] * 4), TypeError, "`labels` of dtype bool must be integers"),
        ((images(), [0] * 3), ValueError, r"`labels` of shape \(3,\).*4 images"),
        ((images(), [[0]] * 4), ValueError, r"`labels` of shape \(4, 1\)"),
        ((images(), [0, -1, 0, 0]), ValueError, "`labels` holds -1; labels must be at least 0"),
        ((images(), [0, 2, 0, 0], "ab"), TypeError, "`classes` 'ab' must be a sequence"),
        ((images(), [0, 2, 0, 0], ["a", "b"]), ValueError, r"`labels` holds 2; labels must be in 0\.\.1"),
        ((images(), [0, -3, 0, 0], ["a", "b"]), ValueError, r"`labels` holds -3; labels must be in 0\.\.1"),
    ],
)
def test_refusals(arguments, error, words):
    with pytest.raises(error, match=words):
        ArrayDataset(*arguments)


def test_repr():
    assert repr(ArrayDataset(images(), [0, 1, 0, 1], name="x")) == "ArrayDataset('x', 4 x (2, 3, 5) uint8, 2 classes)"
