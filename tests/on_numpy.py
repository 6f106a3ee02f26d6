"""A backend as seen by tests that think in NumPy: arrays go over and come back at each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from numbacnn.backends import Backend

__all__ = ["Captured", "OnNumPy"]


class OnNumPy:
    """The functions of ``backend`` on NumPy arrays, changed in place where the function does that."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self.backend, name)

        def call(*arguments: Any, **options: Any) -> Any:
            given = [self._over(argument) for argument in arguments]
            result = self._run(name, function, given, options)
            for argument, array in zip(arguments, given, strict=True):
                self._write_back(argument, array)
            return self._back(result)

        return call

    def _run(self, name: str, function: Callable[..., Any], given: list[Any], options: dict[str, Any]) -> Any:
        return function(*given, **options)

    def _over(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return self.backend.asarray(x)
        return [self._over(item) for item in x] if isinstance(x, list) else x

    def _back(self, x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(self._back(item) for item in x)
        return self.backend.to_numpy(x) if self.backend.is_array(x) else x

    def _write_back(self, x: Any, array: Any) -> None:
        """All arguments, also those that should only have been read: a test that compares them afterwards will see."""
        if isinstance(x, list):
            for item, other in zip(x, array, strict=True):
                self._write_back(item, other)
        elif isinstance(x, np.ndarray) and x is not array:
            x[...] = self.backend.to_numpy(array)


class Captured(OnNumPy):
    """Every function is captured while its arguments hold other numbers, and launched with the right ones."""

    FACTS: ClassVar = {"choose_conv2d_algorithm", "conv2d_algorithms", "conv2d_workspace"}

    def _run(self, name: str, function: Callable[..., Any], given: list[Any], options: dict[str, Any]) -> Any:
        if name in self.FACTS:
            return function(*given, **options)
        arrays = [x for item in given for x in (item if isinstance(item, list) else [item]) if self.backend.is_array(x)]
        right = [x.copy() for x in arrays]
        for x in arrays:
            x[...] = 77
        result: Any = None

        def run() -> None:
            nonlocal result
            result = function(*given, **options)

        launches = self.backend.capture(run)
        assert launches is not None
        for x, values in zip(arrays, right, strict=True):
            np.testing.assert_array_equal(x, 77)
            x[...] = values
        launches[0]()
        return result
