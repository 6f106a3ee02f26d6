"""The commands that draw: their files, what they say, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import numbacnn as nc
from examples import feature_maps, receptive_field, train
from numbacnn import backends, nn

pytest.importorskip("matplotlib")

SHARED = ["--model=lenet", "--dataset=shapes", "--limit=40", "--backend=reference"]
PNG = b"\x89PNG\r\n\x1a\n"


def written(folder: Path) -> set[str]:
    """The names of the files, which are pictures if they have not been there before."""
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(PNG)
    return {path.name for path in folder.iterdir()}


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


def test_the_receptive_field_is_drawn_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert receptive_field.main([*SHARED, f"--output-dir={tmp_path}"]) == 0
    assert written(tmp_path) == {"receptive_field.png"}
    # 5 of the second convolution, each 2 pixels of the pooling apart, under 5 of the first: 4 * 2 + (2 - 1) + 5.
    assert "unit (5, 5) of 10x10: size 14x14, jump 2x2" in capsys.readouterr().out


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
        (feature_maps, ["--weights=no-such-file.safetensors"], "no-such-file.safetensors"),
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
