"""PyTorch training the model of a task: call by call, compiled, as a CUDA graph, in each precision and layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from .precision import FULL, LAYOUTS, Ways, suffix
from .torch_conv import Tf32
from .train_contenders import Task

__all__ = ["TorchCompiled", "TorchEager", "TorchGraph", "trainers"]

WARM_UP_STEPS = 3


class TorchEager:
    """PyTorch as one writes it, a call for every operation; loss and right answers are summed as we sum them.

    Args:
        torch: the package.
        task: what is trained.
        device: ``"cpu"`` or ``"cuda"``.
        precision: ``"tf32"`` lets products round their operands to 11 bits, which GPUs do; in ``"bf16"`` the forward
            pass is under ``torch.autocast``, where convolutions and linear layers compute in bfloat16.
        layout: the memory format of images, weights and what is between them.
    """

    base, mode = "torch", "eager"

    def __init__(self, torch: Any, task: Task, device: str, precision: str = FULL, layout: str = LAYOUTS[0]) -> None:
        self.name = self.base + suffix(precision, layout)
        self.precision, self.layout = precision, layout
        self._torch, self._task, self._device = torch, task, device
        Tf32.allow(torch, precision == "tf32")
        dataset = task.dataset()
        self._images, self._labels = (torch.from_numpy(array).to(device) for array in (dataset.images, dataset.labels))
        self._format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self._model = task.torch_network(torch, device).to(memory_format=self._format)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=task.model.lr)
        self._loss_sum, self._correct = torch.zeros((), device=device), torch.zeros((), device=device)
        self._examples = 0

    def batches(self, epoch: int) -> Iterator[Any]:
        for part in self._parts(epoch):
            x = self._images.index_select(0, part) / 255
            yield x.contiguous(memory_format=self._format), self._labels.index_select(0, part)

    def _parts(self, epoch: int) -> Any:
        order = self._torch.from_numpy(self._task.order(epoch)).to(self._device)
        return order[: self._task.steps * self._task.batch_size].split(self._task.batch_size)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision != "bf16":
            return contextlib.nullcontext()
        # Weights change in every step, so that nothing is gained by keeping what they were rounded to.
        return self._torch.autocast(self._device, dtype=self._torch.bfloat16, cache_enabled=False)

    def _loss_and_correct(self, x: Any, y: Any) -> tuple[Any, Any]:
        with self._autocast():
            logits = self._model(x)
        logits = logits.float()
        return self._torch.nn.functional.cross_entropy(logits, y), (logits.argmax(1) == y).sum()

    def _train(self, x: Any, y: Any) -> None:
        Tf32.allow(self._torch, self.precision == "tf32")
        loss, correct = self._loss_and_correct(x, y)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._loss_sum += loss.detach() * len(y)
        self._correct += correct

    def step(self, x: Any, y: Any) -> None:
        self._train(x, y)
        self._examples += len(y)

    def wait(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def mean_loss(self) -> float:
        mean = float(self._loss_sum) / self._examples
        self._loss_sum.zero_()
        self._correct.zero_()
        self._examples = 0
        return mean


class TorchCompiled(TorchEager):
    """Forward, loss and their backward pass made by ``torch.compile``."""

    base, mode = "torch.compile", "compiled"

    def __init__(self, torch: Any, *arguments: Any) -> None:
        super().__init__(torch, *arguments)
        self._loss_and_correct = torch.compile(super()._loss_and_correct)  # type: ignore[method-assign]


class TorchGraph(TorchEager):
    """The whole step recorded as a CUDA graph, which reads its batch from two tensors that stay where they are."""

    base, mode = "torch CUDA graph", "captured"

    def __init__(self, torch: Any, task: Task, device: str, *arguments: Any) -> None:
        super().__init__(torch, task, device, *arguments)
        size = task.batch_size
        self._x = (self._images[:size] / 255).contiguous(memory_format=self._format)
        self._y = self._labels[:size].clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self._train(self._x, self._y)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            self._train(self._x, self._y)
        self._model.load_state_dict(task.torch_network(torch, device).state_dict())
        self._loss_sum.zero_()
        self._correct.zero_()

    def batches(self, epoch: int) -> Iterator[Any]:
        for part in self._parts(epoch):
            self._torch.div(self._images.index_select(0, part), 255, out=self._x)
            self._torch.index_select(self._labels, 0, part, out=self._y)
            yield self._x, self._y

    def step(self, x: Any, y: Any) -> None:
        self._graph.replay()
        self._examples += len(y)


def trainers(device: str, ways: Ways) -> dict[str, tuple[type[TorchEager], str, str]]:
    """The ways in which PyTorch trains on a device, by name: who, in which precision and layout.

    On the CPU there are no CUDA graphs, and what is compiled has the layout that the compiler likes best.
    """
    runs: dict[str, type[TorchEager]] = {"eager": TorchEager, "compile": TorchCompiled, "graph": TorchGraph}
    found: dict[str, tuple[type[TorchEager], str, str]] = {}
    for precision in ways.precisions:
        for run in ways.runs:
            for layout in ways.layouts:
                if device == "cuda" or run == "eager" or (run, layout) == ("compile", LAYOUTS[0]):
                    found[runs[run].base + suffix(precision, layout)] = runs[run], precision, layout
    return found
