"""The file of the confusion matrix and the worst mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, data, nn, optim
from numbacnn.io import load_checkpoint
from numbacnn.io.arrays import read_arrays, write_arrays
from numbacnn.training import (
    CheckpointFile,
    History,
    MistakesFile,
    WeightAverage,
    confusion_matrix,
    fit,
    read_mistakes,
)
from numbacnn.training.reports import mistakes
from tests.training.toy import assert_same, loaders, model_and_optimizer

TEST_SET = loaders()[1].dataset


def train(*callbacks: Any, epochs: int = 2, loss: nn.Loss | None = None, **options: Any) -> nn.Layer:
    model, optimizer = model_and_optimizer()
    fit(model, *loaders(), loss or nn.CrossEntropyLoss(), optimizer, epochs, callbacks=callbacks, **options)
    return model


def test_mistakes_are_those_of_the_model(
    backend: backends.Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mistakes.safetensors"
    model = train(MistakesFile(path, TEST_SET, most=3))
    loader = loaders()[1]
    found = read_mistakes(path)
    assert (found.epoch, found.classes) == (2, ("low", "high"))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(model, loader))

    logits = np.concatenate([np.asarray(model.predict(images)) for images, _ in loader]).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels, predicted = TEST_SET.labels, logits.argmax(axis=1)
    wrong = [i for i in range(10) if predicted[i] != labels[i]]
    assert len(wrong) > 3, "the model makes too few mistakes for this test"
    worst = sorted(wrong, key=lambda i: probabilities[i, labels[i]])[:3]
    assert found.index.tolist() == worst
    assert found.label.tolist() == labels[worst].tolist()
    assert found.predicted.tolist() == predicted[worst].tolist()
    np.testing.assert_allclose(found.label_probability, probabilities[worst, labels[worst]], rtol=1e-5)
    np.testing.assert_allclose(found.predicted_probability, probabilities[worst, predicted[worst]], rtol=1e-5)
    np.testing.assert_array_equal(found.images, np.round(255 * TEST_SET.images[worst]).astype(np.uint8))

    # As soon as memory would be short predictions are read, and no bit of the file changes.
    monkeypatch.setattr(mistakes, "MOST_KEPT", 1)
    again = tmp_path / "again.safetensors"
    train(MistakesFile(again, TEST_SET, most=3))
    assert again.read_bytes() == path.read_bytes()


def test_weights_are_the_same_with_the_file_and_without(backend: backends.Backend, tmp_path: Path) -> None:
    with_file = train(MistakesFile(tmp_path / "mistakes.npz", TEST_SET))
    assert_same(with_file.state_dict(), train().state_dict())


def test_numpy_reads_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "mistakes.npz"
    train(MistakesFile(path, TEST_SET))
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["confusion"], read_mistakes(path).confusion)
        assert arrays["images"].dtype == np.uint8
    assert repr(read_mistakes(path)).startswith("Mistakes(epoch=2, ")


def test_a_resumed_run_writes_the_same_file(tmp_path: Path) -> None:
    whole, resumed, checkpoint = (tmp_path / f"{name}.safetensors" for name in ("whole", "resumed", "checkpoint"))
    train(MistakesFile(whole, TEST_SET), epochs=3)
    train(MistakesFile(resumed, TEST_SET), CheckpointFile(checkpoint), epochs=1)
    assert read_mistakes(resumed).epoch == 1

    model, optimizer = model_and_optimizer()
    history = History.from_json(load_checkpoint(checkpoint, model, optimizer)["history"])
    options = {"start_epoch": 1, "history": history, "callbacks": [MistakesFile(resumed, TEST_SET)]}
    fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 3, **options)
    assert resumed.read_bytes() == whole.read_bytes()


def test_averaged_weights_are_what_mistakes_are_of(tmp_path: Path) -> None:
    path = tmp_path / "mistakes.safetensors"
    model, optimizer = model_and_optimizer()
    average = WeightAverage(model, decay=0.9)
    callbacks = [MistakesFile(path, TEST_SET)]
    fit(*(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 3), callbacks=callbacks, weight_average=average)
    with average.applied():
        np.testing.assert_array_equal(read_mistakes(path).confusion, confusion_matrix(model, loaders()[1]))


def test_labels_that_the_loss_ignores_are_no_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "mistakes.safetensors"
    train(MistakesFile(path, TEST_SET), loss=nn.CrossEntropyLoss(ignore_index=1, reduction="sum"))
    found = read_mistakes(path)
    assert found.confusion.sum(axis=1).tolist() == [(TEST_SET.labels == 0).sum(), 0]
    assert 1 not in found.label


def test_a_run_without_mistakes_and_one_without_tests(tmp_path: Path) -> None:
    path = tmp_path / "mistakes.safetensors"
    model, optimizer = model_and_optimizer()
    callback = MistakesFile(path, TEST_SET)
    fit(model, loaders()[0], None, nn.CrossEntropyLoss(), optimizer, 1, callbacks=[callback])
    assert not path.exists()

    # Each image is its label, one-hot, and the model gives it back.
    right = data.ArrayDataset(np.eye(2, dtype=np.float32)[TEST_SET.labels][:, None, None], TEST_SET.labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    model[1].weight.value = np.eye(2, dtype=np.float32)
    loader = data.DataLoader(right, 4)
    fit(
        *(model, loader, loader, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 1e-6), 1),
        callbacks=[MistakesFile(path, right)],
    )
    found = read_mistakes(path)
    assert found.images.shape == (0, 1, 1, 2) and found.confusion.trace() == 10


def test_another_order_or_other_samples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mistakes.safetensors"
    backward = data.Subset(TEST_SET, np.arange(10)[::-1])
    for dataset in (backward, TEST_SET.subset(9)):
        with pytest.raises(ValueError, match="must be what the `test_loader` goes through, in its order"):
            train(MistakesFile(path, dataset))
    assert not path.exists()


def test_what_has_no_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mistakes.safetensors"
    model, optimizer = model_and_optimizer()
    batches = [(np.ones((4, 1, 2, 2), np.float32), np.ones((4, 2), np.float32))]
    with pytest.raises(ValueError, match=r"labels \(n,\), not \(4, 2\) and \(4, 2\)"):
        fit(model, batches, batches, nn.MSELoss(), optimizer, 1, callbacks=[MistakesFile(path, TEST_SET)])
    three = data.ArrayDataset(TEST_SET.images, TEST_SET.labels, ["low", "high", "none"])
    with pytest.raises(ValueError, match=r"predictions \(n, 3\), .* not \(8, 2\) and \(8,\)"):
        train(MistakesFile(path, three))
    with pytest.raises(ValueError, match=r"must end in \.safetensors or \.npz"):
        MistakesFile(tmp_path / "mistakes.json", TEST_SET)
    with pytest.raises(TypeError, match="must be an ArrayDataset"):
        MistakesFile(path, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="MistakesFile needs a data set with labels"):
        MistakesFile(path, data.PairDataset(np.ones((3, 2)), np.ones(3)))
    with pytest.raises(ValueError, match="`most` -1"):
        MistakesFile(path, TEST_SET, most=-1)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("index", None, "it has no 'index'"),
        ("classes", None, "it has no 'classes'"),
        ("classes", '{"low": 1}', "its classes are no list of names"),
        ("classes", "[", "Expecting value"),
        ("epoch", np.array(0), "`epoch` .*0.* must be at least 1"),
        ("epoch", np.array([1, 2]), "`epoch`"),
        ("confusion", np.zeros((2, 3), np.int64), r"`confusion` of shape \(2, 3\)"),
        ("label", np.zeros(1, np.int64), r"`label` of shape \(1,\)"),
        ("predicted", np.full(2, 2), "`predicted` has numbers that are none of its 2 classes"),
        ("images", np.zeros((2, 4), np.uint8), r"`images` of shape \(2, 4\)"),
        ("label_probability", np.zeros(2, np.int64), "`label_probability` of shape"),
    ],
)
def test_files_of_another_kind_are_refused(name: str, change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mistakes.safetensors"
    train(MistakesFile(path, TEST_SET, most=2))
    arrays, metadata = read_arrays(path)
    assert len(arrays["index"]) == 2
    where: dict[str, Any] = metadata if name in metadata else arrays
    if change is None:
        del where[name]
    else:
        where[name] = change
    write_arrays(path, arrays, metadata)
    with pytest.raises(ValueError, match=rf"mistakes.safetensors' is no file of MistakesFile: .*{message}"):
        read_mistakes(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is no whole \.safetensors file"):
        read_mistakes(path)
