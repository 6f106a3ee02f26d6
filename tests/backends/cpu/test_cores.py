"""Cores that this process may use: affinity, and quotas of control groups of both versions."""

from __future__ import annotations

import math
import os

import pytest

from numbacnn.backends.cpu.runtime import cores


def laid(tmp_path, memberships, files):
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "memberships").write_text(memberships)
    return cores.quota(tmp_path / "groups", tmp_path / "memberships")


@pytest.mark.parametrize(
    ("memberships", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "200000 100000\n"}, 0.5),
        ("0::/not/seen/from/inside\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/a\n", {"b/cpu.max": "100000 100000\n"}, math.inf),
        (
            "4:cpu,cpuacct:/a\n1:memory:/b\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ("no such line", {"cpu.max": "what is this\n"}, math.inf),
        ("0::/\n", {"cpu.max": "100000 0\n"}, math.inf),
    ],
)
def test_the_least_quota_of_all_groups_counts(tmp_path, memberships, files, expected):
    assert laid(tmp_path, memberships, files) == expected


def test_no_control_groups_are_no_limit(tmp_path):
    assert cores.quota(tmp_path / "a", tmp_path / "b") == math.inf


@pytest.mark.parametrize(("granted", "expected"), [(0.25, 1), (1.5, 2), (math.inf, 8), (100, 8)])
def test_part_of_a_core_is_one_core(monkeypatch, granted, expected):
    monkeypatch.setattr(cores, "quota", lambda: granted)
    monkeypatch.setattr(cores, "affinity", lambda: set(range(8)))
    cores._first_quota.cache_clear()
    try:
        assert cores.usable() == expected
    finally:
        cores._first_quota.cache_clear()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no sets of CPUs here")
def test_affinity_bounds_the_number_of_cores():
    allowed = os.sched_getaffinity(0)
    assert cores.usable() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores.usable() == 1
    finally:
        os.sched_setaffinity(0, allowed)
