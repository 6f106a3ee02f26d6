"""Two machines on one: network namespaces that share nothing but a wire, which may have a delay and a rate.

They are those of processes that end with this one, so that nothing is left of them, whatever happens to it.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from numbacnn.distributed.leftovers import leashed

__all__ = ["ADDRESSES", "DEVICE", "TCP", "Machine", "here", "mpiexec", "two_machines", "why_not"]

ROOT = Path(__file__).parent.parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"
"""That of the package ``mpich``."""
ADDRESSES = ("10.77.0.1", "10.77.0.2")
DEVICE = "wire"
NEEDED = ("ip", "tc", "unshare", "nsenter", "mount")
TCP = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": DEVICE, "FI_PROVIDER": "tcp", "FI_TCP_IFACE": DEVICE}
"""MPICH would find the memory that these machines share, and try their loopback devices."""
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000
TUNSETOFFLOAD, TUN_F_CSUM, TUN_F_TSO4 = 0x400454D0, 0x01, 0x02
LONGEST_FRAME = 1 << 17
BURST = 1 << 17
"""Bytes that a wire with a rate takes at once: more than the longest packet, that is cut by devices of machines."""
QUEUED = 1 << 22
"""Bytes that may wait for such a wire."""


class Machine(NamedTuple):
    """A network namespace, and one of mounts."""

    pid: int
    """Of a process in them."""

    def command(self, *words: str) -> list[str]:
        """To run a command there."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", f"--wd={ROOT}", *words]

    def link(self) -> dict[str, Any]:
        """What is known of its end of the wire."""
        (link,) = json.loads(_run(self.command("ip", "-stats", "-json", "link", "show", DEVICE)))
        return dict(link)

    def sent(self) -> int:
        """How many bytes have gone into the wire."""
        return int(self.link()["stats64"]["tx"]["bytes"])

    def received(self) -> int:
        """How many bytes have come out of it."""
        return int(self.link()["stats64"]["rx"]["bytes"])


class Relay(threading.Thread):
    """A wire of two devices, whose frames come out at the other end after a delay, for kernels without netem."""

    def __init__(self, ends: tuple[int, int], delay: float) -> None:
        super().__init__(daemon=True)
        self._ends = ends
        self._delay = delay
        self._told, self._tell = os.pipe()

    def run(self) -> None:
        """Until it is closed."""
        others = dict(zip(self._ends, reversed(self._ends), strict=True))
        frames: deque[tuple[float, int, bytes]] = deque()
        while True:
            wait = max(0.0, frames[0][0] - time.monotonic()) if frames else None
            ready, _, _ = select.select([*self._ends, self._told], [], [], wait)
            if self._told in ready:
                return
            due = time.monotonic() + self._delay
            frames.extend((due, others[end], os.read(end, LONGEST_FRAME)) for end in ready)
            while frames and frames[0][0] <= time.monotonic():
                _, end, frame = frames.popleft()
                # A device that is down, as at the beginning and the end, takes no frames, and the wire loses them.
                with suppress(OSError):
                    os.write(end, frame)

    def close(self) -> None:
        """End the thread and the devices."""
        os.close(self._tell)
        self.join()
        for descriptor in (self._told, *self._ends):
            os.close(descriptor)


def why_not() -> str | None:
    """What is missing for machines of this kind, if anything is."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "only root on Linux can make network namespaces"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"needs the program {missing[0]}"
    script = "mount -t sysfs sysfs /sys && ip link add type veth"
    made = subprocess.run(["unshare", "--net", "--mount", "sh", "-c", script], capture_output=True, text=True)
    return f"no network namespaces with veth here: {made.stderr.strip()}" if made.returncode else None


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@contextmanager
def _machine() -> Iterator[Machine]:
    # MPI looks for devices in /sys, which shows those of the namespace that it was mounted in.
    script = "mount -t sysfs sysfs /sys && echo && exec sleep infinity"
    command = [str(shutil.which("unshare")), "--net", "--mount", "sh", "-c", script]
    with subprocess.Popen(leashed(command), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            yield Machine(process.pid)
        finally:
            process.kill()


def _tap(machine: Machine) -> int:
    """A device whose frames this process carries."""
    import fcntl

    name = f"tap{secrets.token_hex(4)}"
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    # Packets of up to 64 KiB come as they are, so that few of them have to be carried.
    fcntl.ioctl(descriptor, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
    _run(["ip", "link", "set", name, "netns", str(machine.pid), "name", DEVICE])
    return descriptor


def _join(first: Machine, second: Machine, delay: float, rate: float | None, resources: ExitStack) -> None:
    """Put the wire between them."""
    pair: Any = [first.command("ip", "link", "add", DEVICE, "type", "veth"), ["peer", DEVICE, "netns", str(second.pid)]]
    _run([*pair[0], *pair[1]])
    root = ["root"]
    if delay:
        netem = ["tc", "qdisc", "add", "dev", DEVICE, "root", "handle", "1:", "netem", "delay", f"{1000 * delay:g}ms"]
        machines = (first, second)
        if all(subprocess.run(each.command(*netem), capture_output=True).returncode == 0 for each in machines):
            root = ["parent", "1:1"]
        else:
            _run(first.command("ip", "link", "del", DEVICE))
            relay = resources.enter_context(closing(Relay((_tap(first), _tap(second)), delay)))
            relay.start()
    if rate is not None:
        limits = ["rate", f"{rate:.0f}bit", "burst", f"{BURST}", "limit", f"{QUEUED}"]
        for each in (first, second):
            _run(each.command("tc", "qdisc", "add", "dev", DEVICE, *root, "tbf", *limits))


@contextmanager
def two_machines(delay: float = 0.0, rate: float | None = None) -> Iterator[tuple[Machine, Machine]]:
    """Machines with `ADDRESSES`, whose frames take ``delay`` seconds from one to the other.

    With a ``rate`` no more than so many bits a second come out of a machine.
    """
    with ExitStack() as resources:
        first, second = (resources.enter_context(_machine()) for _ in ADDRESSES)
        _join(first, second, delay, rate, resources)
        for machine, address in zip((first, second), ADDRESSES, strict=True):
            _run(machine.command("ip", "addr", "add", f"{address}/24", "dev", DEVICE))
            for device in ("lo", DEVICE):
                _run(machine.command("ip", "link", "set", device, "up"))
        # MPI does not take a device of which the kernel has not noticed yet that it works.
        while not all(machine.link()["operstate"] in ("UP", "UNKNOWN") for machine in (first, second)):
            time.sleep(0.01)
        yield first, second


def here(ranks: int) -> list[str]:
    """What starts so many processes on this machine."""
    return [str(MPIEXEC), "-n", f"{ranks}"]


def mpiexec(folder: Path, second: Machine) -> list[str]:
    """On the first machine, to start processes on both in turn; ``folder`` is for what it needs."""
    hosts = ["-hosts", ",".join(ADDRESSES), "-iface", DEVICE, "-ppn", "1"]
    return [str(MPIEXEC), "-launcher", "ssh", "-launcher-exec", str(_launcher(folder, second)), *hosts]


def _launcher(folder: Path, second: Machine) -> Path:
    """What MPICH calls in place of ssh, with options, a host and a command: it runs it on the second machine."""
    path = folder / "enter"
    enter = " ".join(second.command('sh -c "$*"'))
    path.write_text(f'#!/bin/sh\nwhile [ "${{1#-}}" != "$1" ]; do shift; done\nshift\nexec {enter}\n')
    path.chmod(0o755)
    return path
