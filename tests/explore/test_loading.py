"""Which model is shown, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import data, models, nn
from numbacnn.command_line import UserError
from numbacnn.explore import loading
from numbacnn.explore.__main__ import new_parser
from numbacnn.explore.practice import practice_set
from numbacnn.explore.session import Session, Subject
from tests.strategies import SIMULATED

pytestmark = pytest.mark.skipif(SIMULATED, reason="what is tested is no kernel")


@pytest.fixture(autouse=True)
def on_reference() -> Iterator[None]:
    with nc.use_backend("reference"):
        yield


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data set is on the machine."""
    (tmp_path / "no-data").mkdir()
    monkeypatch.setenv("NUMBACNN_DATA", str(tmp_path / "no-data"))


def subject_of(*options: str) -> Subject:
    return loading.subject_of(new_parser("explore").parse_args(options))


def small_onnx(folder: Path, shape: tuple[int, ...] = (1, 3, 8, 8), *more: nn.Layer) -> Path:
    file = folder / "model.onnx"
    flat = nn.Sequential(nn.Conv2d(shape[1], 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 6 * 6, 4), *more)
    nc.onnx.save(flat.eval(), file, shape)
    return file


def test_a_name_has_random_weights_and_says_so() -> None:
    subject = subject_of("--model=lenet", "--classes=3")
    assert not subject.is_trained and "random" in subject.note
    assert subject.shape == (1, 1, 28, 28) and subject.classes == ("class 0", "class 1", "class 2")
    assert not subject.model.training


def test_a_name_with_weights(tmp_path: Path) -> None:
    model = models.cifar_resnet(in_channels=3, num_classes=2)
    nc.save(tmp_path / "w.safetensors", model)
    options = [f"--weights={tmp_path / 'w.safetensors'}", "--classes=cat, dog", "--mean", "0.5", "--std", "0.2"]
    subject = subject_of("--model=resnet20", *options)
    assert subject.is_trained and subject.classes == ("cat", "dog") and "w.safetensors" in subject.note
    assert subject.preprocessing.mean == (0.5,) * 3 and subject.preprocessing.std == (0.2,) * 3
    x = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    np.testing.assert_array_equal(subject.model.predict(x), model.predict(x))


def test_a_folder_that_says_all(tmp_path: Path) -> None:
    classifier = nc.Classifier(models.lenet(3, 2), ["cat", "dog"], data.Preprocessing(28, mean=0.25))
    classifier.save(tmp_path / "pets")
    for options in ([f"--model={tmp_path / 'pets'}"], [f"--run={tmp_path / 'pets'}"]):
        subject = subject_of(*options)
        assert subject.title == "pets" and subject.classes == ("cat", "dog") and subject.is_trained
        assert subject.preprocessing == classifier.preprocessing


def test_a_folder_that_does_not_say_how_images_are_read(tmp_path: Path) -> None:
    nc.save_pretrained(tmp_path, models.lenet(1, 3))
    with pytest.raises(UserError, match="the folder does not tell the size of images, which --shape must"):
        subject_of(f"--model={tmp_path}")
    subject = subject_of(f"--model={tmp_path}", "--shape=1,1,28,28", "--classes=a,b,c", "--mean", "0.5")
    assert subject.classes == ("a", "b", "c") and subject.preprocessing.mean == (0.5,)


def test_an_onnx_file(tmp_path: Path) -> None:
    subject = subject_of(f"--onnx={small_onnx(tmp_path)}", "--mean", "0.4", "0.5", "0.6")
    assert subject.shape == (1, 3, 8, 8) and subject.title == "model.onnx"
    assert subject.classes == ("class 0", "class 1", "class 2", "class 3")
    assert subject.preprocessing.mean == (0.4, 0.5, 0.6)
    assert [row.layer for _, row in Session(subject).rows] == ["Graph", "Conv2d", "ReLU", "Flatten", "Linear"]


def test_a_softmax_at_the_end_is_not_done_again(tmp_path: Path) -> None:
    plain = subject_of(f"--onnx={small_onnx(tmp_path)}")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    session = Session(plain)
    scores = np.asarray(plain.model.predict(plain.preprocessing(pixels)))[0].astype(float)
    expected = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(session.probabilities(session.show(pixels)), expected, rtol=1e-5)
    ended = Session(subject_of(f"--onnx={small_onnx(tmp_path, (1, 3, 8, 8), nn.Softmax(1))}"))
    found = ended.probabilities(ended.show(pixels))
    np.testing.assert_allclose(found, np.asarray(ended.model.predict(plain.preprocessing(pixels)))[0], rtol=1e-6)
    assert found.sum() == pytest.approx(1, rel=1e-5)


def test_names_of_classes_come_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("cat\ndog, large\n\nbird\n", encoding="utf-8")
    assert subject_of("--model=lenet", f"--classes={file}").classes == ("cat", "dog, large", "bird")
    assert subject_of("--model=lenet", "--classes=imagenet").classes == data.imagenet_classes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--model=nothing", "--model nothing: it must be one of lenet, "),
        ("--model=lenet --weights=no.npz", "--weights no.npz: "),
        ("--weights=no.npz", "--weights no.npz: --model must name one of lenet"),
        ("--pretrained --weights=no.npz", "--weights no.npz: --model must name one of"),
        ("--pretrained --mean 0.5", "--mean is for --model and --onnx"),
        ("--classes=3", "--classes is for --model and --onnx"),
        ("--pretrained --shape=1,1,8,8", "--shape is for --model and --onnx"),
        ("--model=lenet --classes=1", "--classes 1: there must be 2 or more"),
        ("--model=lenet --classes=nothing.txt", "--classes nothing.txt: it must be a number, imagenet, a file"),
        ("--model=lenet --shape=1,28", "--shape: the input (1, 28) must be images, N,C,H,W"),
        ("--model=lenet --shape=1,2,28,28", "images of (1, 2, 28, 28): `channels` 2 must be 1 or 3"),
        ("--model=lenet --shape=1,1,4,4", "--model lenet: the model cannot take images of (1, 1, 4, 4)"),
        ("--model=lenet --mean 1 2", "images of (1, 1, 28, 28): "),
        ("--model=lenet --std 0", "images of (1, 1, 28, 28): "),
        ("--onnx=no.onnx", "--onnx no.onnx: there is no file 'no.onnx'"),
    ],
)
def test_what_does_not_go_together(options: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        subject_of(*options.split())
    assert said in str(refused.value)


def test_files_that_are_no_classifiers_of_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--classes: 3 names or numbers, and the model gives 4"):
        subject_of(f"--onnx={small_onnx(tmp_path)}", "--classes=a,b,c")
    file = tmp_path / "other.onnx"
    nc.onnx.save(nn.Sequential(nn.Conv2d(1, 2, 3)), file, (1, 1, 8, 8))
    with pytest.raises(
        UserError, match=r"the model gives \(1, 2, 6, 6\) for an image, must give a number for each class"
    ):
        subject_of(f"--onnx={file}")
    nc.onnx.save(nn.Sequential(nn.Linear(4, 2)), file, (1, 4))
    with pytest.raises(UserError, match=r"other.onnx: the input \(1, 4\) must be images, N,C,H,W"):
        subject_of(f"--onnx={file}")
    classifier = nc.Classifier(models.lenet(1, 2), ["cat", "dog"], data.Preprocessing(28, channels=1))
    classifier.save(tmp_path / "pets")
    with pytest.raises(UserError, match=r"--classes: the model in .* says itself what it is"):
        subject_of(f"--model={tmp_path / 'pets'}", "--classes=2")


def test_samples_are_of_the_models_data_set_where_it_is_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", np.arange(40, dtype=np.uint8)[::-1] % 10)):
        for split in ("t10k", "train"):
            data.write_idx(tmp_path / f"{split}-{name}-ubyte", array)
    monkeypatch.setenv("NUMBACNN_DATA", str(tmp_path))
    subject = subject_of("--model=lenet", "--classes=" + ",".join(map(str, range(10))))
    assert subject.samples is not None and subject.samples.name.lower().startswith("mnist")
    assert subject.samples.labels.tolist() == list(range(10))
    np.testing.assert_array_equal(subject.samples.images[0, 0], images[9])
    drawn = subject_of("--model=resnet20").samples
    assert drawn is not None and drawn.image_shape == (3, 32, 32) and len(set(drawn.labels.tolist())) == 10


def test_without_a_model_one_is_trained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a few of its images here."""
    monkeypatch.setattr(loading, "EPOCHS", 1)
    few = practice_set(shapes=60, per_size=20)
    monkeypatch.setattr(loading, "practice_set", lambda: few)
    test = data.shapes("test", 30)
    monkeypatch.setattr(data, "shapes", lambda *_: test)
    subject = loading._trained_now()
    assert subject.is_trained and "of ten shapes" in subject.note.replace("10", "ten")
    assert capsys.readouterr().out.startswith("no model is named: training LeNet on the built-in shapes, 1 epochs")


def test_what_it_is_trained_on() -> None:
    found = practice_set(shapes=10, per_size=50)
    assert found.images.shape == (10 + 6 * 50, 1, 28, 28) and len(found.labels) == 310
    filled, outlined = found.images[10:60, 0], found.images[60:110, 0]
    np.testing.assert_array_equal(found.labels[10:60], found.labels[60:110])
    assert (filled.astype(int).sum(axis=(1, 2)) >= outlined.astype(int).sum(axis=(1, 2))).all()
    assert outlined.max() == 255 and (outlined[:, :2] == 0).all() and len(set(found.labels[10:60].tolist())) == 10
