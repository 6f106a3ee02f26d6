"""The commands that draw: their files, what they say, and what they refuse."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from examples import feature_maps, pictures, receptive_field
from examples.figures import draw_image, new_figure
from numbacnn import backends, nn
from numbacnn.cli import train
from numbacnn.cli.recipes import RECIPES, Recipe

pytest.importorskip("matplotlib")

SHARED = ["--model=lenet", "--dataset=shapes", "--limit=40", "--backend=reference"]
PNG = b"\x89PNG\r\n\x1a\n"


def written(folder: Path) -> set[str]:
    """The names of the files, which are pictures if they have not been there before."""
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(PNG)
    return {path.name for path in folder.iterdir()}


def nested(in_channels: int, num_classes: int) -> nn.Sequential:
    """A model with two layers of the name "block"."""
    body = nn.Sequential({"conv": nn.Conv2d(in_channels, 2, 3, padding=1)})
    return nn.Sequential(
        {
            "block": nn.Concat({"input": nn.Identity(), "": body}),
            "pool": nn.GlobalAvgPool2d(),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(in_channels + 2, num_classes),
        }
    )


@pytest.fixture
def nested_lenet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "lenet", Recipe(nested, 28, 0.1, 16))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures by file name, instead of files."""
    drawn: dict[str, Any] = {}
    for module in (feature_maps, receptive_field):
        monkeypatch.setattr(module, "save", lambda figure, path: drawn.setdefault(path.name, figure))
    return drawn


def test_feature_maps_and_filters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert feature_maps.main([*SHARED, f"--output-dir={tmp_path}"]) == 0
    assert written(tmp_path) == {"feature_maps.png", "filters.png"}
    assert "no confusion matrix: it takes the --weights of a trained model" in capsys.readouterr().out


def test_a_layer_without_maps_is_drawn_as_a_curve(tmp_path: Path) -> None:
    with backends.use_backend("reference"):
        names = [name for name, layer in nc.models.lenet(1, 10).named_layers() if isinstance(layer, nn.Linear)]
    assert feature_maps.main([*SHARED, f"--layer={names[-1]}", f"--output-dir={tmp_path}"]) == 0
    assert "feature_maps.png" in written(tmp_path)


def test_the_confusion_matrix_of_a_trained_model(tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    assert train.main([*SHARED, "--epochs=1", f"--output-dir={trained}"]) == 0
    weights = trained / train.WEIGHTS
    assert feature_maps.main([*SHARED, f"--weights={weights}", f"--output-dir={tmp_path / 'out'}"]) == 0
    assert written(tmp_path / "out") == {"feature_maps.png", "filters.png", "confusion.png"}


def test_the_numbers_of_the_confusion_matrix(tmp_path: Path, figures: dict[str, Any]) -> None:
    with backends.use_backend("reference"):
        model = nc.models.lenet(1, 10)
    model[-1].weight.value[...] = 0
    model[-1].bias.value[...] = np.eye(10)[3]  # every image is taken for class 3
    nc.save(tmp_path / "three.safetensors", model)
    assert feature_maps.main([*SHARED, f"--weights={tmp_path / 'three.safetensors'}", f"--output-dir={tmp_path}"]) == 0
    axes = figures["confusion.png"].axes[0]
    labels = nc.data.shapes("test", size=40).labels
    expected = np.zeros((10, 10), int)
    expected[:, 3] = np.bincount(labels, minlength=10)
    shown = {text.get_position(): int(text.get_text()) for text in axes.texts}
    assert shown == {(column, row): expected[row, column] for row, column in np.ndindex(10, 10)}
    right = int(expected[3, 3])
    assert axes.get_title() == f"lenet on shapes\naccuracy {right / 40:.3f}, {right} of 40 test images"


def test_tiles_lie_in_a_grid() -> None:
    figure = new_figure(4, 3)
    axes = figure.subplots()
    images = np.arange(1, 21, dtype=np.float32).reshape(5, 2, 2)
    feature_maps.draw_tiles(figure, axes, images, "five", "channel")
    grid = axes.images[0].get_array().filled(np.nan)
    a, b, c, d, e = images
    column, row = np.full((2, 1), np.nan), np.full((1, 8), np.nan)
    last = np.hstack([d, column, e, column, np.full((2, 2), np.nan)])
    np.testing.assert_array_equal(grid, np.vstack([np.hstack([a, column, b, column, c]), row, last]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "3"]


def test_images_are_in_colour_or_grey() -> None:
    image = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    axes = new_figure(4, 3).subplots()
    draw_image(axes, image)
    draw_image(axes, image[:2])
    coloured, grey = (drawn.get_array() for drawn in axes.images)
    np.testing.assert_array_equal(coloured, image.transpose(1, 2, 0))
    np.testing.assert_array_equal(grey, (image[0] + image[1]) / 2)


def test_of_a_shared_name_the_outermost_is_drawn(nested_lenet: None, tmp_path: Path, figures: dict[str, Any]) -> None:
    assert feature_maps.main([*SHARED, "--layer=block", f"--output-dir={tmp_path}"]) == 0
    assert figures["feature_maps.png"].axes[1].get_title() == "lenet, layer block (Concat)\n3 channels, 28x28"
    assert (
        figures["filters.png"].axes[0].get_title().startswith("lenet, filters of layer block.conv (Conv2d)\n2 filters")
    )


def test_an_unknown_layer_is_told_what_lies_beside_it(
    nested_lenet: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for layer, message in {
        "nowhere": "lenet has block, pool, flatten, fc",
        "block.nowhere": "layer block has block.input, block.conv",
        "block.conv.a.b": "layer block.conv has no layers inside",
    }.items():
        assert feature_maps.main([*SHARED, f"--layer={layer}", f"--output-dir={tmp_path}"]) == 2
        assert capsys.readouterr().err == f"error: --layer {layer}: {message}\n"


def test_without_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert receptive_field.main([*SHARED, f"--output-dir={tmp_path}"]) == 2
    assert capsys.readouterr().err == 'error: pictures need matplotlib: pip install "numbacnn[plot]"\n'
    assert written(tmp_path) == set()


def test_the_receptive_field_is_drawn_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert receptive_field.main([*SHARED, f"--output-dir={tmp_path}"]) == 0
    assert written(tmp_path) == {"receptive_field.png"}
    # 5 of the second convolution, each 2 pixels of the pooling apart, under 5 of the first: 4 * 2 + (2 - 1) + 5.
    assert "unit (5, 5) of 10x10: size 14x14, jump 2x2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("unit", "outlines"),
    [
        ((5, 5), [(7.5, 7.5, 14, 14)]),
        ((0, 9), [(15.5, -2.5, 14, 14), (15.5, -0.5, 12, 12)]),  # first with padding, then without
    ],
)
def test_the_outlines_of_the_field(
    unit: tuple[int, int], outlines: list[tuple[float, ...]], tmp_path: Path, figures: dict[str, Any]
) -> None:
    options = ["--unit", *map(str, unit), f"--output-dir={tmp_path}"]
    assert receptive_field.main([*SHARED, *options]) == 0
    theoretical, measured = figures["receptive_field.png"].axes[:2]
    assert [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in theoretical.patches] == outlines
    assert [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in measured.patches] == outlines[-1:]
    x, y, width, height = (int(np.ceil(number)) for number in outlines[-1])
    heat = np.asarray(measured.images[0].get_array())
    assert heat.max() == 1 and (heat[y : y + height, x : x + width] > 0).all()
    assert np.count_nonzero(heat) == width * height


def test_the_gradient_stays_inside_of_the_field() -> None:
    with backends.use_backend("reference"):
        nc.manual_seed(0)
        model = nc.models.lenet(1, 10).eval()
        part = nn.upto(model, next(n for n, layer in list(model.named_layers())[::-1] if isinstance(layer, nn.Conv2d)))
        x = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
        gradient = receptive_field.measured_field(part, x, (4, 6))
        (top, bottom), (left, right) = nn.receptive_field(part, x.shape).pixels((4, 6))
    inside = gradient[max(top, 0) : bottom + 1, max(left, 0) : right + 1]
    assert (inside > 0).all()
    assert np.count_nonzero(gradient) == inside.size


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (feature_maps, ["--layer=nowhere"], "--layer nowhere: lenet has "),
        (feature_maps, ["--index=40"], "--index 40 must be in 0..39, the test images of shapes"),
        (feature_maps, ["--index=-1"], "--index -1 must be in 0..39, the test images of shapes"),
        (feature_maps, ["--weights=none.safetensors"], "error: --weights none.safetensors: there is no such file"),
        (receptive_field, ["--weights=none.npz"], "error: --weights none.npz: there is no such file"),
        (receptive_field, ["--weights=none"], "error: --weights none: "),
        (receptive_field, ["--layer=nowhere"], "--layer nowhere: lenet has "),
        (receptive_field, ["--unit", "-1", "0"], "--unit -1 0: the output of layer 3 has rows 0..9 and columns 0..9"),
        (receptive_field, ["--unit", "3", "10"], "--unit 3 10: the output of layer "),
        (receptive_field, ["--layer=12"], "--layer 12: "),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(
    command: object, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*SHARED, f"--output-dir={tmp_path}", *options]) == 2  # type: ignore[attr-defined]
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
    assert written(tmp_path) == set()


def test_control_c_ends_with_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def draw(*_: object) -> None:
        raise KeyboardInterrupt

    parser = pictures.new_parser("draw", "Draw.", "any")
    options = ["--model=lenet", "--dataset=shapes", "--limit=2", "--backend=reference", f"--output-dir={tmp_path}"]
    assert pictures.run(parser, options, draw, lambda names: names[0]) == 130
    assert capsys.readouterr().err == "interrupted\n"
