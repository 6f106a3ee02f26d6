"""What ``bench.cudnn_conv`` calls of NVIDIA's package ``cudnn``, computed by NumPy in the memory of stub_driver.c.

Names, arguments and the order of calls are those of 1.32; what it would refuse is refused. Of each graph there are
PLANS, the last two by the heuristics for whatever the others do not take.
"""

from __future__ import annotations

import ctypes
import enum
from typing import Any, NamedTuple

import numpy as np

from bench.precision import from_bfloat16, to_bfloat16
from numbacnn.backends import get
from numbacnn.backends.geometry import Conv2dGeometry

data_type = enum.Enum("data_type", "FLOAT BFLOAT16 NOT_SET")
heur_mode = enum.Enum("heur_mode", "A B FALLBACK")
numerical_note = enum.Enum("numerical_note", "TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION FFT WINOGRAD")


class Clock:
    """Time passes while plans are executed."""

    seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


clock = Clock()
WORKSPACE = 1000
streams: list[int] = []
"""In which plans were executed."""
refused: set[data_type] = set()
"""In which a convolution with its bias has no engine."""


class Plan(NamedTuple):
    """How an engine computes."""

    mode: heur_mode
    notes: tuple[numerical_note, ...] = ()
    seconds: float = 0.0
    fails: bool = False


PLANS = (
    Plan(heur_mode.A, (numerical_note.DOWN_CONVERT_INPUTS,)),
    Plan(heur_mode.A, (numerical_note.TENSOR_CORE, numerical_note.REDUCED_PRECISION_REDUCTION)),
    Plan(heur_mode.A, (numerical_note.TENSOR_CORE,), 0.02),
    Plan(heur_mode.A, (), 0.0, fails=True),
    Plan(heur_mode.FALLBACK, (), 0.06),
    Plan(heur_mode.FALLBACK, (numerical_note.FFT,), 0.04),
)


class cudnnGraphNotSupportedError(Exception):  # noqa: N801 - its name
    """Another engine, or none, has to do it."""


class Handle:
    """Knows the stream."""

    stream = 0


def create_handle() -> Handle:
    return Handle()


def set_stream(handle: Handle, stream: int) -> None:
    handle.stream = stream


def backend_version_string() -> str:
    return "9.28.1"


class Tensor:
    """Its setters return it."""

    def __init__(self, compute: Any = None) -> None:
        self.compute = compute
        self.is_output = False

    def set_output(self, is_output: bool) -> Tensor:
        self.is_output = is_output
        return self

    def set_uid(self, uid: int) -> Tensor:
        self.uid = uid
        return self

    def set_dim(self, dim: list[int]) -> Tensor:
        self.dim = dim
        return self

    def set_stride(self, stride: list[int]) -> Tensor:
        self.stride = stride
        return self

    def set_data_type(self, kind: data_type) -> Tensor:
        self.kind = kind
        return self

    def memory(self, address: int) -> np.ndarray:
        """Its elements, or their bits, where they lie."""
        dtype = np.dtype(np.float32 if self.kind is data_type.FLOAT else np.uint16)
        count = 1 + sum((size - 1) * step for size, step in zip(self.dim, self.stride, strict=True))
        flat = np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(address), dtype)
        return np.lib.stride_tricks.as_strided(flat, self.dim, [step * dtype.itemsize for step in self.stride])

    def values(self, address: int) -> np.ndarray:
        found = self.memory(address)
        return found.copy() if self.kind is data_type.FLOAT else from_bfloat16(found)

    def store(self, address: int, values: np.ndarray) -> None:
        self.memory(address)[...] = values if self.kind is data_type.FLOAT else to_bfloat16(values)


class pygraph:  # noqa: N801 - its name
    """A graph of a convolution, of a sum with a bias, or of both."""

    def __init__(
        self, *, handle: Handle, io_data_type: data_type, intermediate_data_type: data_type,
        compute_data_type: data_type,
    ) -> None:  # fmt: skip
        assert intermediate_data_type is compute_data_type is data_type.FLOAT
        self.io, self.tensors, self.nodes = io_data_type, [], []
        self.stages: list[str] = []
        self.refused_notes: set[numerical_note] = set()
        self.built: set[int] = set()

    def tensor(self, *, dim: list[int], stride: list[int], data_type: data_type, name: str, uid: int) -> Tensor:
        made = Tensor().set_dim(dim).set_stride(stride).set_data_type(data_type).set_uid(uid)
        assert data_type is self.io and uid not in [tensor.uid for tensor in self.tensors]
        self.tensors.append(made)
        return made

    def _node(self, kind: str, compute: Any) -> Tensor:
        self.nodes.append(kind)
        self.output = Tensor(compute)
        return self.output

    def conv_fprop(self, *, image: Tensor, weight: Tensor, **window: Any) -> Tensor:
        def compute(read: Any) -> np.ndarray:
            g = geometry(image.dim, weight.dim, window)
            return np.asarray(get("reference").conv2d(read(image), read(weight), None, g, "loops"))

        return self._node("conv", compute)

    def conv_dgrad(self, *, loss: Tensor, filter: Tensor, **window: Any) -> Tensor:
        def compute(read: Any) -> np.ndarray:
            g = geometry(self.output.dim, filter.dim, window)
            return np.asarray(get("reference").conv2d_backward_input(read(loss), read(filter), g, "loops"))

        return self._node("conv", compute)

    def conv_wgrad(self, *, image: Tensor, loss: Tensor, **window: Any) -> Tensor:
        def compute(read: Any) -> np.ndarray:
            g = geometry(image.dim, self.output.dim, window)
            return np.asarray(get("reference").conv2d_backward_weight(read(loss), read(image), g, "loops"))

        return self._node("conv", compute)

    def bias(self, *, input: Tensor, bias: Tensor) -> Tensor:
        before = input.compute or (lambda read: read(input))
        return self._node("bias", lambda read: before(read) + read(bias))

    def validate(self) -> None:
        assert self.output.is_output
        self.stages.append("validate")

    def build_operation_graph(self) -> None:
        self.stages.append("build_operation_graph")

    def create_execution_plans(self, modes: list[heur_mode]) -> None:
        assert self.stages == ["validate", "build_operation_graph"]
        if len(self.nodes) == 2 and self.io in refused:
            raise cudnnGraphNotSupportedError("no engine takes both")
        self.plans = [plan for mode in modes for plan in PLANS if plan.mode is mode]

    def deselect_numeric_notes(self, notes: list[numerical_note]) -> None:
        assert self.plans, "before there are plans the filter would be lost"
        self.refused_notes.update(notes)

    def get_execution_plan_count(self) -> int:
        return len(self.plans)

    def get_plan_name_at_index(self, index: int) -> str:
        return f"eng{index}"

    def build_plan_at_index(self, index: int) -> None:
        if self.refused_notes.intersection(self.plans[index].notes):
            raise cudnnGraphNotSupportedError("Deselecting execution plan")
        self.built.add(index)

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        assert index in self.built
        return WORKSPACE * index

    def execute_plan_at_index(self, tensor_dict: dict[int, int], workspace: int, index: int, *, handle: Handle) -> None:
        plan = self.plans[index]
        assert index in self.built and type(workspace) is int
        assert set(tensor_dict) == {tensor.uid for tensor in (*self.tensors, self.output)}
        if plan.fails:
            raise RuntimeError("the kernel is not for this device")
        ctypes.memset(workspace, 0xFF, WORKSPACE * index)
        streams.append(handle.stream)
        clock.seconds += plan.seconds
        rounds = numerical_note.TENSOR_CORE in plan.notes and self.io is data_type.FLOAT

        def read(tensor: Tensor) -> np.ndarray:
            values = tensor.values(tensor_dict[tensor.uid])
            return tf32(values) if rounds else values

        self.output.store(tensor_dict[self.output.uid], self.output.compute(read))


def tf32(values: np.ndarray) -> np.ndarray:
    """With 10 bits behind the point, cut off."""
    return (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def geometry(image: list[int], weight: list[int], window: dict[str, list[int]]) -> Conv2dGeometry:
    """Groups follow from the channels."""
    (n, c, h, w), (k, channels, kh, kw) = image, weight
    (pt, pl), (pb, pr), (sh, sw), (dh, dw) = (
        window[name] for name in ("pre_padding", "post_padding", "stride", "dilation")
    )
    return Conv2dGeometry(
        n=n, c=c, h=h, w=w, k=k, kh=kh, kw=kw, sh=sh, sw=sw, pt=pt, pb=pb, pl=pl, pr=pr, dh=dh, dw=dw,
        groups=c // channels,
    )  # fmt: skip
