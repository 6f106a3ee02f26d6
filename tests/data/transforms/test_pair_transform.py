"""Transforms of pictures and masks alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import data
from numbacnn.backends import Backend

PICTURES = np.random.default_rng(0).integers(0, 256, (12, 3, 10, 14), np.uint8)
MASKS = PICTURES[:, 0]


def batches(transform: Any, targets: Any = MASKS, **options: Any) -> list[tuple[Any, Any]]:
    return list(data.DataLoader(data.PairDataset(PICTURES, targets), 5, transform=transform, seed=3, **options))


def test_masks_go_where_their_pictures_go(backend: Backend) -> None:
    flips = data.Compose([data.RandomHorizontalFlip(), data.RandomCrop((8, 9), padding=2)])
    transform = data.PairTransform([data.ColorJitter(brightness=0.0), flips, data.RandomHorizontalFlip(0.3)])
    several = set()
    for on in (None, backend):
        for x, masks in batches(transform, shuffle=True, backend=on):
            x, masks = np.asarray(x), np.asarray(masks)
            assert x.shape[1:] == (3, 8, 9) and masks.shape[1:] == (8, 9) and masks.dtype == np.int64
            np.testing.assert_allclose(255 * x[:, 0], masks, atol=1e-3)
            several |= {mask.tobytes() for mask in masks}
    assert len(several) == 12
    alone = batches(transform.transforms[1])
    together = batches(data.PairTransform(transform.transforms[1]))
    for (x, _), (y, _) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "transform",
    [
        data.RandomVerticalFlip(),
        data.RandomRotation(30, center=(3, 4)),
        data.RandomAffine(20, (0.1, 0.1), (0.8, 1.2), (1, 10, -5, 5), center=(20, 0)),
        data.RandomResizedCrop(12, interpolation="nearest"),
    ],
    ids=repr,
)
def test_nearest_pixels_are_the_same_of_pictures_and_masks(transform: data.Transform) -> None:
    pictures = np.random.default_rng(0).integers(1, 256, (6, 1, 20, 24)).astype(np.uint8)
    dataset = data.PairDataset(pictures, pictures[:, 0].astype(np.int64))
    x, masks = next(iter(data.DataLoader(dataset, 6, transform=data.PairTransform(transform))))
    np.testing.assert_array_equal(np.rint(255 * x[:, 0]), masks)


@pytest.mark.parametrize(
    "transform",
    [data.RandomRotation(30, "bilinear", fill=0.5), data.RandomAffine(20, interpolation="bilinear", fill=0.5)],
    ids=repr,
)
def test_masks_are_not_interpolated_and_filled_with_their_own_number(transform: data.Transform) -> None:
    masks = np.repeat(np.array([3, 7]), 10)[None, :, None].repeat(20, axis=2)
    dataset = data.PairDataset(np.zeros((1, 1, 20, 20), np.uint8), masks)
    _, moved = next(iter(data.DataLoader(dataset, 1, transform=data.PairTransform(transform, fill=9))))
    assert set(np.unique(moved)) == {3, 7, 9}


def test_what_is_erased_stays_in_the_masks() -> None:
    pictures = np.full((2, 1, 8, 8), 255, np.uint8)
    dataset = data.PairDataset(pictures, np.ones((2, 8, 8), np.int64))
    x, masks = next(iter(data.DataLoader(dataset, 2, transform=data.PairTransform(data.RandomErasing(1.0)))))
    assert (x == 0).any() and (masks == 1).all()


def test_padding_has_the_number_to_fill_with() -> None:
    for x, masks in batches(data.PairTransform(data.RandomCrop((12, 16), padding=3), fill=-1)):
        padding = masks == -1
        assert padding.any() and not x[padding[:, None].repeat(3, axis=1)].any()
        assert set(np.unique(masks)) - {-1} <= set(np.unique(MASKS))


def test_a_mask_is_resized_to_the_nearest_and_a_picture_as_its_input() -> None:
    transform = data.PairTransform([data.Resize((5, 28)), data.Normalize([0.5] * 3, [0.5] * 3)])
    x, masks = batches(transform)[0]
    assert x.shape == (5, 3, 5, 28) and x.min() < -0.9
    np.testing.assert_array_equal(masks, MASKS[:5, 1::2].repeat(2, axis=2))
    targets = PICTURES.astype(np.float64) / 255
    x, pictures = batches(transform, targets)[0]
    assert pictures.dtype == np.float64
    np.testing.assert_allclose((x + 1) / 2, pictures, atol=1e-6)


def test_the_next_epoch_is_another_and_the_loader_knows_the_shape() -> None:
    transform = data.PairTransform(data.RandomCrop(4))
    loader = data.DataLoader(data.PairDataset(PICTURES, MASKS), 12, transform=transform)
    assert loader.image_shape == (3, 4, 4)
    (first,), (second,) = list(loader), list(loader)
    assert not np.array_equal(first[1], second[1])
    loader.set_epoch(0)
    ((x, masks),) = loader
    np.testing.assert_array_equal(x, first[0])
    np.testing.assert_array_equal(masks, first[1])
    assert (
        repr(data.PairTransform(data.RandomCrop(4), 2)) == "PairTransform([RandomCrop((4, 4), padding=(0, 0))], fill=2)"
    )


class Unknown:
    def __call__(self, images: Any, random: Any, backend: Any) -> Any:
        return images

    def output_shape(self, image_shape: Any) -> Any:
        return image_shape


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="must say by `for_targets` what targets become"):
        data.PairTransform([Unknown()])
    with pytest.raises(TypeError, match="must be called as"):
        data.PairTransform([data.Resize])  # type: ignore[list-item]
    flip = data.PairTransform(data.RandomHorizontalFlip())
    for targets, error, message in (
        (np.zeros(12, np.int64), TypeError, r"targets of shape \(5,\) and dtype int64 must be masks"),
        ((MASKS, MASKS), TypeError, "targets must be one array"),
        (MASKS[:, :5], ValueError, r"targets of shape \(5, 5, 14\) must have the height and width of the inputs"),
    ):
        with pytest.raises(error, match=message):
            batches(flip, targets)
