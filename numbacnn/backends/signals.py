"""Signals that come while a step is recorded: their handlers run once that is over.

A handler runs in the very thread that it interrupts. What it computed amid a recording would be written down as part
of the step instead of being done.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["handled_afterwards"]


@contextmanager
def handled_afterwards() -> Iterator[None]:
    """Put off handlers written in Python to the end of the block, but for that of Ctrl-C, which only raises.

    A handler runs once for each kind of signal that came.

    >>> came = []
    >>> former = signal.signal(signal.SIGTERM, lambda *_: came.append("handled"))
    >>> with handled_afterwards():
    ...     signal.raise_signal(signal.SIGTERM)
    ...     came.append("the block ends")
    >>> came
    ['the block ends', 'handled']
    >>> _ = signal.signal(signal.SIGTERM, former)
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    put_off = {
        number: handler
        for number, handler in handlers.items()
        if callable(handler) and handler is not signal.default_int_handler
    }
    came: dict[int, None] = {}
    try:
        for number in put_off:
            signal.signal(number, lambda number, _frame: came.setdefault(number))
        yield
    finally:
        for number, handler in put_off.items():
            signal.signal(number, handler)
        with ExitStack() as handling:  # of all, whichever of them raises
            for pending in reversed(came):
                handling.callback(signal.raise_signal, pending)
