"""What the pickles in files of ``torch.save`` may name: tensors, where their numbers are, and tables of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .plain_pickle import Name, Vocabulary, of_type

__all__ = ["Refused", "Storage", "Tensor", "TensorPickle"]

_STORAGES = {
    **{"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "V2", "BoolStorage": "?"},
    **{"CharStorage": "i1", "ShortStorage": "i2", "IntStorage": "i4", "LongStorage": "i8", "ByteStorage": "u1"},
    **{"ComplexFloatStorage": "c8", "ComplexDoubleStorage": "c16", "UntypedStorage": "u1"},
    # The sizes of what is not read.
    **{"QInt8Storage": "V1", "QUInt8Storage": "V1", "QUInt4x2Storage": "V1", "QUInt2x4Storage": "V1"},
    "QInt32Storage": "V4",
}
_DTYPES = {
    **{"float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": "V2", "bool": "?"},
    **{f"{kind}{8 * size}": f"{kind[0]}{size}" for kind in ("int", "uint") for size in (1, 2, 4, 8)},
    **{"complex64": "c8", "complex128": "c16", "complex32": "V4"},
    **{f"float8_{kind}": "V1" for kind in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu")},
}
_SCHEMES = ("per_tensor_affine", "per_channel_affine", "per_channel_affine_float_qparams")
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")


def _name(module: str, name: str) -> Name:
    return Name(module.encode(), name.encode())


def _rebuild(name: str) -> Name:
    return _name("torch._utils", name)


_STORAGE_NAMES = {_name(module, name): np.dtype(_STORAGES[name]) for name in _STORAGES for module in _STORAGE_MODULES}
_DTYPE_NAMES = {_name("torch", name): np.dtype(dtype) for name, dtype in _DTYPES.items()}
_TENSORS = {_rebuild("_rebuild_tensor"): (4, 4), _rebuild("_rebuild_tensor_v2"): (6, 7)}
"""Functions that make a tensor of a storage, an offset, sizes and strides, and how many arguments they take."""
_TYPED_TENSOR = _rebuild("_rebuild_tensor_v3")
"""The same with a dtype before the last argument."""
_PARAMETERS = {
    _rebuild("_rebuild_parameter"),
    _rebuild("_rebuild_parameter_with_state"),
    _name("torch.nn.parameter", "Parameter"),
}
_OF_A_TYPE = _name("torch._tensor", "_rebuild_from_type_v2")
_PLAIN_TYPES = {_name("torch", "Tensor"), _name("torch.nn.parameter", "Parameter")}
_REFUSED = {
    _rebuild("_rebuild_sparse_tensor"): "a sparse tensor",
    _rebuild("_rebuild_sparse_csr_tensor"): "a sparse tensor",
    _rebuild("_rebuild_nested_tensor"): "a nested tensor",
    _rebuild("_rebuild_qtensor"): "a quantized tensor",
    _rebuild("_rebuild_meta_tensor_no_storage"): "a tensor of the meta device, which has no numbers",
}
_TABLES = {_name("collections", "OrderedDict"), _name("collections", "Counter")}
_LISTS = {_name("torch", "Size"), _name("__builtin__", "set"), _name("builtins", "set")}
_CONSTANTS = {_name("torch", "device"), _name("torch.serialization", "_get_layout")}
_MOST_AXES = 32


class Storage(NamedTuple):
    """Numbers that are elsewhere: ``total`` of them under ``key``, of which ``size`` from ``first`` on are meant."""

    key: str
    dtype: np.dtype[Any]
    total: int
    first: int
    size: int
    name: Name


class Tensor(NamedTuple):
    """A tensor, ``strides`` in elements from ``offset`` in its storage on."""

    storage: Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Refused(NamedTuple):
    """A tensor of a kind that is not read."""

    what: str


class _Constant(NamedTuple):
    """A device, a layout: nothing that numbers depend on."""

    name: Name


class TensorPickle(Vocabulary):
    """Tensors, storages, dictionaries, and plain data; `storages` are those that were referred to."""

    names = frozenset(
        {
            *(*_STORAGE_NAMES, *_DTYPE_NAMES, *(_name("torch", scheme) for scheme in _SCHEMES)),
            *(*_TENSORS, _TYPED_TENSOR, *_PARAMETERS, _OF_A_TYPE, *_PLAIN_TYPES, *_REFUSED),
            *(*_TABLES, *_LISTS, *_CONSTANTS),
        }
    )
    only = "only tensors and plain data are read, as `torch.save(model.state_dict(), path)` writes them"

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}

    def called(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        if name == _OF_A_TYPE:
            made_by, kind, arguments, _ = _parts(arguments, tuple, 4)
            name, arguments = of_type(made_by, Name), of_type(arguments, tuple)
            if of_type(kind, Name) not in _PLAIN_TYPES or name == _OF_A_TYPE:
                raise ValueError("its pickle is damaged: a tensor is of no type that there is")
        if name in _TENSORS or name == _TYPED_TENSOR:
            return _tensor(name, arguments)
        if name in _REFUSED:
            return Refused(_REFUSED[name])
        if name in _PARAMETERS:
            return arguments[0]
        if name in _TABLES:
            return _table(arguments[0]) if arguments else {}
        if name in _LISTS:
            return arguments[0] if arguments else []
        if name in _CONSTANTS:
            return _Constant(name)
        return super().called(name, arguments)

    def built(self, value: Any, state: Any) -> Any:
        """``value``: what a state dict has for attributes are the versions of its layers."""
        return of_type(value, dict)

    def referred(self, key: Any) -> Storage:
        kind, name, root, _, count, view = (*_parts(key, tuple, 5, 6), None)[:6]
        if kind != b"storage":
            raise ValueError(f"its pickle refers to something other than a storage; {self.only}")
        dtype = _STORAGE_NAMES[of_type(name, Name)]
        key = of_type(root, bytes).decode("utf-8", "replace")
        storage = Storage(key, dtype, _size(count), 0, _size(count), name)
        former = self.storages.setdefault(storage.key, storage)
        if former.total * former.dtype.itemsize != storage.total * dtype.itemsize:
            raise ValueError(f"its pickle gives the storage {key!r} two sizes")
        if view is not None:
            _, first, size = _parts(view, tuple, 3)
            if _size(first) + _size(size) > storage.total:
                raise ValueError(f"its pickle has a view that ends behind the storage {key!r}")
            return storage._replace(first=first, size=size)
        return storage


def _tensor(name: Name, arguments: tuple[Any, ...]) -> Tensor | Refused:
    least, most = (7, 8) if name == _TYPED_TENSOR else _TENSORS[name]
    _parts(arguments, tuple, least, most)
    storage = of_type(arguments[0], Storage)
    offset, shape, strides = _size(arguments[1]), of_type(arguments[2], tuple), of_type(arguments[3], tuple)
    dtype, first, size, described = storage.dtype, storage.first, storage.size, storage.name
    if name == _TYPED_TENSOR:
        described = of_type(arguments[6], Name)
        dtype = _DTYPE_NAMES[described]
        first, size = (part * storage.dtype.itemsize // dtype.itemsize for part in (first, size))
    if dtype.kind == "V" and dtype.itemsize != 2:
        return Refused(f"a tensor of {described}")
    if len(arguments) == most and most > least and arguments[-1]:
        return Refused("a tensor whose numbers are to be conjugated or negated")
    if len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise ValueError(f"its pickle is damaged: a tensor has {len(shape)} sizes and {len(strides)} strides")
    extent = 1 + sum((_size(length) - 1) * _size(stride) for length, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and offset + extent > size:
        raise ValueError(f"its pickle has a tensor that ends at {offset + extent} of the {size} numbers of its storage")
    return Tensor(storage, dtype, first + offset, shape, strides)


def _table(content: Any) -> dict[Any, Any]:
    """The dictionary itself, or what is in a list of keys and values, as Python 2 has it, which then is empty."""
    if type(content) is dict:
        return content
    pairs = [_parts(pair, list, 2) for pair in of_type(content, list)]
    content.clear()
    return {of_type(key, bytes): value for key, value in pairs}


def _parts(value: Any, kind: type, least: int, most: int | None = None) -> Any:
    """``value``, if it is of this ``kind`` and has between ``least`` and ``most`` parts, ``least`` by default."""
    count = len(of_type(value, kind))
    if not least <= count <= (most or least):
        raise ValueError(f"its pickle is damaged: there are {count} parts where {most or least} belong")
    return value


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("its pickle is damaged: a size is no integer of 0 or more")
    return value
