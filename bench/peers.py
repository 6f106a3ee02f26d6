"""Other libraries that do the same work, measured beside ours as yardsticks: each in the ways that its users would try.

PyTorch runs in this process, eagerly, with images and weights in channels_last, by ``torch.compile`` and, where
weights do not change, by ``torch.compile`` with frozen ones; on a GPU also as a CUDA graph, and in TF32 and bfloat16.
There cuDNN computes single convolutions without it. On the CPU PyTorch's single convolutions that are not compiled,
and ONNX Runtime, OpenVINO, MNN and ncnn, run alone in processes of their own, in turns with everybody else
(``torch_worker.py``, ``peer_worker.py``). All have as many threads as we have.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from numbacnn import backends, nn, onnx
from numbacnn.backends import use_backend
from numbacnn.backends.contract import ConvPass
from numbacnn.backends.geometry import Conv2dGeometry

from . import cudnn_conv, torch_worker
from .command import UserError
from .contender import Contender, reason
from .precision import FULL, LAYOUTS, Ways, bounded, suffix
from .torch_conv import Tf32, TorchConv, conv_module, torch_captured
from .torch_trainers import trainers
from .train_contenders import Task
from .worker import Worker

__all__ = ["ALL", "BOUND", "NAMES", "Peers", "import_torch", "load"]

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "torch": ("torch",),
    "cudnn": ("cudnn",),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "mnn": ("MNN",),
    "ncnn": ("pnnx", "ncnn"),
}
"""What is imported for each; the last one is what is measured."""
NAMES = tuple(PACKAGES)
ALL = "all"
"""Every library that is installed; which ones are not is told."""
DISTRIBUTIONS = {"cudnn": "nvidia-cudnn-frontend"}
"""Where it has another name than the package that is imported."""
EXTRAS = {"cudnn": "bench-cuda"}
OF_GPU = ("cudnn",)
"""Libraries that compute on a GPU alone."""
BOUND = bounded(FULL)
"""How far outputs may be from ours, relative to the largest, for a time to count."""
FREEZING = {"freezing": True}
ONE_IMAGE = ("ncnn",)
"""Libraries that know no batches."""

Makers = dict[str, Callable[[], Contender]]


class Peers:
    """The libraries that take part, on the CPU or on the GPU.

    Args:
        names: of NAMES.
        threads: of each library on the CPU.
        device: ``"cpu"`` or ``"cuda"``, where PyTorch and cuDNN take part.
        ways: in which they compute; one that the device does not have is left out.
        missing: why others do not, by name.

    Raises ImportError, with what to install, and UserError where PyTorch finds no GPU, or cuDNN is to compute on the
    CPU.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        threads: int = 1,
        device: str = "cpu",
        ways: Ways = Ways(),  # noqa: B008 - it cannot be changed
        missing: dict[str, str] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.missing = dict(missing or {})
        self._threads, self._device, self._ways = threads, device, ways
        for name in names:
            if name in OF_GPU and device != "cuda":
                raise UserError(f"peer {name} computes on the GPU alone, beside --backend cuda")
        self._torch: Any = import_torch(threads, device) if "torch" in names else None
        for name in names:
            for package in PACKAGES[name]:
                _import(package, EXTRAS.get(name, "bench"))
        self._cudnn: Any = _import_cudnn() if "cudnn" in names else None
        self._open = contextlib.ExitStack()
        self.set_threads(threads)

    @property
    def packages(self) -> list[str]:
        """The distributions whose versions belong to the results."""
        return [DISTRIBUTIONS.get(name, PACKAGES[name][-1]) for name in self.names]

    @property
    def libraries(self) -> dict[str, str]:
        """The versions of cuDNN: PyTorch may bring one of its own."""
        found = {}
        if self._cudnn is not None:
            found["cuDNN"] = cudnn_conv.version(self._cudnn)
        if self._torch is not None and self._device == "cuda":
            found["PyTorch's cuDNN"] = str(self._torch.backends.cudnn.version())
        return found

    @property
    def only_infer(self) -> list[str]:
        """Those that have no part in training."""
        return [name for name in self.names if name != "torch"]

    def set_threads(self, threads: int) -> None:
        """From the next case on."""
        self._threads = threads
        if self._torch is not None:
            self._torch.set_num_threads(threads)

    @contextlib.contextmanager
    def case(self) -> Iterator[None]:
        """One model or convolution with all that is timed of it; processes that it began end with it."""
        if self._torch is not None:
            # One function is compiled for a few models only, and then no longer: each case begins anew.
            self._torch._dynamo.reset()
            if self._device == "cuda":
                self._torch.cuda.empty_cache()  # what the former case took
        with self._open:
            yield

    def training(self, task: Task) -> dict[str, Callable[[], Any]]:
        """Makers of what trains as ``Ours`` of ``train_contenders.py`` does, by name."""
        if self._torch is None:
            return {}
        found = trainers(self._device, self._ways)
        return {name: partial(kind, self._torch, task, self._device, *how) for name, (kind, *how) in found.items()}

    def inference(self, task: Task, x: np.ndarray) -> Makers:
        """Makers of what computes the logits of ``x``, by name."""

        def graph_model() -> nn.Layer:
            with use_backend("reference"):
                return task.network()

        return self._forward(lambda: task.torch_network(self._torch, self._device), graph_model, x)

    def conv2d(
        self, g: Conv2dGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dy: np.ndarray
    ) -> dict[ConvPass, Makers]:
        """Makers of what computes a pass, by name; PyTorch and cuDNN compute others than the forward pass too."""

        def layer() -> nn.Layer:
            with use_backend("reference"):
                result = nn.Conv2d(
                    *(g.c, g.k, (g.kh, g.kw), (g.sh, g.sw), ((g.pt, g.pb), (g.pl, g.pr)), (g.dh, g.dw), g.groups)
                )
                result.load_state_dict({"weight": weight, "bias": bias})
                return result

        def module() -> Any:
            return conv_module(self._torch, g, weight, bias).to(self._device)

        found: dict[ConvPass, Makers] = {"forward": {}, "backward_input": {}, "backward_weight": {}}
        if self._torch is not None:
            eager = self._torch_alone if self._device == "cpu" else self._torch_here
            for kind in TorchConv.kinds(self._torch, self._device, self._ways):
                for pass_, make in eager(kind, g, x, weight, bias, dy).items():
                    found[pass_][kind.name] = make
        if self._cudnn is not None:
            for way in cudnn_conv.kinds(self._cudnn, backends.get("cuda"), self._ways):
                for pass_, make in way.conv2d(g, x, weight, bias, dy).items():
                    found[pass_][way.name] = make
        if self._device == "cpu":
            forward = self._forward(module, layer, x)
            found["forward"].update({name: make for name, make in forward.items() if name not in found["forward"]})
        return found

    def _forward(self, torch_model: Callable[[], Any], graph_model: Callable[[], nn.Layer], x: np.ndarray) -> Makers:
        """Makers of all ways to compute a model's output."""
        found: Makers = {}
        if self._torch is not None:
            for precision in self._ways.precisions:
                for base, layout, options in self._forward_ways():
                    make = partial(self._torch_forward, torch_model, x, precision, layout)
                    found[base + suffix(precision, layout)] = partial(make, **options)
        if self._device == "cpu":
            able = [name for name in self.only_infer if len(x) == 1 or name not in ONE_IMAGE]
            found.update({name: partial(self._alone, name, graph_model, x) for name in able})
        return found

    def _forward_ways(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """How PyTorch runs a forward pass: the start of the name, the layout, options of :meth:`_torch_forward`."""
        runs, on_gpu = self._ways.runs, self._device == "cuda"
        for layout in self._ways.layouts:
            if "eager" in runs:
                yield "torch", layout, {}
            if "graph" in runs and on_gpu:
                yield "torch CUDA graph", layout, {"graph": True}
        if "compile" in runs:
            compiled = self._torch.compile
            yield "torch.compile", LAYOUTS[0], {"compiled": compiled}
            yield "torch.compile frozen", LAYOUTS[0], {"compiled": partial(compiled, options=FREEZING)}

    def _torch_forward(
        self,
        build: Callable[[], Any],
        x: np.ndarray,
        precision: str,
        layout: str,
        compiled: Callable[[Any], Any] = lambda model: model,
        graph: bool = False,
    ) -> Contender:
        torch = self._torch
        Tf32.allow(torch, precision == "tf32")
        model, images = build().eval(), torch.from_numpy(x).to(self._device)
        if precision == "bf16":
            model, images = model.bfloat16(), images.bfloat16()
        if layout == "channels_last":
            model, images = (value.to(memory_format=torch.channels_last) for value in (model, images))
        model = compiled(model)

        def run() -> Any:
            Tf32.allow(torch, precision == "tf32")
            with torch.no_grad():
                return model(images)

        wait = torch.cuda.synchronize if self._device == "cuda" else None
        bound = None if precision == FULL else bounded(precision)
        capture = partial(torch_captured, torch) if graph else None
        return Contender(run, TorchConv.to_numpy, wait, bound, capture, precision=precision, layout=layout)

    def _torch_here(self, kind: TorchConv, g: Conv2dGeometry, *operands: np.ndarray) -> dict[ConvPass, Any]:
        return {pass_: partial(kind.contender, run) for pass_, run in kind.conv2d(g, *operands).items()}

    def _torch_alone(self, kind: TorchConv, g: Conv2dGeometry, *operands: np.ndarray) -> dict[ConvPass, Any]:
        """By PyTorch in a process of its own, which ends with the case."""

        @functools.cache
        def folder_and_worker() -> tuple[Path, Worker]:
            folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            np.savez(folder / "operands.npz", *operands)
            command = [sys.executable, "-m", "bench.torch_worker", kind.name, f"{self._threads}", g.descriptor]
            environment = {"PYTHONPATH": str(ROOT), **torch_worker.ENVIRONMENT}
            return folder, self._open.enter_context(Worker([*command, str(folder / "operands.npz")], environment))

        def make(pass_: ConvPass) -> Contender:
            folder, worker = folder_and_worker()

            def run() -> np.ndarray:
                worker.ask("outputs", pass_=pass_, path=str(folder / f"{pass_}.npy"))
                return np.asarray(np.load(folder / f"{pass_}.npy"))

            return Contender(
                run,
                bound=kind.bound,
                sample=partial(worker.ask, "sample", pass_=pass_),
                precision=kind.precision,
                layout=kind.layout,
            )

        return {pass_: partial(make, pass_) for pass_ in get_args(ConvPass)}

    def _alone(self, library: str, graph_model: Callable[[], nn.Layer], x: np.ndarray) -> Contender:
        """By a library in a process of its own, which ends with the case."""
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        graph, inputs, outputs = (folder / name for name in ("model.onnx", "x.npy", "y.npy"))
        onnx.save(graph_model(), graph, x.shape, dynamic_batch=False)
        np.save(inputs, x)
        command = [sys.executable, "-m", "bench.peer_worker", library, f"{self._threads}", str(graph), str(inputs)]
        worker = self._open.enter_context(Worker(command, {"PYTHONPATH": str(ROOT)}))

        def run() -> np.ndarray:
            worker.ask("outputs", path=str(outputs))
            return np.asarray(np.load(outputs))

        # Of the libraries that are asked so, one rounds more than float32 has to.
        return Contender(run, bound=BOUND, sample=partial(worker.ask, "sample"))


def import_torch(threads: int, device: str) -> Any:
    """PyTorch with so many threads on the CPU, full float32 on the GPU.

    ImportError, with what to install, if it is missing or broken; UserError if it finds no GPU where ``device`` is one.
    """
    torch = _import("torch")
    torch.set_num_threads(threads)
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"peer torch {torch.__version__} finds no GPU that it can use")
        torch.backends.cudnn.benchmark = True
        Tf32.allow(torch, False)
    return torch


def _import_cudnn() -> Any:
    """NVIDIA's package, which is imported without the library that it calls."""
    package = _import("cudnn", EXTRAS["cudnn"])
    try:
        cudnn_conv.version(package)
    except Exception as error:
        raise ImportError(f'peer cudnn finds no cuDNN ({reason(error)}): pip install "numbacnn[bench-cuda]"') from error
    return package


def _import(package: str, extra: str = "bench") -> Any:
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries
        raise ImportError(
            f'peer {package} cannot be imported ({reason(error)}): pip install "numbacnn[{extra}]"'
        ) from error


def load(
    names: Sequence[str],
    threads: int,
    device: str = "cpu",
    ways: Ways = Ways(),  # noqa: B008 - it cannot be changed
) -> Peers:
    """The peers of those names, each once; for ``all`` those that are there, and why others are not.

    Raises what :class:`Peers` raises for a peer that is asked for by its name.
    """
    if ALL not in names:
        return Peers(list(dict.fromkeys(names)), threads, device, ways)
    missing: dict[str, str] = {}
    able = [name for name in NAMES if (name in OF_GPU) <= (device == "cuda")]
    for name in able:
        try:
            Peers([name], threads, device, ways)
        except (ImportError, UserError) as error:
            missing[name] = reason(error)
    return Peers([name for name in able if name not in missing], threads, device, ways, missing)
