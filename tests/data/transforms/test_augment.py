"""Random transforms: what each draws and does, on every backend, and mixed batches with their targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn
from numbacnn.backends import Backend
from numbacnn.data import (
    ArrayDataset,
    CutMix,
    DataLoader,
    MixUp,
    PairDataset,
    RandAugment,
    RandomAffine,
    RandomErasing,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
)
from numbacnn.data.transforms.affine import inverse_affine, warped
from numbacnn.data.transforms.rand_augment import OPERATIONS
from tests.numeric import normal

SHAPE = (4, 3, 6, 8)
EVERY = (
    RandomVerticalFlip(),
    RandomResizedCrop((5, 4)),
    RandomResizedCrop(5, interpolation="nearest"),
    RandomRotation(30, "bilinear"),
    RandomAffine(20, (0.2, 0.3), (0.7, 1.4), (-10, 10, -5, 5), fill=[0.1, 0.2, 0.3]),
    RandomErasing(0.7),
    RandomErasing(value="random"),
    RandAugment(3, 12),
)


def apply(transform: Any, x: np.ndarray, backend: Backend, seed: int = 0) -> np.ndarray:
    y = transform(backend.asarray(x), np.random.default_rng(seed), backend)
    assert backend.is_array(y)
    y = backend.to_numpy(y)
    assert y.dtype == x.dtype and y.shape == (len(x), *transform.output_shape(x.shape[1:]))
    assert not np.shares_memory(x, y)
    return y


def on_host() -> tuple[np.random.Generator, Backend]:
    return np.random.default_rng(1), backends.get("reference")


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_every_backend_draws_alike(backend: Backend, transform: Any) -> None:
    for shape in (SHAPE, (2, 3, 1, 1), (0, 3, 4, 4)):
        x = np.random.default_rng(7).random(shape)
        expected = transform(x, np.random.default_rng(0), backends.get("reference"))
        for images in (x, np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
            np.testing.assert_allclose(apply(transform, images, backend), expected, rtol=1e-12, atol=1e-12)
        single = apply(transform, x.astype(np.float32), backend)
        if "RandAugment" not in repr(transform):  # whose levels are rounded
            np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-5)
    if len(x):
        assert not np.array_equal(expected, transform(x, np.random.default_rng(1), backends.get("reference")))


def test_vertical_flip(backend: Backend) -> None:
    x = normal(SHAPE, 3, np.float32)
    flipped = apply(RandomVerticalFlip(0.4), x, backend, 7)
    for image, was, drawn in zip(flipped, x, np.random.default_rng(7).random(len(x)), strict=True):
        np.testing.assert_array_equal(image, was[:, ::-1] if drawn < 0.4 else was)
    np.testing.assert_array_equal(apply(RandomVerticalFlip(1), x, backend), x[:, :, ::-1])


def test_right_angles_and_translations_move_whole_pixels(backend: Backend) -> None:
    x = normal((2, 3, 5, 5), 3, np.float32)
    for interpolation in ("nearest", "bilinear"):
        for quarters in (-1, 1, 2):
            turned = apply(RandomRotation((90 * quarters, 90 * quarters), interpolation), x, backend)
            np.testing.assert_array_equal(turned, np.rot90(x, quarters, axes=(2, 3)))
    wide = normal((40, 1, 5, 7), 4, np.float32)
    moved = apply(RandomAffine(0, translate=(0.5, 0.3), fill=9), wide, backend, 5)
    found = set()
    for image, was in zip(moved, wide, strict=True):
        padded = np.pad(was, ((0, 0), (4, 4), (4, 4)), constant_values=9)
        places = [
            (row, column)
            for row in range(-4, 5)
            for column in range(-4, 5)
            if np.array_equal(image, padded[:, 4 - row : 9 - row, 4 - column : 11 - column])
        ]
        assert len(places) == 1
        found |= set(places)
    assert {row for row, _ in found} == {-1, 0, 1}
    assert {column for _, column in found} == {*range(-3, 4)}


def turned_and_sheared(turn: float, factor: float, x_turn: float, y_turn: float) -> np.ndarray:
    """The matrix of (x, y) by radians, clockwise; sheared first."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shears = np.array([[1, 0], [-np.tan(y_turn), 1]]) @ np.array([[1, -np.tan(x_turn)], [0, 1]])
    return factor * rotation @ shears


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("center", [None, (0, 0), [7.25, -2]])
def test_each_point_comes_from_where_the_matrix_about_the_center_says(
    backend: Backend, center: Any, interpolation: str
) -> None:
    x, random = normal((3, 2, 6, 9), 3), np.random.default_rng(5)
    n, _, h, w = x.shape
    affine = RandomAffine((25, 25), (0.3, 0.3), (1.3, 1.3), (8, 8, -5, -5), interpolation, 7, center)
    random.random(n)  # the angles
    moved = np.stack([np.rint(random.uniform(-0.3 * size, 0.3 * size, n)) for size in (w, h)], axis=1)
    inverse = np.linalg.inv(turned_and_sheared(np.radians(25), 1.3, *np.radians([8, -5])))
    middle = np.array([w / 2, h / 2] if center is None else center)
    points = np.stack(np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5), axis=-1)
    for image, found, far in zip(x, apply(affine, x, backend, 5), moved, strict=True):
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), constant_values=7)
        # Pixels of the padded image, in which the first centre is at 0.
        at = np.clip(middle + (points - middle - far) @ inverse.T + 0.5, 0, [w + 1, h + 1])
        if interpolation == "nearest":
            columns, rows = np.floor(at + 0.5).astype(int).transpose(2, 0, 1)
            np.testing.assert_array_equal(found, padded[:, rows, columns])
            continue
        columns, rows = np.minimum(np.floor(at), [w, h]).astype(int).transpose(2, 0, 1)
        right, down = at[..., 0] - columns, at[..., 1] - rows
        above, below = (
            (1 - right) * padded[:, line, columns] + right * padded[:, line, columns + 1] for line in (rows, rows + 1)
        )
        np.testing.assert_allclose(found, (1 - down) * above + down * below, rtol=0, atol=1e-8)
    turned = apply(RandomRotation((25, 25), interpolation, center=center, fill=7), x, backend)
    clockwise = RandomAffine((-25, -25), interpolation=interpolation, fill=7, center=center)
    np.testing.assert_array_equal(turned, apply(clockwise, x, backend))


@pytest.mark.torch
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("shape", [(3, 2, 7, 10), (2, 1, 9, 4)])
def test_warps_are_pytorch_s_grids(shape: tuple[int, ...], interpolation: str) -> None:
    """Of the inverse of rotation, scale, shear and translation, multiplied out, in units of half of the image."""
    import torch

    n, _, h, w = shape
    x, rng = normal(shape, 1), np.random.default_rng(2)
    degrees, scale = rng.uniform(-80, 80, n), rng.uniform(0.5, 2, n)
    shear, moved = rng.uniform(-30, 30, (2, n)), rng.uniform(-2, 2, (2, n))
    thetas = []
    drawn = zip(np.radians(degrees), scale, *np.radians(shear), *moved, strict=True)
    for *turned, right, down in drawn:
        inverse = np.linalg.inv(turned_and_sheared(*turned))
        half = np.diag([w / 2, h / 2])
        linear = np.linalg.inv(half) @ inverse @ half
        thetas.append(np.hstack([linear, -(np.linalg.inv(half) @ inverse @ [right, down])[:, None]]))
    grid = torch.nn.functional.affine_grid(torch.tensor(np.array(thetas)), list(shape), align_corners=False)
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(x), grid, mode=interpolation, padding_mode="zeros", align_corners=False
    )
    matrices = inverse_affine(shape, degrees, tuple(moved), scale, tuple(shear))
    for name in ("reference", "cpu"):
        y = warped(x, matrices, backends.get(name), interpolation)
        np.testing.assert_allclose(y, expected.numpy(), rtol=0, atol=1e-7)


def test_a_resized_crop_is_a_window_resized(backend: Backend) -> None:
    x = normal((6, 1, 6, 8), 3)
    crop = RandomResizedCrop((6, 5), scale=(0.2, 0.8), ratio=(0.5, 2.0))
    for image, y in zip(x, apply(crop, x, backend, 4), strict=True):
        windows = [
            (h, w)
            for h in range(1, 7)
            for w in range(1, 9)
            # Sides are rounded, so that areas and shapes are nearly within their bounds.
            if 0.1 < h * w / 48 < 0.95 and 0.3 < w / h < 3
            for top in range(7 - h)
            for left in range(9 - w)
            if np.allclose(y, Resize((6, 5))(image[None, :, top : top + h, left : left + w], *on_host())[0], atol=1e-7)
        ]
        assert len(windows) == 1


def test_a_crop_that_never_fits_is_in_the_middle() -> None:
    x = np.arange(60.0).reshape(1, 1, 3, 20)
    found = RandomResizedCrop((3, 4), scale=(1, 1), ratio=(3 / 4, 4 / 3), interpolation="nearest")(x, *on_host())
    np.testing.assert_array_equal(found, x[..., 8:12])
    tall = RandomResizedCrop((4, 3), scale=(1, 1), interpolation="nearest")(x.transpose(0, 1, 3, 2), *on_host())
    np.testing.assert_array_equal(tall, x.transpose(0, 1, 3, 2)[:, :, 8:12])


def test_windows_are_drawn_as_their_arguments_say() -> None:
    n, side = 2000, 40
    x = np.broadcast_to(np.arange(side * side, dtype=np.float64).reshape(1, 1, side, side), (n, 1, side, side))
    y = RandomResizedCrop(1, scale=(0.1, 0.4), ratio=(0.5, 2))(x, *on_host())
    rows, columns = y[:, 0, 0, 0] // side, y[:, 0, 0, 0] % side
    for place in (rows, columns):
        assert abs(place.mean() - (side - 1) / 2) < 0.7
    erased = RandomErasing(0.6, scale=(0.1, 0.3), value=-1)(x, *on_host()) == -1
    areas = erased.sum(axis=(1, 2, 3)) / side**2
    assert abs((areas > 0).mean() - 0.6) < 0.03
    assert areas[areas > 0].min() < 0.11 and areas.max() > 0.29
    assert abs(areas[areas > 0].mean() - 0.2) < 0.01
    heights, widths = erased.any(axis=3).sum(axis=(1, 2))[areas > 0], erased.any(axis=2).sum(axis=(1, 2))[areas > 0]
    np.testing.assert_array_equal(heights * widths, erased.sum(axis=(1, 2, 3))[areas > 0])
    assert abs(np.log(heights / widths).mean()) < 0.05 and (heights / widths).max() > 2.5


def test_erased_boxes(backend: Backend) -> None:
    x = 5 + np.random.default_rng(0).random((20, 3, 8, 9))
    for value, expected in ((2.5, [2.5] * 3), ([1, 2, 3], [1, 2, 3])):
        y = apply(RandomErasing(1, value=value), x, backend)
        is_other = (y != x).any(axis=1)
        assert is_other.any(axis=(1, 2)).all()
        np.testing.assert_array_equal(y.transpose(0, 2, 3, 1)[is_other], np.broadcast_to(expected, (is_other.sum(), 3)))
    noise = apply(RandomErasing(1, value="random"), x, backend)
    changed = noise[noise != x]
    assert abs(changed.mean()) < 0.3 and abs(changed.std() - 1) < 0.2 and len(np.unique(changed)) == len(changed)
    np.testing.assert_array_equal(apply(RandomErasing(0), x, backend), x)


def test_rand_augment_does_each_of_its_operations() -> None:
    """One operation to many copies of an image: as many different results as operations and directions make."""
    x = np.random.default_rng(0).integers(0, 255, (1, 3, 24, 24)) / 255
    n = 2000
    y = RandAugment(1, 9)(np.repeat(x, n, axis=0), *on_host())
    random = np.random.default_rng(1)
    chosen, drawn = random.integers(0, len(OPERATIONS), n), random.random(n) < 0.5
    found = {}
    for image, operation, is_negative in zip(y, chosen, drawn, strict=True):
        kind = OPERATIONS[operation], bool(is_negative)
        np.testing.assert_array_equal(image, found.setdefault(kind, image))
    assert len(found) == 2 * len(OPERATIONS)
    np.testing.assert_array_equal(found["Identity", False], x[0])
    for name in OPERATIONS[1:10]:
        assert not np.array_equal(found[name, False], found[name, True]), name
    for name in OPERATIONS[10:]:
        np.testing.assert_array_equal(found[name, False], found[name, True])
    for name in OPERATIONS[1:-1]:
        assert not np.array_equal(found[name, False], x[0]), name
    # The tenth of 31 strengths: 9/30 of the largest.
    np.testing.assert_array_equal(found["TranslateX", False][..., 3:], x[0, ..., :-3])
    np.testing.assert_array_equal(found["TranslateY", True][:, :-3], x[0, :, 3:])
    np.testing.assert_array_equal(found["Solarize", False], np.where(x[0] >= 0.7, 1 - x[0], x[0]))
    np.testing.assert_allclose(found["Posterize", False], np.floor(x[0] * 128) / 128)
    np.testing.assert_allclose(found["Brightness", True], 0.73 * x[0])
    # Row i is shifted by 0.09 (i + 1/2).
    for i in range(24):
        shift = int(np.floor(0.09 * (i + 0.5) + 0.5))
        np.testing.assert_array_equal(found["ShearX", False][:, i, : 24 - shift], x[0, :, i, shift:])
        np.testing.assert_array_equal(found["ShearY", False][:, : 24 - shift, i], x[0, :, shift:, i])
    turned = RandomRotation((9, 9))(x, *on_host())[0]
    np.testing.assert_array_equal(found["Rotate", False], turned)
    np.testing.assert_array_equal(RandAugment(0)(x, *on_host()), x)


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return (labels[:, None] == np.arange(classes)).astype(np.float64)


def test_mixup(backend: Backend) -> None:
    x, labels = normal((5, 2, 3, 4), 3), np.array([3, 0, 2, 2, 1])
    share = np.random.default_rng(9).beta(0.4, 0.4)
    for given in (labels, one_hot(labels, 6).astype(np.float32)):
        images, targets = MixUp(0.4, num_classes=6)(
            backend.asarray(x), backend.asarray(given), np.random.default_rng(9), backend
        )
        assert backend.is_array(images) and backend.is_array(targets)
        expected = [share * x[i] + (1 - share) * x[i - 1] for i in range(5)]
        np.testing.assert_allclose(backend.to_numpy(images), expected, rtol=1e-12, atol=1e-12)
        rows = one_hot(labels, 6)
        expected = [share * rows[i] + (1 - share) * rows[i - 1] for i in range(5)]
        np.testing.assert_allclose(backend.to_numpy(targets), expected, rtol=1e-6)
        assert backend.to_numpy(targets).dtype == np.float64
    nothing = backend.asarray(x[:0]), backend.asarray(labels[:0])
    none, of_none = MixUp(num_classes=3)(*nothing, np.random.default_rng(0), backend)
    assert tuple(none.shape) == (0, 2, 3, 4) and tuple(of_none.shape) == (0, 3)


def test_cutmix(backend: Backend) -> None:
    x, labels = 1 + np.random.default_rng(0).random((4, 1, 12, 10)).astype(np.float32), np.array([0, 1, 2, 3])
    seen = set()
    for seed in range(12):
        images, targets = CutMix(num_classes=4)(
            backend.asarray(x), backend.asarray(labels), np.random.default_rng(seed), backend
        )
        images, targets = backend.to_numpy(images), backend.to_numpy(targets)
        for i in range(4):
            is_other = images[i, 0] != x[i, 0]
            np.testing.assert_array_equal(images[i, 0][is_other], x[i - 1, 0][is_other])
            height, width = is_other.any(axis=1).sum(), is_other.any(axis=0).sum()
            assert height * width == is_other.sum()
            share = 1 - is_other.mean()
            rows = one_hot(labels, 4)
            np.testing.assert_allclose(targets[i], share * rows[i] + (1 - share) * rows[i - 1], rtol=1e-5, atol=1e-6)
        seen.add((height, width))
    assert len(seen) > 6


def data(n: int = 5) -> ArrayDataset:
    rng = np.random.default_rng(0)
    return ArrayDataset(rng.integers(0, 256, (n, 3, 4, 6)).astype(np.uint8), np.arange(n) % 3, ["a", "b", "c", "d"])


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loader_mixes_batches(backend: Backend, prefetch: int) -> None:
    crop = RandomResizedCrop(3)
    options: dict[str, Any] = {"transform": crop, "batch_transform": MixUp(), "seed": 6}
    found = list(DataLoader(data(), 2, prefetch=prefetch, backend=backend, **options))
    host = backends.get("reference")
    assert len(found) == 3
    for index, (images, targets) in enumerate(found):
        part = slice(2 * index, 2 * index + 2)
        random = np.random.default_rng([6, 0, index, 1])
        x = crop(data().images[part] / np.float32(255), random, host)
        expected, of = MixUp(num_classes=4)(x, data().labels[part], random, host)
        np.testing.assert_allclose(backend.to_numpy(images), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(backend.to_numpy(targets), of, rtol=1e-6)
        assert backend.to_numpy(targets).dtype == np.float32 and backend.to_numpy(targets).flags.c_contiguous


def test_any_function_mixes_batches() -> None:
    def doubled(images: Any, labels: Any, random: np.random.Generator, backend: Backend) -> Any:
        return 2 * images, labels + 1

    plain, mixed = list(DataLoader(data(), 3)), list(DataLoader(data(), 3, batch_transform=doubled))
    for (x, labels), (y, others) in zip(plain, mixed, strict=True):
        np.testing.assert_array_equal(y, 2 * x)
        np.testing.assert_array_equal(others, labels + 1)
    assert "batch_transform=MixUp(alpha=1, num_classes=4)" in repr(DataLoader(data(), 3, batch_transform=MixUp()))


def test_a_loss_takes_mixed_targets() -> None:
    (images, targets), *_ = DataLoader(data(), 5, backend="reference", batch_transform=CutMix())
    loss = nn.CrossEntropyLoss()
    loss.to("reference")
    logits = images.reshape(5, -1)[:, :4]
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(float(loss.forward(logits, targets)), -(targets * logs).sum(axis=1).mean(), rtol=1e-5)


pairs = PairDataset(np.zeros((3, 1, 2, 2), np.float32), np.arange(3))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: RandomVerticalFlip(-1), ValueError, "`p` -1 must be in 0..1"),
        (lambda: RandomResizedCrop(4, scale=0.5), TypeError, "`scale` 0.5 must be two numbers$"),
        (lambda: RandomResizedCrop(4, scale=(0, 1)), ValueError, r"`scale` \(0, 1\) must be in order and above 0"),
        (lambda: RandomResizedCrop(4, ratio=(2, 1)), ValueError, r"`ratio` \(2, 1\) must be in order and above 0"),
        (lambda: RandomResizedCrop(4, interpolation="cubic"), ValueError, "`interpolation` 'cubic' must be one of"),
        (lambda: RandomResizedCrop(4).output_shape((1, 0, 4)), ValueError, "have no pixels"),
        (lambda: RandomRotation(-3), ValueError, "`degrees` -3 must be at least 0"),
        (lambda: RandomRotation("3"), TypeError, "`degrees` '3' must be two numbers, or one"),
        (lambda: RandomRotation(3, expand=True), ValueError, "`expand` True must be False"),
        (lambda: RandomRotation(3, center=4), TypeError, "`center` 4 must be two numbers, x and y"),
        (lambda: RandomAffine(3, center=(4, float("inf"))), ValueError, "`center` inf must be finite"),
        (lambda: RandomRotation(3, fill=float("nan")), ValueError, "`fill` nan must be finite"),
        (lambda: RandomRotation(3, fill=[1, 2])(*images()), ValueError, r"`fill` \(1.0, 2.0\) must be .* 3 channels"),
        (lambda: RandomAffine(3, translate=0.1), TypeError, "`translate` 0.1 must be two numbers"),
        (lambda: RandomAffine(3, translate=(0.1, 2)), ValueError, "`translate` 2 must be in 0..1"),
        (lambda: RandomAffine(3, scale=(0, 1)), ValueError, r"`scale` \(0, 1\) must be in order and above 0"),
        (lambda: RandomAffine(3, shear=(1, 2, 3)), TypeError, r"`shear` \(1, 2, 3\) must be one, two or four numbers"),
        (lambda: RandomErasing(value="noise"), TypeError, "`value` 'noise' must be a number"),
        (lambda: RandomErasing(value=[1, 2])(*images()), ValueError, r"`value` \(1.0, 2.0\) must be .* 3 channels"),
        (lambda: RandAugment(-1), ValueError, "`num_ops` -1 must be at least 0"),
        (lambda: RandAugment(2, 31), ValueError, "`magnitude` 31 must be"),
        (lambda: RandAugment(num_magnitude_bins=1), ValueError, "`num_magnitude_bins` 1 must be at least 2"),
        (lambda: RandAugment().output_shape((2, 4, 4)), ValueError, r"\(2, 4, 4\) must have 1 or 3 channels"),
        (lambda: MixUp(0), ValueError, "`alpha` 0 must be above 0"),
        (lambda: CutMix(num_classes=0), ValueError, "`num_classes` 0 must be at least 1"),
        (lambda: next(iter(DataLoader(pairs, 3, batch_transform=MixUp()))), ValueError, "`num_classes` None must be"),
        (lambda: MixUp(1, 3)(images()[0], np.zeros((4, 2), int), *on_host()), ValueError, r"\(4, 2\) .* class numbers"),
        (lambda: DataLoader(data(), 2, batch_transform=MixUp), TypeError, "`batch_transform` .* must be called as"),
        (
            lambda: DataLoader(PairDataset(np.zeros((2, 3)), [0, 1]), 2, batch_transform=MixUp()),
            ValueError,
            "`batch_transform` must be None for a data set whose inputs",
        ),
        (
            lambda: DataLoader(PairDataset(pairs.inputs, ([0, 1, 2], [0, 1, 2])), 2, batch_transform=MixUp()),
            ValueError,
            "`batch_transform` must be None for a data set whose targets",
        ),
    ],
)  # fmt: skip
def test_refusals(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def images() -> tuple[np.ndarray, np.random.Generator, Backend]:
    return normal(SHAPE, 1, np.float32), *on_host()
