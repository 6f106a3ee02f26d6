"""Handlers of signals are put off, and none of them is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from numbacnn.backends.signals import handled_afterwards

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _handlers_are_given_back() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("raising", SIGNALS)
def test_each_is_handled_whatever_another_raises(raising: signal.Signals) -> None:
    handled: list[int] = []

    def handle(number: int, _frame: Any) -> None:
        handled.append(number)
        if number == raising:
            raise KeyError(number)

    for number in SIGNALS:
        signal.signal(number, handle)
    with pytest.raises(KeyError), handled_afterwards():
        for number in (*SIGNALS, *SIGNALS):
            signal.raise_signal(number)
        assert handled == []
    assert handled == [*SIGNALS]
    assert [signal.getsignal(number) for number in SIGNALS] == [handle, handle]


def test_control_c_s_own_handler_ends_the_block() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), handled_afterwards():
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it was put off")


def test_other_threads_leave_handlers_alone() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    handler, seen = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with handled_afterwards():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [handler]
