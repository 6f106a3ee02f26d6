"""Drawn scenes with masks: reproducible, and not told apart by brightness."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.data import shape_masks


@pytest.mark.parametrize(("image_size", "channels"), [(48, 3), (16, 1)])
def test_the_first_samples_do_not_depend_on_the_size(image_size: int, channels: int) -> None:
    whole = shape_masks("train", 130, image_size, channels, seed=5)
    assert whole.inputs.shape == (130, channels, image_size, image_size) and whole.inputs.dtype == np.uint8
    assert whole.targets.shape == (130, image_size, image_size) and whole.targets.dtype == np.uint8
    for size in (1, 64, 65):
        part = shape_masks("train", size, image_size, channels, seed=5)
        np.testing.assert_array_equal(part.inputs, whole.inputs[:size])
        np.testing.assert_array_equal(part.targets, whole.targets[:size])


def test_splits_and_seeds_and_blocks_differ() -> None:
    sets = [shape_masks(split, 130, 16, 1, seed=seed).inputs for split in ("train", "test") for seed in (0, 1)]
    assert len({image.tobytes() for images in sets for image in images}) == 4 * 130


def test_every_class_is_there_and_brightness_does_not_tell() -> None:
    dataset = shape_masks("train", 128, 48, 1)
    pixels, masks = dataset.inputs[:, 0].astype(float), dataset.targets
    shares = np.bincount(masks.ravel()) / masks.size
    assert len(shares) == 4 and shares.min() > 0.03 and 0.5 < shares[0] < 0.9
    means = np.array([pixels[masks == number].mean() for number in range(4)])
    assert np.ptp(means) < 0.3 * pixels.std()
    # Within a picture a shape is seen: it is lighter or darker than what is around it.
    apart = [
        abs(picture[mask > 0].mean() - picture[mask == 0].mean())
        for picture, mask in zip(pixels, masks, strict=True)
        if mask.any()
    ]
    assert np.mean(apart) > 30


def test_classes_of_one_s_choice() -> None:
    dataset = shape_masks("test", 64, 24, 1, classes=["arch", "bars"])
    assert np.unique(dataset.targets).tolist() == [0, 1, 2]
    one = shape_masks("test", 64, 24, 1, classes=["arch"])
    assert np.unique(one.targets).tolist() == [0, 1]


def test_what_is_refused() -> None:
    for arguments, error, message in (
        ({"split": "val"}, ValueError, "`split` 'val' must be one of"),
        ({"split": "test", "size": 0}, ValueError, "`size` 0 must be at least 1"),
        ({"split": "test", "image_size": 15}, ValueError, "`image_size` 15 must be at least 16"),
        ({"split": "test", "channels": 0}, ValueError, "`channels` 0 must be at least 1"),
        ({"split": "test", "classes": "circle"}, TypeError, "must be a sequence of names"),
        ({"split": "test", "classes": []}, TypeError, "one at least"),
        ({"split": "test", "classes": ["square"]}, ValueError, "`classes` 'square' must be one of 'circle'"),
    ):
        with pytest.raises(error, match=message):
            shape_masks(**arguments)  # type: ignore[arg-type]
