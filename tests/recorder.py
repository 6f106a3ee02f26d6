"""The reference as a backend that works in the background and captures, for tests of what the host makes of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbacnn.backends import reference

IN_PLACE = {
    "accumulate",
    "adagrad_step",
    "adam_step",
    "add_channels",
    "assign",
    "clip_scale",
    "divide",
    "fill_zero",
    "increment",
    "lion_step",
    "nadam_step",
    "put_channels",
    "rmsprop_step",
    "sgd_step",
    "update_running_average",
}
FACTS = {"choose_conv2d_algorithm", "conv2d_algorithms", "conv2d_workspace", "device_name", "is_array", "synchronize"}


class Recorder:
    """While it captures, nothing changes in place; a launch computes everything anew into the arrays of the capture.

    Attributes:
        refusal: None, or ``"early"`` or ``"late"``: `capture` returns None before or after it has run the function.
        free: What `free_memory` says.
        captured, launched, read: How many captures, launches, and arrays read by the host.
    """

    name = "recorder"
    asynchronous = True

    def __init__(self, refusal: str | None = None, free: int | None = None) -> None:
        self.refusal = refusal
        self.free = free
        self.captured = self.launched = self.read = 0
        self._tape: list[Callable[[], None]] | None = None

    def free_memory(self) -> int | None:
        return self.free

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        assert self._tape is None, "nothing can be read while a step is captured"
        self.read += 1
        return x.copy()

    def capture(self, function: Callable[[], None]) -> tuple[Callable[[], None]] | None:
        self.captured += 1
        if self.refusal == "early":
            return None
        tape = self._tape = []
        # What is done in place is not done yet, so that all else computes with what nothing was written to.
        with np.errstate(all="ignore"):
            function()
        self._tape = None
        if self.refusal == "late":
            return None

        def launch() -> None:
            self.launched += 1
            for step in tape:
                step()

        return (launch,)

    def __getattr__(self, name: str) -> Any:
        function = getattr(reference, name)
        if name in FACTS:
            return function

        def call(*arguments: Any, **options: Any) -> Any:
            if self._tape is None:
                return function(*arguments, **options)
            if name in IN_PLACE:
                self._tape.append(lambda: function(*arguments, **options))
                return None
            result = function(*arguments, **options)
            if name == "empty" and result.dtype.kind == "f":
                result.fill(np.nan)
            targets = result if isinstance(result, (tuple, list)) else [result]

            def again() -> None:
                results = function(*arguments, **options)
                for target, new in zip(targets, results if targets is result else [results], strict=True):
                    target[...] = new

            if name != "asarray" or not np.shares_memory(arguments[0], result):
                self._tape.append(again)
            return result

        return call
