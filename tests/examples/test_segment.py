"""The command that trains a U-Net and draws what it makes of pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from examples import segment
from numbacnn.training import Run
from tests.strategies import SIMULATED

pytestmark = pytest.mark.skipif(SIMULATED, reason="training takes minutes in the simulator")


def draw(folder: Path, count: int, light: int = 1) -> Path:
    """Noise with a rectangle in it, lighter where the mask is ``light``."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        mask = np.zeros((20, 30), np.uint8)
        top, left = rng.integers(2, 8, 2)
        mask[top : top + 10, left : left + 14] = light
        picture = np.clip(rng.normal(60, 20, (20, 30, 3)) + 120 * (mask > 0)[..., None], 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


def run(out: Path, *options: str) -> int:
    with nc.use_backend("cpu"):
        return segment.main([f"--save={out}", *options])


def test_drawn_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(out, "--epochs=2", "--size=16", "--limit=10", "--batch-size=4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10 training and 10 test pictures of background, circle, triangle, cross"
    number = r"\d\.\d{3}"
    for epoch, line in enumerate(lines[1:3], 1):
        figures = rf"loss {number}, mean IoU {number}"
        assert re.fullmatch(rf"epoch {epoch}/2: {figures}; unseen pictures: {figures}; \d+\.\d s", line)
    assert lines[3:] == [f"wrote {out}: python -m examples.segment --model {out} --predict IMAGE"]
    with Image.open(out / "pictures.png") as picture:
        assert picture.size == (84 + 8 * (144 + 6), 6 + 3 * (144 + 6) + 26) and len(picture.getcolors(1 << 20)) > 100
    assert json.loads((out / "config.json").read_text())["architecture"] == "unet"
    first = (out / "model.safetensors").read_bytes()
    for seed, same in ((0, True), (1, False)):
        assert run(out, "--epochs=2", "--size=16", "--limit=10", "--batch-size=4", f"--seed={seed}") == 0
        assert ((out / "model.safetensors").read_bytes() == first) == same


def test_masks_of_one_s_own_are_learned_and_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = draw(tmp_path / "data", 20, light=255), tmp_path / "out"
    assert run(out, f"--data-dir={folder}", "--epochs=6", "--size=16", "--batch-size=4", "--lr=0.01") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "16 training and 4 test pictures of 0, 1"
    match = re.search(r"unseen pictures: .*mean IoU (\S+);", lines[6])
    assert match is not None and float(match[1]) > 0.8

    image = folder / "images" / "3.png"
    missing = tmp_path / "no.png"
    assert run(out, "--predict", str(missing), str(image)) == 2
    said = capsys.readouterr()
    target = folder / "images" / "3.mask.png"
    assert str(missing) in said.err
    assert re.fullmatch(rf"wrote {re.escape(str(target))}: 0 \d+\.\d%, 1 \d+\.\d%\n", said.out)
    with Image.open(target) as mask, Image.open(folder / "masks" / "3.png") as truth:
        assert mask.mode == "P" and mask.size == truth.size
        assert (np.asarray(mask) == np.asarray(truth) // 255).mean() > 0.9
        assert tuple(np.asarray(mask.convert("RGB"))[0, 0]) in segment.COLOURS


def test_numbers_of_no_class_do_not_count(tmp_path: Path) -> None:
    folder = draw(tmp_path, 5, light=2)
    border = folder / "masks" / "0.png"
    with Image.open(border) as image:
        mask = np.array(image)
    mask[0] = 255
    Image.fromarray(mask).save(border)
    sets = segment.folder_sets(folder, 16, None, seed=0)
    assert sets.classes == ["0", "1", "2"] and (len(sets.train), len(sets.val)) == (4, 1)
    found = np.concatenate([sets.train.targets, sets.val.targets])
    assert np.unique(found).tolist() == [0, 2, 255]
    assert segment.coloured(np.array([0, 255, 10])).tolist() == [[38, 38, 46], [255] * 3, [232, 84, 62]]


def test_an_interrupted_run_keeps_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, settings = tmp_path / "out", ("--size=16", "--limit=4", "--batch-size=2")

    def press_in(epoch: int) -> Any:
        def on_epoch_begin(self: segment.KeepModel, run: Run) -> None:
            if run.epoch == epoch:
                raise KeyboardInterrupt

        return on_epoch_begin

    monkeypatch.setattr(segment.KeepModel, "on_epoch_begin", press_in(1))
    assert run(out, *settings) == 130
    assert capsys.readouterr().err == "interrupted\n" and not out.exists()
    monkeypatch.setattr(segment.KeepModel, "on_epoch_begin", press_in(3))
    assert run(out, *settings) == 130
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("epoch 2/7: ") and lines[3] == "interrupted: what follows is of epoch 2"
    assert lines[4].startswith(f"wrote {out}: ") and (out / "pictures.png").exists()
    assert nc.from_pretrained(out).output_shape((1, 3, 16, 16)) == (1, 4, 16, 16)


def refused(capsys: pytest.CaptureFixture[str], out: Path, *options: str) -> str:
    assert run(out, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, folder = tmp_path / "out", tmp_path / "data"
    option = f"--data-dir={folder}"
    assert refused(capsys, out, option).startswith("--data-dir: there is no folder")
    draw(folder, 1)
    assert refused(capsys, out, option).endswith("has one picture; there must be 2, one for tests")
    draw(folder, 3, light=0)
    assert "show one class alone" in refused(capsys, out, option)
    (folder / "masks" / "2.png").unlink()
    assert "2.png' must have a file of that name" in refused(capsys, out, option)
    assert refused(capsys, out, "--predict=x.png").startswith(f"--model {out}: examples.segment wrote no such folder")
    nc.save_pretrained(out, nc.models.lenet(), {"classes": ["a"], "image_size": 28})
    assert "wrote no such folder: " in refused(capsys, out, "--predict=x.png")
    with pytest.raises(SystemExit):
        run(out, "--size=20")
    assert "argument --size: 20 must be a multiple of 8" in capsys.readouterr().err
