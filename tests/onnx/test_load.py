"""Files of any origin: what is read, under which names, in which sizes, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.onnx import messages
from numbacnn.onnx.tensors import tensor_of
from tests.onnx.graphs import model, node, written

RNG = np.random.default_rng(0)
KERNELS = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
IMAGES = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)


def kinds(graph: nn.Graph) -> list[str]:
    return [type(layer).__name__ for layer in graph]


def test_all_that_is_not_supported_is_named_at_once(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], "a", "first"),
        node("Einsum", ["a"], "b", "second", equation="i"),
        node("Relu", ["b"], "c", "third"),
        node("Det", ["c"], "d", "fourth"),
        node("Elu", ["d"], "e", "fifth", beta=2.0),
        node("Elu", ["a"], "f", "", beta=2.0),
        node("Sum", ["e", "f"], "y"),
        node("NonMaxSuppression", ["x"], "nobody needs it"),
    ]
    path = written(tmp_path / "m.onnx", nodes, {"x": (2, 3, 8, 8)}, weights={"w": KERNELS})
    with pytest.raises(ValueError) as caught:
        nc.onnx.load(path)
    assert str(caught.value).splitlines() == [
        f"{path} has parts that are not supported:",
        "- node 'second' (Einsum): this operator is not supported",
        "- node 'fourth' (Det): this operator is not supported",
        "- node 'f' (Elu): its attributes ['beta'] are unknown",
    ]


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        ([node("Conv", ["x", "x"], "y")], "its input 1, the weight, is not a constant"),
        ([node("Conv", ["x", "w"], "y", pads=[-1, 0, 0, 0])], "pads"),
        ([node("Conv", ["x", "w"], "y", group=2)], "channels"),
        ([node("Conv", ["x", "w"], "y", auto_pad="SOME")], "auto_pad 'SOME' is unknown"),
        ([node("Relu", ["z"], "y")], "its input 'z' comes from nowhere"),
        ([node("Relu", ["y"], "y")], "its input 'y' comes from nowhere"),
        ([node("Relu", ["b"], "a"), node("Relu", ["a"], "b"), node("Add", ["b", "x"], "y")], "comes from nowhere"),
        ([node("Relu", ["x"], "a"), node("Relu", ["x"], "a"), node("Relu", ["a"], "y")], "the name of another value"),
        ([node("Relu", ["x"], "x"), node("Relu", ["x"], "y")], "the name of another value"),
        ([node("Flatten", ["x"], "a"), node("MatMul", ["x", "a"], "y")], "cannot multiply matrices of the shapes"),
        ([node("Reshape", ["x", "s"], "y")], "cannot become"),
        ([node("Transpose", ["x"], "y", perm=[0, 1, 2, 2])], "are not those of"),
        ([node("Transpose", ["x"], "y", perm=[0, 1, 2, 9])], "are not those of"),
        ([node("ReduceMean", ["x"], "y", axes=[7])], "are not among 4"),
        ([node("Softmax", ["x"], "y", axis=9)], "axis 9 is none"),
        ([node("Floor", ["x"], "y")], "supported of constants alone"),
        ([node("Silu", ["x"], "y")], "this operator is not supported"),
        ([node("LRN", ["x"], "y", size=4)], "size 4 is even"),
        ([messages.Node(["x"], ["y"], "n", "Relu", [], "com.example")], "it is of the domain 'com.example'"),
        ([node("Div", ["i", "zero"], "a"), node("Reshape", ["x", "a"], "y")], "divides whole numbers by 0"),
        ([node("Constant", [], "y", value=KERNELS)], "output 'y': it is a constant"),
        ([node("Relu", ["x"], "z")], "output 'y': it is given by nothing"),
        ([node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2]), node("Relu", ["i"], "z")], "kernel_shape"),
    ],
)
def test_a_reason_is_given(tmp_path: Path, nodes: list[messages.Node], what: str) -> None:
    weights = {"w": KERNELS, "s": np.array([5, -1]), "i": np.array([2, 3]), "zero": np.array([0, 1])}
    path = written(tmp_path / "m.onnx", nodes, {"x": (2, 3, 8, 8)}, weights=weights)
    if what == "kernel_shape":  # its second output is not used for what is wanted
        assert kinds(nc.onnx.load(path)) == ["MaxPool2d"]
        return
    with pytest.raises(ValueError, match=r"m\.onnx") as caught:
        nc.onnx.load(path)
    assert what in str(caught.value)


def test_outputs_that_there_are_not_are_refused_where_they_are_used(tmp_path: Path) -> None:
    nodes = [node("MaxPool", ["x"], ["a", "i"], kernel_shape=[2, 2]), node("Add", ["a", "i"], "y")]
    path = written(tmp_path / "m.onnx", nodes, {"x": (2, 3, 8, 8)})
    with pytest.raises(ValueError, match="its output 'i' is used, and only the first one is supported"):
        nc.onnx.load(path)


@pytest.mark.parametrize("opset", [5, 28])
def test_other_opsets_are_refused(tmp_path: Path, opset: int) -> None:
    path = written(tmp_path / "m.onnx", [node("Relu", ["x"], "y")], {"x": (1, 2)}, opset=opset)
    with pytest.raises(ValueError, match=f"opset {opset}: must be 6 to 27"):
        nc.onnx.load(path)


def test_inputs_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"], "y")], {"x": (1, 2)})
    assert proto.graph is not None and proto.graph.input[0].type is not None
    proto.graph.input[0].type.tensor_type.elem_type = 7
    (tmp_path / "m.onnx").write_bytes(messages.write_model(proto))
    with pytest.raises(ValueError, match="input 'x': it is of int64, must be floating"):
        nc.onnx.load(tmp_path / "m.onnx")


def test_names_of_nodes_and_weights(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["in.put", "layer1.0.conv.weight"], "a", "/layer1/layer1.0/Conv"),
        node("Conv", ["a", "onnx::Conv_12"], "b", "/head/Conv"),
        node("Relu", ["b"], "b.c"),
        node("Relu", ["b.c"], "y", "/head/Conv"),
    ]
    weights = {"layer1.0.conv.weight": KERNELS, "onnx::Conv_12": KERNELS[:, :, :1, :1].repeat(2, 1)[:, :4]}
    path = written(tmp_path / "m.onnx", nodes, {"in.put": ("N", 3, 8, 8)}, weights=weights)
    graph = nc.onnx.load(path)
    assert graph.inputs == ("in/put",)
    assert list(graph.order) == ["layer1/0/conv", "head/Conv", "b/c", "head/Conv_2"]
    assert list(graph.state_dict()) == ["layer1/0/conv.weight", "head/Conv.weight"]


def test_shapes_are_worked_out_while_the_batch_is_open(tmp_path: Path) -> None:
    """What PyTorch writes for x.view(x.size(0), 2, -1).mean(1), and one size too many."""
    nodes = [
        node("Shape", ["x"], "shape"),
        node("Constant", [], "zero", value=np.array(0)),
        node("Gather", ["shape", "zero"], "n", axis=0),
        node("Constant", [], "first", value=np.array([0])),
        node("Unsqueeze", ["n", "first"], "n1"),
        node("Constant", [], "rest", value=np.array([2, -1])),
        node("Concat", ["n1", "rest"], "sizes", axis=0),
        node("Reshape", ["x", "sizes"], "halves"),
        node("ReduceMean", ["halves"], "y", axes=[1], keepdims=0),
    ]
    path = written(tmp_path / "m.onnx", nodes, {"x": ("N", 4, 3, 3)})
    graph = nc.onnx.load(path)
    for count in (1, 5):
        x = RNG.standard_normal((count, 4, 3, 3)).astype(np.float32)
        np.testing.assert_allclose(graph(x), x.reshape(count, 2, -1).mean(1), rtol=1e-5, atol=1e-6)
    nodes[1] = node("Constant", [], "zero", value=np.array(1))
    with pytest.raises(ValueError, match="cannot become"):
        nc.onnx.load(written(tmp_path / "m.onnx", nodes, {"x": ("N", 4, 3, 3)}))


def test_batches_that_are_folded_into_channels(tmp_path: Path) -> None:
    nodes = [node("Reshape", ["x", "s"], "a"), node("Relu", ["a"], "b"), node("Reshape", ["b", "t"], "y")]
    weights = {"s": np.array([-1, 1, 4, 4]), "t": np.array([-1, 6, 4, 4])}
    graph = nc.onnx.load(written(tmp_path / "m.onnx", nodes, {"x": ("N", 6, 4, 4)}, weights=weights))
    x = RNG.standard_normal((5, 6, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(graph(x), np.maximum(x, 0))


def test_images_of_any_size_where_layers_take_them(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], "a", pads=[1, 1, 1, 1]),
        node("Shape", ["a"], "s"),
        node("Slice", ["s", "two", "four"], "image"),
        node("Mul", ["image", "factor"], "larger"),
        node("Slice", ["s", "none", "two"], "before"),
        node("Concat", ["before", "larger"], "sizes", axis=0),
        node("Resize", ["a", "", "", "sizes"], "b", mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
        node("GlobalAveragePool", ["b"], "c"),
        node("Flatten", ["c"], "y"),
    ]  # fmt: skip
    weights = {"w": KERNELS, "two": np.array([2]), "four": np.array([4]), "none": np.array([0]),
               "factor": np.array([2, 2])}  # fmt: skip
    path = written(tmp_path / "m.onnx", nodes, {"x": ("N", 3, "H", "W")}, weights=weights)
    graph = nc.onnx.load(path)
    assert kinds(graph) == ["Conv2d", "Upsample", "GlobalAvgPool2d", "Flatten"]
    conv = graph[0]
    for h, w in ((8, 8), (5, 9)):
        x = RNG.standard_normal((2, 3, h, w)).astype(np.float32)
        np.testing.assert_allclose(graph(x), conv(x).mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_sizes_that_layers_depend_on_are_asked_for(tmp_path: Path) -> None:
    nodes = [node("Flatten", ["x"], "a"), node("Gemm", ["a", "w"], "y", transB=1)]
    weights = {"w": RNG.standard_normal((5, 192)).astype(np.float32)}
    path = written(tmp_path / "m.onnx", nodes, {"x": ("N", 3, "H", "W")}, weights=weights)
    with pytest.raises(ValueError, match=r"`shape` can fix the sizes that the file leaves open\):\n- .*\(Gemm\)"):
        nc.onnx.load(path)
    graph = nc.onnx.load(path, shape=(1, 3, 8, 8))
    np.testing.assert_allclose(graph(IMAGES), IMAGES.reshape(2, -1) @ weights["w"].T, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="whose axis 1 is 3"):
        nc.onnx.load(path, shape=(1, 4, 8, 8))
    with pytest.raises(ValueError, match="is of 2 inputs"):
        nc.onnx.load(path, shape=((1, 3, 8, 8), (1, 3, 8, 8)))
    path = written(tmp_path / "m.onnx", nodes, {"x": None}, weights=weights)
    with pytest.raises(ValueError, match="input 'x' has no shape: give `shape`"):
        nc.onnx.load(path)
    assert nc.onnx.load(path, shape=(1, 3, 8, 8))(IMAGES).shape == (2, 5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(tmp_path: Path, auto_pad: str, stride: int) -> None:
    settings = {"auto_pad": auto_pad, "strides": [stride, stride]}
    path = written(
        tmp_path / "m.onnx", [node("Conv", ["x", "w"], "y", **settings)], {"x": ("N", 3, 8, 8)}, weights={"w": KERNELS}
    )
    (conv,) = nc.onnx.load(path)
    total = 0 if auto_pad == "VALID" else 2 if stride == 1 else 1
    before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
    assert isinstance(conv, nn.Conv2d)
    assert conv.window().padding == ((before, total - before),) * 2  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_weights_of_every_precision(tmp_path: Path, dtype: Any) -> None:
    path = written(
        tmp_path / "m.onnx", [node("Conv", ["x", "w"], "y")], {"x": (2, 3, 8, 8)}, weights={"w": KERNELS.astype(dtype)}
    )
    (conv,) = nc.onnx.load(path)
    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_array_equal(conv.weight.value, KERNELS.astype(dtype))


def external(folder: Path, location: str, **entries: str) -> Path:
    """A model whose weight is elsewhere."""
    proto = model([node("Conv", ["x", "w"], "y")], {"x": (2, 3, 8, 8)}, weights={"w": KERNELS})
    assert proto.graph is not None
    tensor = proto.graph.initializer[0]
    tensor.raw_data, tensor.data_location = b"", 1
    tensor.external_data = [messages.Entry(key, value) for key, value in {"location": location, **entries}.items()]
    (folder / "m.onnx").write_bytes(messages.write_model(proto))
    return folder / "m.onnx"


def test_weights_in_another_file(tmp_path: Path) -> None:
    data = tensor_of("w", KERNELS).raw_data
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "w.bin").write_bytes(b"12345" + data + b"more")
    (conv,) = nc.onnx.load(external(tmp_path, "inner/w.bin", offset="5", length=str(len(data))))
    np.testing.assert_array_equal(conv.state_dict()["weight"], KERNELS)
    (conv,) = nc.onnx.load(external(tmp_path, "inner/w.bin", offset="5"))
    np.testing.assert_array_equal(conv.state_dict()["weight"], KERNELS)


@pytest.mark.parametrize(
    ("location", "entries", "what"),
    [
        ("../secret.bin", {}, "not within the model's folder"),
        ("/etc/passwd", {}, "not within the model's folder"),
        ("link.bin", {}, "not within the model's folder"),
        ("a\0b", {}, "not within the model's folder"),
        ("", {}, "not within the model's folder"),
        (".", {}, "not within the model's folder"),
        ("nowhere.bin", {}, "there is no such file"),
        ("w.bin", {"offset": "1"}, "needs bytes 1 to 433 of 'w.bin', which has 432"),
        ("w.bin", {"length": "9999"}, "has 9999 bytes of data"),
        ("w.bin", {"offset": str(2**63)}, f"needs bytes {2**63}"),
        ("w.bin", {"offset": "-4"}, "must be whole numbers"),
        ("w.bin", {"offset": "9" * 30}, "must be whole numbers"),
    ],
)
def test_nothing_outside_of_the_folder_is_read(
    tmp_path: Path, location: str, entries: dict[str, str], what: str
) -> None:
    data = tensor_of("w", KERNELS).raw_data
    (tmp_path / "secret.bin").write_bytes(data)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").write_bytes(data)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ValueError, match=r"m\.onnx: tensor 'w'") as caught:
        nc.onnx.load(external(folder, location, **entries))
    assert what in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*'$"):
        nc.onnx.load("nowhere.onnx")
