"""Transforms of batches: what each computes, on every backend, and how the loader draws for them."""

from __future__ import annotations

import colorsys
import threading

import numpy as np
import pytest

from numbacnn import backends
from numbacnn.data import (
    ArrayDataset,
    ColorJitter,
    Compose,
    DataLoader,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Resize,
)
from tests.numeric import normal
from tests.recorder import Recorder

SHAPE = (5, 2, 4, 6)


def images(dtype=np.float32):
    return normal(SHAPE, 3, dtype)


def apply(transform, x, backend, seed=0):
    y = transform(backend.asarray(x), np.random.default_rng(seed), backend)
    assert backend.is_array(y)
    y = backend.to_numpy(y)
    assert y.dtype == x.dtype and y.shape == (len(x), *transform.output_shape(x.shape[1:]))
    assert not np.shares_memory(x, y)
    return y


def linear(values, point):
    """Between the values at 0, 1, 2, ..., constant outside."""
    return np.interp(point, np.arange(len(values)), values)


@pytest.mark.parametrize("size", [(4, 6), (8, 3), (1, 1), (7, 13), 5])
def test_resize_interpolates_between_pixel_centres(backend, size):
    x, resize = images(np.float64), Resize(size)
    _, oh, ow = resize.output_shape(SHAPE[1:])
    rows = (np.arange(oh) + 0.5) * SHAPE[2] / oh - 0.5
    columns = (np.arange(ow) + 0.5) * SHAPE[3] / ow - 0.5
    expected = np.apply_along_axis(linear, 3, np.apply_along_axis(linear, 2, x, rows), columns)
    np.testing.assert_allclose(apply(resize, x, backend), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(apply(resize, x.astype(np.float32), backend), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(1, 3, 7, 5), (2, 1, 16, 16), (1, 1, 1, 1)])
@pytest.mark.parametrize("size", [(5, 9), (16, 8), (1, 1), (31, 2)])
def test_resize_is_pytorch_s(shape, size):
    import torch

    x = normal(shape, 1, np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(apply(Resize(size), x, backends.get("cpu")), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_horizontal_flip(backend):
    x = images()
    for p, expected in ((0, x), (1, x[..., ::-1])):
        np.testing.assert_array_equal(apply(RandomHorizontalFlip(p), x, backend), expected)
    flipped = apply(RandomHorizontalFlip(0.4), x, backend, 7)
    for image, was, drawn in zip(flipped, x, np.random.default_rng(7).random(len(x)), strict=True):
        np.testing.assert_array_equal(image, was[..., ::-1] if drawn < 0.4 else was)
    mirrored = RandomHorizontalFlip(0.25)(np.arange(2.0).reshape(1, 1, 1, 2).repeat(4000, 0), *drawing())[:, 0, 0, 0]
    assert abs(mirrored.mean() - 0.25) < 0.05


def drawing():
    return np.random.default_rng(1), backends.get("reference")


@pytest.mark.parametrize(("size", "padding"), [((4, 6), 0), ((2, 3), 0), ((4, 6), (1, 2)), ((9, 3), (3, 0)), (1, 0)])
def test_a_crop_is_a_window_of_the_padded_image(backend, size, padding):
    x, crop = images(), RandomCrop(size, padding)
    (h, w), (down, across) = crop.size, crop.padding
    padded = np.pad(x, ((0, 0), (0, 0), (down, down), (across, across)))
    for image, cropped in zip(padded, apply(crop, x, backend), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, (h, w), axis=(1, 2))
        assert (windows.transpose(1, 2, 0, 3, 4) == cropped).all(axis=(2, 3, 4)).any()


def test_every_window_is_cropped_alike():
    x = np.broadcast_to(np.arange(12, dtype=np.float32).reshape(3, 4), (9000, 1, 3, 4))
    corners = RandomCrop(2)(x, *drawing())[:, 0, 0, 0]
    found, counts = np.unique(corners, return_counts=True)
    assert found.tolist() == [0, 1, 2, 4, 5, 6]
    assert np.abs(counts / 1500 - 1).max() < 0.15
    padded = RandomCrop((3, 4), padding=(1, 0))(x[:3000], *drawing())[:, 0, 0, 1]
    assert np.unique(padded).tolist() == [0, 1, 5]


def test_normalize(backend):
    x = images()
    expected = (x - np.array([0.5, -1]).reshape(2, 1, 1)) / np.array([0.2, 3]).reshape(2, 1, 1)
    np.testing.assert_allclose(apply(Normalize((0.5, -1), np.array([0.2, 3])), x, backend), expected, rtol=1e-5)


def gray(image):
    return np.tensordot([0.2989, 0.587, 0.114], image, 1)


def turned(image, hue):
    """Python's own HSV, pixel by pixel."""
    pixels = []
    for pixel in image.reshape(3, -1).T:
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        pixels.append(colorsys.hsv_to_rgb((h + hue) % 1, s, v))
    return np.array(pixels).T.reshape(image.shape)


def test_color_jitter(backend):
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.random((2, 3, 3, 4)), rng.integers(0, 3, (2, 3, 3, 4)) / 2])
    random = np.random.default_rng(5)
    factors = [random.uniform(low, high, 4) for low, high in ((0.2, 1.8), (0.5, 1.5), (0, 2.5), (-0.4, 0.4))]
    expected = []
    for image, brightness, contrast, saturation, hue in zip(x, *factors, strict=True):
        y = np.clip(brightness * image, 0, 1)
        y = np.clip(contrast * y + (1 - contrast) * gray(y).mean(), 0, 1)
        y = np.clip(saturation * y + (1 - saturation) * gray(y), 0, 1)
        expected.append(turned(y, hue))
    jitter = ColorJitter(0.8, 0.5, 1.5, 0.4)
    np.testing.assert_allclose(apply(jitter, x, backend, 5), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(apply(jitter, x.astype(np.float32), backend, 5), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(apply(ColorJitter(), x, backend), x, rtol=1e-10, atol=1e-10)
    assert repr(jitter) == "ColorJitter(0.8, 0.5, 1.5, 0.4)"
    assert apply(jitter, x[:0], backend).shape == (0, 3, 3, 4)


def test_compose_applies_one_after_the_other(backend):
    x, parts = images(), [RandomCrop(3, 1), RandomHorizontalFlip(), Resize((2, 5)), Normalize([0, 1], [1, 2])]
    random, expected = np.random.default_rng(0), backend.asarray(x)
    for part in parts:
        expected = part(expected, random, backend)
    np.testing.assert_array_equal(apply(Compose(parts), x, backend), backend.to_numpy(expected))
    np.testing.assert_array_equal(apply(Compose([]), x, backend), x)
    assert repr(Compose(parts)) == (
        "Compose([RandomCrop((3, 3), padding=(1, 1)), RandomHorizontalFlip(0.5), Resize((2, 5)), "
        "Normalize((0.0, 1.0), (1.0, 2.0))])"
    )


@pytest.mark.parametrize("transform", [Resize(3), RandomHorizontalFlip(), RandomCrop(3), Normalize([0, 1], [1, 2])])
def test_no_images(backend, transform):
    assert apply(transform, images()[:0], backend).shape[0] == 0


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Resize(0), ValueError, "`size` 0 must be at least 1"),
        (lambda: Resize(2.5), TypeError, "`size` 2.5 must be an int or a pair of ints"),
        (lambda: Resize(2).output_shape((1, 0, 4)), ValueError, r"images of shape \(1, 0, 4\) have no pixels"),
        (lambda: RandomHorizontalFlip(1.5), ValueError, "`p` 1.5 must be in 0..1"),
        (lambda: RandomCrop(3, -1), ValueError, "`padding` -1 must be at least 0"),
        (lambda: RandomCrop((7, 3), (1, 9))(images(), *drawing()), ValueError, r"`size` \(7, 3\) must .* \(6, 24\)"),
        (lambda: Normalize(0.5, 0.5), TypeError, "`mean` 0.5 must be a sequence of numbers"),
        (lambda: Normalize([0.5], [1, 2]), ValueError, r"`std` \(1.0, 2.0\) must have as many numbers as `mean`, 1"),
        (lambda: Normalize([0.5], [0]), ValueError, r"`std` \(0.0,\) must be above 0"),
        (lambda: Normalize([0.5], ["1"]), TypeError, "`std` '1' must be a number"),
        (lambda: Normalize([0.5], [1])(images(), *drawing()), ValueError, r"`mean` \(0.5,\) must .* 2 channels"),
        (lambda: ColorJitter(-0.1), ValueError, "`brightness` -0.1 must be at least 0"),
        (lambda: ColorJitter(hue=0.6), ValueError, "`hue` 0.6 must be in 0..0.5"),
        (lambda: ColorJitter(hue=0.1)(images(), *drawing()), ValueError, r"shape \(2, 4, 6\) must have 3 channels"),
        (lambda: Compose(Resize(3)), TypeError, r"`transforms` Resize\(\(3, 3\)\) must be a list"),
        (lambda: Compose([Resize]), TypeError, "`transforms` .* must be called as"),
        (lambda: DataLoader(dataset(), 2, transform=np.copy), TypeError, "`transform` .* and have `output_shape`"),
        (lambda: DataLoader(dataset(), 2, transform=RandomCrop(9)), ValueError, r"`size` \(9, 9\) must be at most"),
    ],
)
def test_refusals(make, error, words):
    with pytest.raises(error, match=words):
        make()


def dataset(n=5):
    rng = np.random.default_rng(0)
    return ArrayDataset(rng.integers(0, 256, (n, 2, 4, 6)).astype(np.uint8), np.arange(n))


AUGMENT = Compose([RandomCrop((4, 5), 1), RandomHorizontalFlip(), Resize(3), Normalize([0.5, 0.4], [0.2, 0.3])])


def batches(backend=None, epoch=0, **options):
    loader = DataLoader(dataset(), 2, **({"transform": AUGMENT, "seed": 4, "backend": backend} | options))
    loader.set_epoch(epoch)
    assert loader.image_shape == (2, 3, 3)
    result = []
    for x, labels in loader:
        if backend is not None:
            assert backend.is_array(x)
            x, labels = backend.to_numpy(x), backend.to_numpy(labels)
        assert x.dtype == np.float32 and x.flags.c_contiguous and x.shape == (len(labels), 2, 3, 3)
        result.append((x, labels))
    return result


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loader_draws_from_seed_epoch_and_batch(shuffle, prefetch):
    data = dataset()
    for epoch in (0, 3):
        found = batches(epoch=epoch, shuffle=shuffle, prefetch=prefetch)
        assert len(found) == 3
        for index, (x, labels) in enumerate(found):
            scaled = data.images[labels] / np.float32(255)
            expected = AUGMENT(scaled, np.random.default_rng([4, epoch, index, 1]), backends.get("reference"))
            np.testing.assert_array_equal(x, expected)
    assert not np.array_equal(found[0][0], batches(seed=5)[0][0])


def test_a_loader_draws_the_same_on_every_backend(backend):
    for (x, labels), (expected, numbers) in zip(
        batches(backend, epoch=1, shuffle=True), batches(epoch=1, shuffle=True), strict=True
    ):
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(labels, numbers)


@pytest.mark.parametrize("free", [None, 0, 2**40])
def test_a_device_transforms_itself_and_the_host_in_the_background(free):
    device, threads = Recorder(free=free), []

    class Noted(RandomHorizontalFlip):
        def __call__(self, x, random, backend):
            threads.append((threading.current_thread().name, backend))
            return super().__call__(x, random, backend)

    loader = DataLoader(dataset(), 2, backend=device, transform=Noted())
    found, expected = list(loader), list(DataLoader(dataset(), 2, transform=RandomHorizontalFlip()))
    for (x, _), (y, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, y)
    where = ("numbacnn-loader", backends.get("reference")) if free is None else ("MainThread", device)
    assert threads == [where] * 3


def test_a_transform_s_error_reaches_the_consumer():
    class Wrong(Resize):
        def __call__(self, x, random, backend):
            raise RuntimeError("of the transform")

    with pytest.raises(RuntimeError, match="of the transform"):
        next(iter(DataLoader(dataset(), 2, transform=Wrong(3))))
