"""Host effects: done at once, or left to whoever replays what was recorded."""

from __future__ import annotations

import threading
from typing import Any

import numba
import pytest

from numbacnn.backends.capture import Captures, after_launch, before_launch, invalidate, recording


def test_an_effect_is_done_at_once_where_nothing_is_recorded() -> None:
    done: list[int] = []
    after_launch(lambda: done.append(1))
    assert done == [1]


def test_a_recording_keeps_effects_in_order_and_does_none() -> None:
    done: list[int] = []
    with recording() as effects:
        after_launch(lambda: done.append(1))
        after_launch(lambda: done.append(2))
    assert done == []
    for _ in range(2):
        for effect in effects.after:
            effect()
    assert done == [1, 2, 1, 2]
    after_launch(lambda: done.append(3))
    assert (done[4:], len(effects.after)) == ([3], 2)


def test_checks_come_before_a_launch_and_counts_after_it() -> None:
    done: list[str] = []

    def refuse() -> None:
        raise ValueError

    before_launch(lambda: done.append("at once"))
    with recording() as effects:
        after_launch(lambda: done.append("count"))
        before_launch(lambda: done.append("check"))
    launch = effects.around(lambda: done.append("launch"))
    assert done == ["at once"]
    launch()
    assert done[1:] == ["check", "launch", "count"]
    effects.before.append(refuse)
    with pytest.raises(ValueError):
        launch()
    assert done[4:] == ["check"]


def test_a_recording_ends_with_an_error_and_gives_back_the_one_around_it() -> None:
    done: list[int] = []
    with recording() as outer:
        with pytest.raises(KeyError), recording() as inner:
            after_launch(lambda: done.append(1))
            raise KeyError
        after_launch(lambda: done.append(2))
    assert (len(inner.after), len(outer.after), done) == (1, 1, [])


def test_other_threads_are_not_recorded() -> None:
    done: list[int] = []
    with recording() as effects:
        thread = threading.Thread(target=lambda: after_launch(lambda: done.append(1)))
        thread.start()
        thread.join()
    assert (done, effects.before, effects.after) == ([1], [], [])


def find(captures: Captures[str], kinds: list[Any], asynchronous: bool = False) -> list[bool]:
    """Which of the kinds, in their order, are there or are captured."""
    return [captures.find(kind, lambda: "captured", asynchronous) is not None for kind in kinds]


def test_those_used_last_are_kept_and_only_so_much_is_remembered() -> None:
    captures: Captures[str] = Captures()
    assert find(captures, [*"abcd"]) == [True] * 4
    assert find(captures, [*"ef"] * 3) == [False] * 6
    assert find(captures, [*"bcd"] * 20) == [True] * 60
    assert find(captures, [*"eabcd"]) == [True, False, True, True, True]
    assert find(captures, list(range(1000))) == [False] * 1000
    assert len(captures._seen) <= captures.MAX_REMEMBERED and len(captures._found) == captures.MAX_KINDS


def test_captures_that_are_never_used_again_are_not_made_for_ever() -> None:
    captures: Captures[str] = Captures()
    made = []
    for _ in range(10):
        made += find(captures, ["a"])
        captures.clear()
    assert made == [True] * 3 + [False] * 7
    assert find(captures, ["a", "a", "a"]) == [False, True, True]
    captures.clear()
    assert find(captures, ["a"]) == [True]


def test_a_choice_for_all_kernels_ends_what_was_captured() -> None:
    captures: Captures[int] = Captures()
    made: list[int] = []

    def capture() -> int:
        made.append(len(made))
        return made[-1]

    assert [captures.find("a", capture, False) for _ in range(2)] == [0, 0]
    invalidate()
    assert [captures.find("a", capture, False) for _ in range(2)] == [1, 1]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread is all there is")
def test_what_was_captured_for_one_thread_is_not_launched_where_there_are_several() -> None:
    captures: Captures[int] = Captures()
    before, found = numba.get_num_threads(), []
    try:
        for threads in (1, 2, 1, 2):
            numba.set_num_threads(threads)
            found.append(captures.find("a kind", lambda threads=threads: threads, False))  # type: ignore[misc]
    finally:
        numba.set_num_threads(before)
    assert found == [1, 2, 1, 2]
