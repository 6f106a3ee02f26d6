"""The command that trains a DCGAN and draws what its generator makes of noise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from examples import generate
from tests.strategies import SIMULATED

pytestmark = pytest.mark.skipif(SIMULATED, reason="training takes minutes in the simulator")

FEW = ("--limit=40", "--batch-size=16", "--size=16", "--width=4", "--latent=8")


def run(out: Path, *options: str) -> int:
    with nc.use_backend("cpu"):
        return generate.main([f"--save={out}", *options])


def test_drawn_shapes_and_the_same_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for name, seed in ("first", 0), ("second", 0), ("other", 1):
        out = tmp_path / name
        assert run(out, *FEW, "--epochs=2", f"--seed={seed}") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "40 images of 1x16x16: disc, ring, triangle, cross"
        for epoch, line in enumerate(lines[1:3], 1):
            losses = r"loss of the discriminator \d\.\d{3}, of the generator \d\.\d{3}"
            assert re.fullmatch(rf"epoch {epoch}/2: {losses}; \d+\.\d s", line)
        assert lines[3].startswith(f"wrote {out}: samples.png, and the generator of nc.from_pretrained({str(out)!r})")
        with Image.open(out / "samples.png") as picture:
            step = 64 + generate.GAP
            assert picture.size == (generate.LEFT + 12 * step, generate.GAP + 3 * step)
        found.append(((out / "model.safetensors").read_bytes(), (out / "samples.png").read_bytes()))
    assert found[0] == found[1] and found[0] != found[2]
    noise = np.zeros((3, 8, 1, 1), np.float32)
    assert nc.from_pretrained(tmp_path / "first").predict(noise).shape == (3, 1, 16, 16)


def test_what_is_drawn_by_hand() -> None:
    shapes = generate.drawn_shapes(40, 32, 0)
    assert shapes.images.shape == (40, 1, 32, 32) and shapes.classes == generate.KINDS
    light = (shapes.images[:, 0] / 255).mean(axis=(1, 2)).reshape(10, 4)
    assert (light > 0.03).all() and (light < 0.4).all()
    assert (light[:, 0] > light[:, 1]).sum() > 5  # discs beside rings
    assert not shapes.images[:, :, [0, -1]].any() and not shapes.images[..., [0, -1]].any()


def test_a_generator_learns_what_it_is_shown(tmp_path: Path) -> None:
    """Grey squares in colour, of a folder."""
    for number in range(16):
        folder = tmp_path / "data" / "grey"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200, 200, 200)).save(folder / f"{number}.png")
    options = ("--dataset=folder", f"--data-dir={tmp_path / 'data'}", "--size=8", "--width=8", "--latent=4")
    assert run(tmp_path / "out", *options, "--batch-size=8", "--epochs=25", "--lr=0.005") == 0
    noise = np.random.default_rng(0).standard_normal((8, 4, 1, 1), np.float32)
    drawn = np.asarray(nc.from_pretrained(tmp_path / "out").predict(noise))
    assert drawn.shape == (8, 3, 8, 8) and abs(127.5 * (drawn.mean() + 1) - 200) < 40


def test_an_interrupted_run_keeps_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, train = tmp_path / "out", generate.Game.train
    presses_in, played = 1, 0

    def press(self: generate.Game, *loader: Any) -> Any:
        nonlocal played
        played += 1
        if played == presses_in:
            raise KeyboardInterrupt
        return train(self, *loader)

    monkeypatch.setattr(generate.Game, "train", press)
    assert run(out, *FEW) == 130
    assert capsys.readouterr().err == "interrupted\n" and not out.exists()
    presses_in, played = 2, 0
    assert run(out, *FEW) == 130
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("epoch 1/") and lines[2] == "interrupted: what follows is of epoch 1"
    assert lines[3].startswith(f"wrote {out}: ") and (out / "samples.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--limit=5",), "error: --batch-size 64: there are 5 images"),
        (
            ("--size=36", "--limit=64"),
            "error: images of 36x36 pixels: `image_size` 36 must be 4, 5, 6 or 7, doubled once",
        ),
        ((*FEW, "--lr=1e30"), "error: the losses are no numbers any more; try a smaller --lr"),
        (("--dataset=folder", "--data-dir=none"), "error: --data-dir: `root` 'none' must be a folder that exists"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert run(tmp_path / "out", *options) == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("options", [("--dataset=folder",), ("--data-dir=x",)])
def test_options_that_do_not_go_together(capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        generate.main(options)
    assert "argument --data-dir: " in capsys.readouterr().err
