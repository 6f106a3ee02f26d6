"""How many processor cores this process may use, by its affinity and by the quota of its control groups.

Containers limit time, not the cores that are seen: threads beyond the quota only wait for the next period.
"""

from __future__ import annotations

import functools
import math
import os
import pathlib

__all__ = ["affinity", "quota", "usable"]

GROUPS = pathlib.Path("/sys/fs/cgroup")
MEMBERSHIPS = pathlib.Path("/proc/self/cgroup")


def usable() -> int:
    """Cores that the calling thread may use, 1 or more; the quota counts as it was when this process first asked."""
    cpus = affinity()
    return int(max(1, min(len(cpus) or os.cpu_count() or 1, _first_quota())))


def affinity() -> frozenset[int] | set[int]:
    """The CPUs on which the calling thread may run; none where the system does not tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else frozenset()


def quota(groups: pathlib.Path = GROUPS, memberships: pathlib.Path = MEMBERSHIPS) -> float:
    """Cores' worth of time that the control groups of this process grant, the least of all; infinite without a limit.

    Args:
        groups: where control groups are mounted, of version 2 or of version 1 with its ``cpu`` controller.
        memberships: the groups that this process is in, a line each: ``number:controllers:path``.
    """
    try:
        lines = memberships.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = [math.inf]
    for line in ["0::/", "0:cpu:/", *lines]:  # in a container its own group is the root
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "unknown", "")
        if not controllers:
            mounts, read = [groups], _limit
        elif "cpu" in controllers.split(","):
            mounts, read = [groups / controllers, groups / "cpu"], _limit_of_version_1
        else:
            continue
        for mount in mounts:
            group = mount / path.strip().lstrip("/")
            # A limit of a group is one of all groups in it.
            found += [read(above) for above in (group, *group.parents) if above == mount or mount in above.parents]
    return min(found)


@functools.cache
def _first_quota() -> float:
    return max(1.0, math.ceil(granted)) if math.isfinite(granted := quota()) else math.inf


def _limit(group: pathlib.Path) -> float:
    """Of ``cpu.max``: microseconds or ``max``, and the period."""
    words = _words(group / "cpu.max")
    return _ratio(*words) if len(words) == 2 else math.inf


def _limit_of_version_1(group: pathlib.Path) -> float:
    """Of ``cpu.cfs_quota_us``, -1 for none, and ``cpu.cfs_period_us``."""
    words = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
    return _ratio(*words) if len(words) == 2 else math.inf


def _ratio(time: str, period: str) -> float:
    try:
        granted, of = int(time), int(period)
    except ValueError:
        return math.inf
    return granted / of if granted > 0 and of > 0 else math.inf


def _words(path: pathlib.Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []
