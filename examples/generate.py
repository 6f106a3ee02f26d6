"""Draw images from noise, by a generator that learns from images: ``python -m examples.generate --help``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import numbacnn as nc
from numbacnn import data, nn, optim
from numbacnn.backends import Array, Backend
from numbacnn.cli.backend import add_backend_option, run_on
from numbacnn.cli.datasets import load_data, read_folder, spread
from numbacnn.command_line import Parser, UserError, above_zero, integer, one_line, path, printable, say
from numbacnn.files import replacing
from numbacnn.training import CapturedFunction

PICTURE = "samples.png"
COLUMNS = 12
"""Images of an epoch in the picture, all from the same noise."""
ROWS = 8
"""Epochs in it, at most."""
TILE = 56
"""Height and width of an image in it, at least."""
GAP, LEFT = 6, 64
REAL = 0.9
"""What the discriminator is to say of real images: with 1 it becomes so sure that the generator learns little of it."""
BETAS = (0.5, 0.999)
KINDS = ("disc", "ring", "triangle", "cross")
DRAWN = 8192
DATASETS = ("drawn", "fashion-mnist", "mnist", "cifar10", "folder")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m examples.generate",
        "Train a DCGAN, by default on drawn shapes: a generator makes images of noise, and a discriminator learns to "
        "tell them from real ones. Its judgement is what the generator learns from.",
    )
    add = parser.add_argument
    add("--dataset", choices=DATASETS, default="drawn",
        help="drawn are white shapes on black; folder takes the images in DATA_DIR, which has sub-folders for classes, "
        "of which nothing is learned")  # fmt: skip
    add("--data-dir", type=path, help="folder with the data set's files (default: NUMBACNN_DATA, else a download)")
    add("--limit", type=integer(1), help="use at most LIMIT images")
    add("--size", type=integer(8), default=28,
        help="height and width of drawn images and those of a folder: "
        "4, 5, 6 or 7, doubled once or more often")  # fmt: skip
    add("--epochs", type=integer(1), default=32, help="passes over the images")
    add("--batch-size", type=integer(2), default=64, help="images per step")
    add("--lr", type=above_zero, default=1e-3, help="first learning rate of Adam, for both networks")
    add("--width", type=integer(1), default=32, help="channels of the convolutions next to the images")
    add("--latent", type=integer(1), default=64, help="numbers that an image is made of")
    add("--seed", type=integer(0), default=0, help="of what is random: shapes, weights, noise and order")
    add("--save", type=path, default=Path("runs", "generate"), help="folder for the generator and the picture")
    add_backend_option(parser)
    arguments = parser.parse_args(argv)
    if arguments.data_dir and arguments.dataset == "drawn":
        parser.error("argument --data-dir: drawn shapes are not read from files; choose another --dataset")
    if arguments.dataset == "folder" and not arguments.data_dir:
        parser.error("argument --data-dir: --dataset folder needs it")
    return arguments


def drawn_shapes(count: int, size: int, seed: int) -> data.ArrayDataset:
    """White discs, rings, triangles and crosses on black, each of a size, at a place and an angle of its own."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % len(KINDS)
    images = np.empty((count, 1, size, size), np.uint8)
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    for image, label in zip(images, labels, strict=True):
        radius, angle, right, down = rng.uniform((0.55, -0.3, -0.15, -0.15), (0.8, 0.3, 0.15, 0.15))
        x, y = (axis - right) / radius, (axis[:, None] - down) / radius
        x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        image[0] = np.rint(255 * np.clip(0.5 - outside(KINDS[label], x, y) * radius * size / 2, 0, 1))
    return data.ArrayDataset(images, labels, KINDS, "drawn shapes")


def outside(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far the points are from a shape around the origin, of radius 1 at most; less than 0 inside of it."""
    beside, above = np.abs(x), np.abs(y)
    if kind == "disc":
        return np.hypot(x, y) - 0.9
    if kind == "ring":
        return np.abs(np.hypot(x, y) - 0.7) - 0.25
    if kind == "triangle":
        return np.maximum(np.cos(np.pi / 6) * beside - y / 2, y) - 0.5
    return np.minimum(np.maximum(beside - 0.95, above - 0.3), np.maximum(above - 0.95, beside - 0.3))


def images_of(arguments: argparse.Namespace) -> data.ArrayDataset:
    """What the generator is to learn to draw."""
    name, folder, limit = arguments.dataset, arguments.data_dir, arguments.limit
    if name == "drawn":
        return drawn_shapes(min(limit or DRAWN, DRAWN), arguments.size, arguments.seed)
    if name == "folder":
        images = read_folder("--data-dir", folder, arguments.size)
        return spread(images, limit) if limit else images
    return load_data(name, folder, limit, arguments.size)[1][0]


class Game:
    """A generator and its discriminator, whose gain is the other's loss (Goodfellow et al. 2014)."""

    def __init__(self, channels: int, size: int, arguments: argparse.Namespace) -> None:
        self.latent = arguments.latent
        self.generator = nc.models.dcgan_generator(arguments.latent, channels, arguments.width, size)
        self.discriminator = nc.models.dcgan_discriminator(channels, arguments.width, size)
        networks = (self.generator, self.discriminator)
        for network in networks:
            nn.init.trunc_normal(network, std=0.02)
        self.loss = nn.BCEWithLogitsLoss()
        self.of_generator, self.of_discriminator = (
            optim.Adam(network.parameters(), arguments.lr, betas=BETAS) for network in networks
        )
        self.schedules = [
            optim.CosineAnnealingLR(optimizer, arguments.epochs)
            for optimizer in (self.of_generator, self.of_discriminator)
        ]
        self.play = CapturedFunction(self._play, *networks, self.loss, self.of_generator, self.of_discriminator)
        """A step of both on real images and noise, with what is to be said of real and of drawn ones; three losses."""

    def _play(self, real: Array, noise: Array, yes: Array, no: Array) -> tuple[Array, Array, Array]:
        generator, discriminator, loss = self.generator, self.discriminator, self.loss
        self.of_discriminator.zero_grad()
        on_real = loss.compute(discriminator.forward(real), yes)
        discriminator.backward(loss.backward(), input_gradient=False)
        drawn = generator.forward(noise)
        on_drawn = loss.compute(discriminator.forward(drawn), no)
        discriminator.backward(loss.backward(), input_gradient=False)
        self.of_discriminator.step()
        self.of_generator.zero_grad()
        fooled = loss.compute(discriminator.forward(drawn), yes)
        generator.backward(discriminator.backward(loss.backward()), input_gradient=False)
        self.of_generator.step()
        return on_real, on_drawn, fooled

    def train(self, loader: data.DataLoader, rng: np.random.Generator) -> tuple[float, float]:
        """An epoch, and the mean losses of both; FloatingPointError where they are no numbers."""
        losses = []
        for real, _ in loader:
            n = real.shape[0]
            noise = rng.standard_normal((n, self.latent, 1, 1), np.float32)
            yes, no = np.full((n, 1), REAL, np.float32), np.zeros((n, 1), np.float32)
            losses.append([float(np.asarray(one)) for one in self.play(real, noise, yes, no)])
        for schedule in self.schedules:
            schedule.step()
        on_real, on_drawn, fooled = np.mean(losses, axis=0).tolist()
        if not np.isfinite(on_real + on_drawn + fooled):
            raise FloatingPointError("the losses are no numbers any more; try a smaller --lr")
        return on_real + on_drawn, fooled

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """Images (n, c, h, w) uint8."""
        self.generator.eval()
        images = np.asarray(self.generator.predict(noise))
        self.generator.train()
        return np.rint(127.5 * (images + 1)).astype(np.uint8)


def train(arguments: argparse.Namespace, backend: Backend) -> int:
    """Train, save and draw; the exit code."""
    images = images_of(arguments)
    if len(images) < arguments.batch_size:
        raise UserError(f"--batch-size {arguments.batch_size}: there are {len(images)} images")
    channels, height, width = images.image_shape
    if height != width:
        raise UserError(f"images must be as high as wide, not {height}x{width}")
    rng = np.random.default_rng(arguments.seed)
    nc.manual_seed(arguments.seed)
    try:
        game = Game(channels, width, arguments)
    except ValueError as error:
        raise UserError(f"images of {width}x{width} pixels: {one_line(error)}") from error
    loader = data.DataLoader(
        *(images, arguments.batch_size, True, arguments.seed),
        drop_last=True,
        backend=backend if backend.asynchronous else None,
        transform=data.Normalize([0.5] * channels, [0.5] * channels),
    )
    shown = rng.standard_normal((COLUMNS, arguments.latent, 1, 1), np.float32)
    say(printable(f"{len(images)} images of {channels}x{height}x{width}: {', '.join(images.classes)}"))
    drawn: list[np.ndarray] = []
    interrupted = False
    try:
        for epoch in range(1, arguments.epochs + 1):
            begin = time.perf_counter()
            of_discriminator, of_generator = game.train(loader, rng)
            nc.save_pretrained(arguments.save, game.generator, {"image_size": width, "channels": channels})
            drawn.append(game.draw(shown))
            say(
                f"epoch {epoch}/{arguments.epochs}: loss of the discriminator {of_discriminator:.3f}, of the generator "
                f"{of_generator:.3f}; {time.perf_counter() - begin:.1f} s"
            )
    except KeyboardInterrupt:
        if not drawn:
            raise
        interrupted = True
        say(f"interrupted: what follows is of epoch {len(drawn)}")
    write_picture(arguments.save / PICTURE, drawn, images.images[:COLUMNS])
    code = f"nc.from_pretrained({str(arguments.save)!r}).predict(noise)"
    say(
        printable(
            f"wrote {arguments.save}: {PICTURE}, and the generator of {code}, noise (n, {arguments.latent}, 1, 1)"
        )
    )
    return 130 if interrupted else 0


def chosen_epochs(count: int) -> list[int]:
    """Those of ``count`` epochs that are shown, closer together where more changes: the first and the last, at most 8.

    >>> chosen_epochs(3), chosen_epochs(32)
    ([1, 2, 3], [1, 2, 3, 4, 7, 12, 20, 32])
    """
    if count <= ROWS:
        return [*range(1, count + 1)]
    return sorted({round(number) for number in np.geomspace(1, count, ROWS)})


def write_picture(file: Path, drawn: Sequence[np.ndarray], real: np.ndarray) -> None:
    """A PNG file: what the generator made of the same noise after some epochs, and real images."""
    from PIL import Image, ImageDraw, ImageFont

    rows = [*((f"epoch {number}", drawn[number - 1]) for number in chosen_epochs(len(drawn))), ("real", real)]
    scale = -(-TILE // real.shape[-1])
    step = scale * real.shape[-1] + GAP
    canvas = Image.new("RGB", (LEFT + COLUMNS * step, GAP + len(rows) * step), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for row, (name, images) in enumerate(rows):
        top = GAP + row * step
        pen.text((GAP, top + step // 2 - 9), name, "black", font)
        for column, image in enumerate(images):
            enlarged = np.kron(image, np.ones((1, scale, scale), np.uint8)).transpose(1, 2, 0)
            colours = np.broadcast_to(
                enlarged[:, :, :3] if len(image) >= 3 else enlarged[:, :, :1], (*enlarged.shape[:2], 3)
            )
            canvas.paste(Image.fromarray(np.ascontiguousarray(colours)), (LEFT + column * step, top))
    with replacing(file) as temporary:
        canvas.save(temporary, format="PNG")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parse_arguments(argv)
    return run_on(arguments.backend, partial(train, arguments))


if __name__ == "__main__":
    sys.exit(main())
