"""Models as folders: what hubs expect in them, and folders that are damaged or say what cannot be."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import from_pretrained, models, nn, save_pretrained
from numbacnn.io import CheckpointError, load
from numbacnn.models.architecture import Architecture, architecture_of
from tests.io import torch_bytes as tb
from tests.io.test_weights import assert_same_state
from tests.models.variants import ALL, build
from tests.quick import reference_by_default as reference_by_default

FILES = ["README.md", "config.json", "model.safetensors"]


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ALL)
def test_a_model_of_the_package_comes_back_from_its_folder(tmp_path: Path, name: str) -> None:
    model, x = build(name)
    model(x)
    folder = tmp_path / "new" / name
    save_pretrained(str(folder), model)
    assert sorted(os.listdir(folder)) == FILES
    found = from_pretrained(folder)
    assert repr(found) == repr(model)
    assert not any(layer.training for layer in found.layers())
    assert_same_state(found.state_dict(), model.state_dict())
    np.testing.assert_array_equal(found(x), model.eval()(x))


def test_the_configuration_says_what_made_the_model(tmp_path: Path) -> None:
    model = models.resnet(np.int64(1), depth=50, width_divisor=16, layout="torchvision", dtype=np.float64)
    save_pretrained(tmp_path, model, {"classes": ["Katze", "Hündin"], "mean": [0.5]})
    assert config_of(tmp_path) == {
        "library_name": "numbacnn",
        "numbacnn_version": nc.__version__,
        "architecture": "resnet",
        "model_args": {
            **{"in_channels": 1, "depth": 50, "width_divisor": 16},
            **{"layout": "torchvision", "dtype": "float64"},
        },
        "classes": ["Katze", "Hündin"],
        "mean": [0.5],
    }
    assert "Hündin" in (tmp_path / "config.json").read_text(encoding="utf-8")


def test_the_card_is_what_hubs_read(tmp_path: Path) -> None:
    save_pretrained(tmp_path / "my lenet", models.lenet(num_classes=3))
    text = (tmp_path / "my lenet" / "README.md").read_text(encoding="utf-8")
    head = re.match(r"---\n(.*?)\n---\n\n# my lenet\n", text, re.DOTALL)
    assert head and head[1].splitlines() == [
        *("library_name: numbacnn", "pipeline_tag: image-classification", "tags:", "- numbacnn"),
    ]
    assert "A `lenet` of numbacnn" in text and "61,111 parameters" in text and "| `num_classes` | 3 |" in text
    code = re.search(r"```python\n(.*?)y = ", text, re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    former = os.getcwd()
    os.chdir(tmp_path)
    try:
        exec(code[1], names)
    finally:
        os.chdir(former)
    assert repr(names["model"]) == repr(models.lenet(num_classes=3))


def test_a_card_that_somebody_has_written_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    for _ in range(2):
        save_pretrained(tmp_path, models.lenet())
    assert (tmp_path / "README.md").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == FILES


def own_model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_other_models_are_weights(tmp_path: Path) -> None:
    model, other = own_model(), own_model()
    save_pretrained(tmp_path, model)
    assert config_of(tmp_path) == {"library_name": "numbacnn", "numbacnn_version": nc.__version__}
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "A `Sequential` of numbacnn" in text and "pipeline_tag" not in text and ", model)" in text
    assert from_pretrained(tmp_path, other) is other
    assert other.training
    assert_same_state(other.state_dict(), model.state_dict())
    with pytest.raises(ValueError, match=r"config\.json' names no architecture; .* are alexnet, .*; give `model`"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    from_pretrained(tmp_path, own_model())
    with pytest.raises(
        FileNotFoundError, match=r"there is no '.*config\.json' to tell which model it is; give `model`"
    ):
        from_pretrained(tmp_path)


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    save_pretrained(tmp_path, own_model())
    model = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with pytest.raises(
        ValueError, match=r"model\.safetensors' cannot .* has shape \(2, 3\), .*; missing 2\.weight; unex"
    ):
        from_pretrained(tmp_path, model)
    other = nn.Sequential(nn.Linear(3, 2))
    from_pretrained(tmp_path, other, strict=False)


def test_another_head_is_left_as_it_is_and_named(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    old, model = models.lenet(), models.lenet(num_classes=7)
    save_pretrained(tmp_path, old)
    before, trained = model.state_dict(), old.state_dict()
    with pytest.raises(ValueError, match="10 in the state and 7 in the model: with `ignore_mismatched_sizes=True`"):
        from_pretrained(tmp_path, model)
    assert from_pretrained(tmp_path, model, ignore_mismatched_sizes=True) is model
    head = {name for name, array in before.items() if array.shape != trained[name].shape}
    assert {name.partition(".")[0] for name in head} == {"11"}
    assert_same_state(model.state_dict(), {name: (before if name in head else trained)[name] for name in before})
    (warning,) = recwarn.list
    assert re.search(r"model\.safetensors': .*\n2 of another shape: 11\.weight \(10, 84\)", str(warning.message))
    assert warning.filename == __file__
    # So it is where the configuration tells of the other head.
    config = config_of(tmp_path) | {"model_args": {"num_classes": 7}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="the head has another number of classes"):
        assert from_pretrained(tmp_path, ignore_mismatched_sizes=True).output_shape((1, 1, 28, 28)) == (1, 7)
    with pytest.raises(TypeError, match="`ignore_mismatched_sizes` 1 must be True or False"):
        from_pretrained(tmp_path, model, ignore_mismatched_sizes=1)  # type: ignore[call-overload]


def test_folders_of_other_libraries(tmp_path: Path) -> None:
    model = own_model()
    state = {f"module.{name}": array for name, array in model.state_dict().items()}
    (tmp_path / "pytorch_model.bin").write_bytes(tb.FORMATS["2.1"](state))
    (tmp_path / "config.json").write_text('{"architecture": "resnet50", "num_classes": 1000}')
    with pytest.warns(UserWarning, match=r"pytorch_model\.bin': .* without 'module\.'"):
        found = from_pretrained(tmp_path, own_model())
    assert_same_state(found.state_dict(), model.state_dict())
    with pytest.raises(
        ValueError, match=r"names the architecture 'resnet50'; those of this package are .*; give `model`"
    ):
        from_pretrained(tmp_path)


# What made a model.


def test_a_model_that_was_changed_is_no_longer_what_the_function_makes() -> None:
    model = models.resnet(width_divisor=16)
    expected = Architecture("resnet", {"width_divisor": 16})
    for same in (model, copy.deepcopy(model).eval(), pickle.loads(pickle.dumps(model)), nn.tied_copy(model)):
        assert architecture_of(same) == expected
    model["conv1"].algorithm = "im2col"
    assert architecture_of(model) == expected
    assert architecture_of(nn.Sequential(model)) is None
    assert architecture_of(nn.fold_batch_norm(model)) is None
    model["fc"] = nn.Linear(32, 7)
    assert architecture_of(model) is None
    vgg = models.vgg(width_divisor=64, hidden_features=8)
    next(layer for layer in vgg.layers() if isinstance(layer, nn.Dropout)).p = 0.1
    assert architecture_of(vgg) is None


def test_arguments_by_position_and_of_numpy_are_remembered() -> None:
    model = models.lenet(np.int32(3), 4, "max", np.bool_(True), np.dtype(np.float64))
    assert architecture_of(model) == Architecture(
        "lenet", {"in_channels": 3, "num_classes": 4, "pooling": "max", "batch_norm": True, "dtype": "float64"}
    )


def test_the_functions_keep_their_names_and_help() -> None:
    for name in models.__all__:
        function = getattr(models, name)
        assert function.__name__ == name and "Raises:" in function.__doc__


# What cannot be.


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", CheckpointError, "is no readable configuration"),
        ("[]", CheckpointError, "is no readable configuration: it is no table"),
        ('{"a": 1, "a": 2}', CheckpointError, "it names 'a' twice"),
        ("[" * 100_000, CheckpointError, "nested too deep"),
        ('{"architecture": "__builtins__"}', ValueError, "names the architecture '__builtins__'"),
        ('{"architecture": "arguments"}', ValueError, "names the architecture 'arguments'"),
        ('{"architecture": ["lenet"]}', ValueError, "names the architecture"),
        ('{"architecture": "lenet", "model_args": 5}', CheckpointError, "says what cannot be"),
        ('{"architecture": "lenet", "model_args": {"depth": 5}}', CheckpointError, "says what cannot be: .*depth"),
        ('{"architecture": "lenet", "model_args": {"pooling": []}}', CheckpointError, "says what cannot be: `pooling`"),
        ('{"architecture": "lenet", "model_args": {"dtype": "O"}}', CheckpointError, "says what cannot be: "),
        ('{"architecture": "lenet", "model_args": {"dtype": "os"}}', CheckpointError, "says what cannot be: "),
        ('{"architecture": "lenet", "model_args": {"num_classes": -1}}', CheckpointError, "`num_classes` -1 must be"),
        ('{"architecture": "lenet", "model_args": {"num_classes": 1e300}}', CheckpointError, "`num_classes` 1e.300"),
        ('{"architecture": "lenet", "model_args": {"num_classes": 1000000000000}}', CheckpointError, "no size of the"),
        ('{"architecture": "vgg", "model_args": {"hidden_features": 1025}}', CheckpointError, "no size of the weights"),
        ('{"architecture": "resnet", "model_args": {"depth": 50, "groups": 99, "width_per_group": 999}}',
         CheckpointError, "`groups` times `width_per_group`, 98901, is no size of the weights"),
        ('{"architecture": "resnet", "model_args": {"groups": "99"}}', CheckpointError, "says what cannot be"),
        ('{"architecture": "mobilenet_v2", "model_args": {"width_mult": 99.5}}', CheckpointError, "`width_mult` 99.5"),
        ('{"architecture": "lenet", "model_args": {"num_classes": 11}}', ValueError, r"has shape \(10, 84\)"),
    ],
)  # fmt: skip
def test_configurations_that_say_what_cannot_be(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    save_pretrained(tmp_path, models.lenet())
    (tmp_path / "config.json").write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(error, match=message) as caught:
            from_pretrained(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()
    assert "config.json" in str(caught.value) or "model.safetensors" in str(caught.value)


def test_a_configuration_that_is_too_long(tmp_path: Path) -> None:
    save_pretrained(tmp_path, models.lenet())
    with open(tmp_path / "config.json", "r+b") as file:
        file.truncate(1 << 34)  # takes no place on the disk
    with pytest.raises(CheckpointError, match="it has more than 16777216 bytes"):
        from_pretrained(tmp_path)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder 'timm/resnet18'; nothing is downloaded"):
        from_pretrained("timm/resnet18")
    with pytest.raises(FileNotFoundError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        from_pretrained(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file"):
        save_pretrained(tmp_path / "file", own_model())


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    save_pretrained(tmp_path, models.lenet())
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors' is no whole \.safetensors file"):
        from_pretrained(tmp_path)


def test_arguments(tmp_path: Path) -> None:
    model = own_model()
    with pytest.raises(TypeError, match=r"`folder` .*: the order is save_pretrained\(folder, model\)"):
        save_pretrained(model, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`model` of type dict .*: the order is from_pretrained\(folder, model\)"):
        from_pretrained(tmp_path, model.state_dict())  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"`folder` of type int"):
        from_pretrained(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="`config` of type list must be a dict"):
        save_pretrained(tmp_path, model, [])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`config` must hold what JSON knows: .*ndarray"):
        save_pretrained(tmp_path, model, {"mean": np.ones(3)})
    with pytest.raises(ValueError, match="`config` has 'architecture', which is written anyway"):
        save_pretrained(tmp_path, model, {"architecture": "lenet"})
    assert not os.listdir(tmp_path)


def test_the_home_folder_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save_pretrained("~/lenet", models.lenet())
    assert sorted(os.listdir(tmp_path / "lenet")) == FILES
    from_pretrained("~/lenet")
    load("~/lenet/model.safetensors", models.lenet())


def test_nc_has_both() -> None:
    assert nc.save_pretrained is save_pretrained and nc.from_pretrained is from_pretrained
