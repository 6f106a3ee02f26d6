"""Host effects: done at once, or left to whoever replays what was recorded."""

from __future__ import annotations

import threading

import pytest

from numbacnn.backends.replay import each_time, recording


def test_an_effect_is_done_at_once_where_nothing_is_recorded() -> None:
    done: list[int] = []
    each_time(lambda: done.append(1))
    assert done == [1]


def test_a_recording_keeps_effects_in_order_and_does_none() -> None:
    done: list[int] = []
    with recording() as effects:
        each_time(lambda: done.append(1))
        each_time(lambda: done.append(2))
    assert done == []
    for _ in range(2):
        for effect in effects:
            effect()
    assert done == [1, 2, 1, 2]
    each_time(lambda: done.append(3))
    assert (done[4:], len(effects)) == ([3], 2)


def test_a_recording_ends_with_an_error_and_gives_back_the_one_around_it() -> None:
    done: list[int] = []
    with recording() as outer:
        with pytest.raises(KeyError), recording() as inner:
            each_time(lambda: done.append(1))
            raise KeyError
        each_time(lambda: done.append(2))
    assert (len(inner), len(outer), done) == (1, 1, [])


def test_other_threads_are_not_recorded() -> None:
    done: list[int] = []
    with recording() as effects:
        thread = threading.Thread(target=lambda: each_time(lambda: done.append(1)))
        thread.start()
        thread.join()
    assert (done, effects) == ([1], [])
