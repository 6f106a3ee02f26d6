"""Passes of a convolution by cuDNN, through NVIDIA's package ``cudnn``: no other library, in our memory and stream."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import numpy as np

from numbacnn.backends import Backend
from numbacnn.backends.contract import ConvPass
from numbacnn.backends.geometry import Conv2dGeometry

from .contender import Contender, captured, reason
from .precision import FULL, LAYOUTS, Ways, bounded, from_bfloat16, suffix, to_bfloat16

__all__ = ["CudnnConv", "kinds", "version"]

MOST_PLANS = 8
"""Plans that are timed of each graph; cuDNN names those first that it takes for the fastest."""
TIMED_CALLS = 3
HOPELESS = 2.0
"""How many times as long as the best one a plan may take in its first call and be timed."""
# As PyTorch keeps them from its convolutions, the last one but for matrices.
NARROWED = ("DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION")
REFUSED_NOTES = {FULL: ("TENSOR_CORE", *NARROWED), "tf32": NARROWED, "bf16": NARROWED[1:]}
"""What no plan may do in a precision: on tensor cores float32 is rounded to TF32, sums are to be kept in float32."""
DATA_TYPES = {FULL: "FLOAT", "tf32": "FLOAT", "bf16": "BFLOAT16"}
UIDS = {"x": 1, "weight": 2, "bias": 3, "dy": 4, "sum": 5}
RESULT = 6
ORDER = (0, 2, 3, 1)
"""Of the axes in memory where channels are last."""

Node = Callable[[Any, dict[str, Any]], Any]
"""Adds what it computes to a graph, from tensors by name."""


def version(cudnn: Any) -> str:
    """That of cuDNN; RuntimeError where the package finds none."""
    return str(cudnn.backend_version_string())


@dataclass(frozen=True)
class _Tensor:
    """Device memory of a layout, and what a graph is told of it."""

    shape: tuple[int, ...]
    layout: str
    array: Any

    @property
    def strides(self) -> list[int]:
        _, c, h, w = self.shape
        return [c * h * w, 1, w * c, c] if self.layout == "channels_last" else [c * h * w, h * w, w, 1]


@dataclass
class _Plan:
    """One engine of a graph with its settings, on tensors whose memory it keeps."""

    graph: Any
    index: int
    name: str
    pack: dict[int, _Tensor]
    workspace: Any
    seconds: float = 0.0


@dataclass
class _Context:
    """cuDNN's handle, and one workspace for all plans, which are run one after the other."""

    handle: Any
    workspace: Any = field(default=None)

    def room(self, size: int) -> Any:
        """Device memory of at least ``size`` bytes; ValueError for more than a gigabyte, whose plan is passed over."""
        from numbacnn.backends.cuda.runtime import device_array

        if self.workspace is None or self.workspace.size < size:
            self.workspace = device_array.new((1 << max(size - 1, 0).bit_length(),), np.uint8)
        return self.workspace


@functools.cache
def _context(cudnn: Any) -> _Context:
    from numbacnn.backends.cuda.runtime.device_array import device

    stream = device().stream  # asked for first: its context becomes that of this thread, and so the handle's
    handle = cudnn.create_handle()
    cudnn.set_stream(handle=handle, stream=stream)
    return _Context(handle)


class CudnnConv:
    """One way in which cuDNN computes a convolution, by the fastest of its plans.

    Args:
        cudnn: the package.
        backend: cuda.
        precision: of PRECISIONS. In ``"bf16"`` what goes in and what comes out is bfloat16; sums are float32.
        layout: of LAYOUTS, of images and weights.
    """

    def __init__(self, cudnn: Any, backend: Backend, precision: str = FULL, layout: str = LAYOUTS[0]) -> None:
        self.name = "cudnn" + suffix(precision, layout)
        self._cudnn, self._backend, self._precision, self._layout = cudnn, backend, precision, layout
        self._data_type = getattr(cudnn.data_type, DATA_TYPES[precision])

    def conv2d(
        self, g: Conv2dGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dy: np.ndarray
    ) -> dict[ConvPass, Callable[[], Contender]]:
        """Makers of what computes a pass of NumPy arrays, each into memory of its own, which the next call takes too.

        A maker raises RuntimeError where cuDNN has no plan.
        """

        @functools.cache
        def operands() -> dict[str, _Tensor]:
            given = {"x": x, "weight": weight, "dy": dy, "bias": bias.reshape(1, -1, 1, 1)}
            return {name: self._uploaded(array) for name, array in given.items()}

        return {pass_: partial(self._contender, g, pass_, operands) for pass_ in get_args(ConvPass)}

    def _contender(self, g: Conv2dGeometry, pass_: ConvPass, operands: Callable[[], dict[str, _Tensor]]) -> Contender:
        given = operands()
        window = {
            "pre_padding": [g.pt, g.pl],
            "post_padding": [g.pb, g.pr],
            "stride": [g.sh, g.sw],
            "dilation": [g.dh, g.dw],
        }
        if pass_ == "forward":
            result = self._empty(g.y_shape)
            plans = self._forward(window, given, result)
        elif pass_ == "backward_input":
            result = self._empty(g.x_shape)
            plans = [self._fastest(lambda graph, t: graph.conv_dgrad(loss=t["dy"], filter=t["weight"], **window),
                                   {name: given[name] for name in ("dy", "weight")}, result)]  # fmt: skip
        else:
            result = self._empty(g.weight_shape)
            plans = [self._fastest(lambda graph, t: graph.conv_wgrad(image=t["x"], loss=t["dy"], **window),
                                   {name: given[name] for name in ("x", "dy")}, result)]  # fmt: skip

        def run() -> _Tensor:
            for plan in plans:
                self._execute(plan)
            return result

        return Contender(
            run,
            self._downloaded,
            self._backend.synchronize,
            bounded("tf32" if self._precision == FULL else self._precision),  # plans by Winograd or FFT round more
            partial(captured, self._backend),
            precision=self._precision,
            layout=self._layout,
            algorithm=" + ".join(plan.name for plan in plans),
        )

    def _forward(self, window: dict[str, Any], given: dict[str, _Tensor], result: _Tensor) -> list[_Plan]:
        """The faster of two ways: the bias within the convolution's graph, where fewer engines are, or in its own."""

        def convolution(graph: Any, tensors: dict[str, Any]) -> Any:
            return graph.conv_fprop(image=tensors["x"], weight=tensors["weight"], **window)

        def with_bias(graph: Any, tensors: dict[str, Any]) -> Any:
            return graph.bias(input=convolution(graph, tensors), bias=tensors["bias"])

        def bias_alone(graph: Any, tensors: dict[str, Any]) -> Any:
            return graph.bias(input=tensors["sum"], bias=tensors["bias"])

        image, bias = {name: given[name] for name in ("x", "weight")}, {"bias": given["bias"]}

        def fused() -> list[_Plan]:
            return [self._fastest(with_bias, {**image, **bias}, result)]

        def in_two() -> list[_Plan]:
            total = self._empty(result.shape)
            return [self._fastest(convolution, image, total), self._fastest(bias_alone, {"sum": total, **bias}, result)]

        found, refusals = [], []
        for way in (fused, in_two):
            try:
                found.append(way())
            except Exception as error:
                refusals.append(reason(error))
        if not found:
            raise RuntimeError("; ".join(dict.fromkeys(refusals)))
        return min(found, key=lambda plans: sum(plan.seconds for plan in plans))

    def _fastest(self, node: Node, given: dict[str, _Tensor], result: _Tensor) -> _Plan:
        """The fastest plan of what ``node`` computes; RuntimeError, with the last reason, where there is none."""
        graph = self._graph(node, given, result)
        pack = {**{UIDS[name]: tensor for name, tensor in given.items()}, RESULT: result}
        best, tried, refusal = None, 0, "cuDNN has no plan in this precision"
        for index in range(graph.get_execution_plan_count()):
            try:
                graph.build_plan_at_index(index)
                plan = self._timed(graph, index, pack, best.seconds if best else math.inf)
            except self._cudnn.cudnnGraphNotSupportedError:
                continue  # such as those with a note that is refused
            except Exception as error:
                refusal = reason(error)
                continue
            best = plan if best is None or plan.seconds < best.seconds else best
            tried += 1
            if tried == MOST_PLANS:
                break
        if best is None:
            raise RuntimeError(refusal)
        return best

    def _graph(self, node: Node, given: dict[str, _Tensor], result: _Tensor) -> Any:
        """The graph with all its plans, none of them built."""
        cudnn = self._cudnn
        graph = cudnn.pygraph(
            handle=_context(cudnn).handle,
            io_data_type=self._data_type,
            intermediate_data_type=cudnn.data_type.FLOAT,
            compute_data_type=cudnn.data_type.FLOAT,
        )
        tensors = {
            name: graph.tensor(
                dim=list(t.shape), stride=t.strides, data_type=self._data_type, name=name, uid=UIDS[name]
            )
            for name, t in given.items()
        }
        output = node(graph, tensors)
        output.set_output(True).set_uid(RESULT).set_data_type(self._data_type)
        output.set_dim(list(result.shape)).set_stride(result.strides)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.deselect_numeric_notes([getattr(cudnn.numerical_note, note) for note in REFUSED_NOTES[self._precision]])
        return graph

    def _timed(self, graph: Any, index: int, pack: dict[int, _Tensor], best: float) -> _Plan:
        """A plan that was built, run once, and its seconds: those of a launch or, if it may beat ``best``, of a few."""
        workspace = _context(self._cudnn).room(graph.get_workspace_size_plan_at_index(index))
        plan = _Plan(graph, index, str(graph.get_plan_name_at_index(index)), pack, workspace)
        run = partial(self._execute, plan)
        run()
        self._backend.synchronize()
        launch = captured(self._backend, run) or run
        for calls in (1, TIMED_CALLS):
            start = time.perf_counter()
            for _ in range(calls):
                launch()
            self._backend.synchronize()
            plan.seconds = (time.perf_counter() - start) / calls
            if plan.seconds > HOPELESS * best:
                break
        return plan

    def _execute(self, plan: _Plan) -> None:
        from numbacnn.backends.cuda.runtime.device_array import device

        handle = _context(self._cudnn).handle
        self._cudnn.set_stream(handle=handle, stream=device().current_stream)
        pack = {uid: tensor.array.place for uid, tensor in plan.pack.items()}
        plan.graph.execute_plan_at_index(pack, plan.workspace.place, plan.index, handle=handle)

    def _uploaded(self, values: np.ndarray) -> _Tensor:
        from numbacnn.backends.cuda.runtime import device_array

        ordered = values.transpose(ORDER) if self._layout == "channels_last" else values
        laid = np.ascontiguousarray(ordered)
        array = device_array.uploaded(to_bfloat16(laid) if self._precision == "bf16" else laid)
        return _Tensor(values.shape, self._layout, array)

    def _empty(self, shape: tuple[int, ...]) -> _Tensor:
        from numbacnn.backends.cuda.runtime import device_array

        dtype = np.uint16 if self._precision == "bf16" else np.float32
        ordered = [shape[axis] for axis in ORDER] if self._layout == "channels_last" else shape
        return _Tensor(shape, self._layout, device_array.new(ordered, dtype))

    def _downloaded(self, tensor: _Tensor) -> np.ndarray:
        values = np.asarray(tensor.array)
        values = from_bfloat16(values) if self._precision == "bf16" else values
        return values.transpose(0, 3, 1, 2) if self._layout == "channels_last" else values


def kinds(cudnn: Any, backend: Backend, ways: Ways) -> list[CudnnConv]:
    """The ways to measure."""
    return [CudnnConv(cudnn, backend, precision, layout) for precision in ways.precisions for layout in ways.layouts]
