"""Host effects: done at once, or left to whoever replays what was recorded."""

from __future__ import annotations

import threading

import pytest

from numbacnn.backends.replay import beforehand, each_time, recording


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
        for effect in effects.after:
            effect()
    assert done == [1, 2, 1, 2]
    each_time(lambda: done.append(3))
    assert (done[4:], len(effects.after)) == ([3], 2)


def test_checks_come_before_a_launch_and_counts_after_it() -> None:
    done: list[str] = []

    def refuse() -> None:
        raise ValueError

    beforehand(lambda: done.append("at once"))
    with recording() as effects:
        each_time(lambda: done.append("count"))
        beforehand(lambda: done.append("check"))
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
            each_time(lambda: done.append(1))
            raise KeyError
        each_time(lambda: done.append(2))
    assert (len(inner.after), len(outer.after), done) == (1, 1, [])


def test_other_threads_are_not_recorded() -> None:
    done: list[int] = []
    with recording() as effects:
        thread = threading.Thread(target=lambda: each_time(lambda: done.append(1)))
        thread.start()
        thread.join()
    assert (done, effects.before, effects.after) == ([1], [], [])
