"""What a forward pass keeps for the backward pass that follows it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

__all__ = ["NOT_SAVED", "OF_THE_PASS", "Remembering"]

_F = TypeVar("_F", bound=Callable[..., Any])

NOT_SAVED = object()
"""In the place of what a forward pass in evaluation mode did not save."""


OF_THE_PASS = ("_saved", "_unanswered", "_ambiguous", "_in_backward", "_forward_cache", "_seen")
"""Attributes that say what passes left, not what a layer computes."""


class Remembering:
    """Something with a ``backward`` that needs what ``forward`` assigned to ``saved``.

    One forward pass is remembered, the last. So a backward pass belongs to it, and a second one is right if there was
    no other forward pass before the first, for then it can belong to no other.
    """

    _remedy: ClassVar[str]
    """What else to do where several forward passes are each to get a backward pass."""

    _saved: Any = None
    _unanswered = 0  # forward passes since the last backward pass
    _ambiguous = False  # whether the last backward pass had several forward passes to answer
    _in_backward = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "backward" in vars(cls):
            cls.backward = _answering(cls.backward)  # type: ignore[attr-defined]

    @property
    def saves(self) -> bool:
        """Whether a forward pass keeps what it assigns to ``saved``."""
        return True

    @property
    def saved(self) -> Any:
        """What the last forward pass kept for backward."""
        if self._ambiguous and not self._unanswered:
            raise RuntimeError(
                "`backward` called again after several forward passes, of which only the last is remembered; run each "
                f"backward pass right after its own forward pass, {self._remedy}: {self!r}"
            )
        if self._saved is None:
            raise RuntimeError(f"`backward` called before `forward` on {self!r}")
        if self._saved is NOT_SAVED:
            raise RuntimeError(
                "`backward` called after `forward` in evaluation mode; call `train()` first, or run `forward` inside "
                f"of `with nn.enable_grad():` for gradients in evaluation mode: {self!r}"
            )
        return self._saved

    @saved.setter
    def saved(self, kept: Any) -> None:
        values = self.__dict__
        if self.saves:
            another = self._saved is not None and self._saved is not NOT_SAVED
            values["_unanswered"] = self._unanswered + 1 if another else 1
            values["_saved"] = kept
        else:
            values["_saved"] = NOT_SAVED

    def answered(self) -> None:
        """The forward passes so far have had their backward pass."""
        if self._unanswered:
            values = self.__dict__
            values["_ambiguous"], values["_unanswered"] = self._unanswered > 1, 0


def _answering(backward: _F) -> _F:
    @functools.wraps(backward)
    def run(self: Remembering, *args: Any, **options: Any) -> Any:
        if self._in_backward:  # `super().backward(...)`
            return backward(self, *args, **options)
        values = self.__dict__
        values["_in_backward"] = True
        try:
            result = backward(self, *args, **options)
        finally:
            values["_in_backward"] = False
        self.answered()
        return result

    return cast(_F, run)
