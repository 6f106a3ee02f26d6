"""Messages go through bytes and come back; what is no message is refused without taking memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from numbacnn.onnx import messages
from numbacnn.onnx.protobuf import MOST_DEPTH, MalformedError, decode, encode
from numbacnn.onnx.tensors import DTYPES, array_of, tensor_of


def test_numbers_of_every_size() -> None:
    values = [0, 1, 127, 128, 300, 2**31, 2**62, 2**63 - 1, -1, -(2**63)]
    found = decode(messages.Attribute, encode(messages.Attribute(name="a", ints=np.array(values), f=0.25, i=-7)))
    assert found.ints.tolist() == values
    assert (found.name, found.f, found.i) == ("a", 0.25, -7)


def test_bytes_are_those_of_the_format() -> None:
    """As the encoding's guide has them: 150 in field 1 is 08 96 01, "testing" in field 2 is 12 07 ..."""
    assert encode(messages.Dimension(dim_value=150)) == bytes.fromhex("089601")
    assert encode(messages.Dimension(dim_param="testing")) == bytes.fromhex("120774657374696e67")


@pytest.mark.parametrize("value, expected", [(0, b"\x18\0"), (0.0, b"\x15\0\0\0\0"), ("", b"\x22\0")])
def test_the_value_of_an_attribute_is_there_even_where_it_is_0(value: float | str, expected: bytes) -> None:
    (attribute,) = messages.attributes_of({"axis": value})
    assert expected in encode(attribute)


@pytest.mark.parametrize("packed", [True, False])
def test_lists_with_and_without_keys_for_each_number(packed: bool) -> None:
    data = b"\x42\x03\x01\x96\x01" if packed else b"\x40\x01\x40\x96\x01"
    assert decode(messages.Attribute, data).ints.tolist() == [1, 150]


def test_floats_alone_and_in_lists() -> None:
    one = np.float32(1.5).tobytes()
    assert decode(messages.Attribute, b"\x3a\x08" + one + one).floats.tolist() == [1.5, 1.5]
    assert decode(messages.Attribute, b"\x3d" + one).floats.tolist() == [1.5]


def test_fields_that_are_not_known_are_skipped() -> None:
    unknown = b"\xf8\x07\x05" + b"\xfa\x07\x02ab" + b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4)
    assert decode(messages.Dimension, unknown + b"\x08\x03" + unknown).dim_value == 3


def test_a_whole_model_comes_back() -> None:
    tensor = tensor_of("w", np.arange(6, dtype=np.float32).reshape(2, 3))
    node = messages.Node(["x", "w"], ["y"], "n", "Gemm", messages.attributes_of({"transB": 1, "alpha": 0.5, "t": "s"}))
    model = messages.Model(8, "p", "1", messages.Graph([node], "g", [tensor]), [messages.OperatorSet("", 17)])
    again = decode(messages.Model, encode(model))
    assert again.graph is not None
    found = again.graph.node[0]
    assert (found.input, found.output, found.name, found.op_type) == (["x", "w"], ["y"], "n", "Gemm")
    assert [(a.name, a.type, a.i, a.f, bytes(a.s)) for a in found.attribute] == [
        ("transB", 2, 1, 0.0, b""),
        ("alpha", 1, 0, 0.5, b""),
        ("t", 3, 0, 0.0, b"s"),
    ]
    np.testing.assert_array_equal(array_of(again.graph.initializer[0], None), [[0, 1, 2], [3, 4, 5]])
    assert encode(again) == encode(model)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x08", "does not end"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "longer than 64 bits"),
        (b"\x12\x05ab", "5 bytes begins where only 2 are left"),
        (b"\x12" + b"\x80" * 8 + b"\x80\x01" + b"a", f"{2**63} bytes"),
        (b"\x0b", "wire type 3"),
        (b"\x12\x03", "3 bytes"),
        (b"\x10\x01", "Dimension.dim_param has the wire type 0"),
    ],
)
def test_damage_is_named(data: bytes, what: str) -> None:
    with pytest.raises(MalformedError, match=what):
        decode(messages.Dimension, data)


def test_damage_in_lists_of_numbers_is_named() -> None:
    with pytest.raises(MalformedError, match="3 bytes are no whole number of floats"):
        decode(messages.Attribute, b"\x3a\x03abc")
    with pytest.raises(MalformedError, match="does not end"):
        decode(messages.Attribute, b"\x42\x02\x01\x80")
    with pytest.raises(MalformedError, match="longer than 64 bits"):
        decode(messages.Attribute, b"\x42\x0b" + b"\x80" * 10 + b"\x01")


def test_nesting_is_bounded() -> None:
    @dataclasses.dataclass
    class Nested:
        inner: Nested | None = None

    Nested._by_number = {1: ("inner", Nested, False)}  # type: ignore[attr-defined]
    data = b""
    for _ in range(MOST_DEPTH):
        data = b"\x0a" + bytes([len(data)]) + data
    decode(Nested, data)
    with pytest.raises(MalformedError, match=f"more than {MOST_DEPTH} deep"):
        decode(Nested, b"\x0a" + bytes([len(data)]) + data)


@pytest.mark.parametrize("number", DTYPES)
def test_arrays_of_every_type_come_back(number: int) -> None:
    array = np.array([[0, 1, 2], [3, 0, 1]]).astype(DTYPES[number])
    found = array_of(decode(messages.Tensor, encode(tensor_of("t", array))), None)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("number", "fields", "expected"),
    [
        (1, {"float_data": np.float32([1.5, -2])}, [1.5, -2]),
        (11, {"double_data": np.float64([1.5, -2])}, [1.5, -2]),
        (7, {"int64_data": np.int64([-5, 2**40])}, [-5, 2**40]),
        (13, {"uint64_data": np.int64([-1, 3])}, [2**64 - 1, 3]),
        (12, {"uint64_data": np.int64([7, 3])}, [7, 3]),
        (6, {"int32_data": np.int64([-7, 3])}, [-7, 3]),
        (2, {"int32_data": np.int64([255, 3])}, [255, 3]),
        (9, {"int32_data": np.int64([1, 0])}, [True, False]),
        (10, {"int32_data": np.int64([0x3E00, 0xC000])}, [1.5, -2]),
        (16, {"int32_data": np.int64([0x3FC0, 0xC000])}, [1.5, -2]),
        (16, {"raw_data": b"\xc0\x3f\x00\xc0"}, [1.5, -2]),
    ],
)
def test_numbers_lie_in_the_field_of_their_type(number: int, fields: dict[str, np.ndarray], expected: list) -> None:
    tensor = messages.Tensor(dims=np.array([2]), data_type=number, **fields)
    assert array_of(decode(messages.Tensor, encode(tensor)), None).tolist() == expected


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (messages.Tensor(name="t", dims=np.array([3]), data_type=1, raw_data=b"abcd"), "has 4 bytes of data"),
        (messages.Tensor(name="t", dims=np.array([3]), data_type=1, float_data=np.zeros(2)), "has 2 numbers"),
        (messages.Tensor(name="t", dims=np.array([-3]), data_type=1), "none can have"),
        (messages.Tensor(name="t", dims=np.array([2**40, 2**40]), data_type=1), "none can have"),
        (messages.Tensor(name="t", dims=np.array([1]), data_type=8), "is of string"),
        (messages.Tensor(name="t", dims=np.array([1]), data_type=77), "is of type 77"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensor: messages.Tensor, what: str) -> None:
    with pytest.raises(ValueError, match=f"tensor 't'.*{what}"):
        array_of(tensor, None)
