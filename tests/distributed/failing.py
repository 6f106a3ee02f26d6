"""One of several processes ends in its way: ``python -m tests.distributed.failing WAY``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from numbacnn import distributed


def end(way: str) -> None:
    """As a failing program does; when it was is printed."""
    print(time.time(), flush=True)
    if way == "error":
        raise ValueError("this is why")
    if way == "error in a thread":
        thread = threading.Thread(target=end, args=["error"])
        thread.start()
        thread.join()
        time.sleep(60)
    elif way == "exit":
        print("this is why", file=sys.stderr)
        sys.exit(3)
    elif way == "exit well":
        sys.exit(0)
    elif way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        assert way == "end together"


def main() -> None:
    """Wait for a process that fails, or in "end together" for none."""
    group, way = distributed.init(), sys.argv[1]
    group.barrier()
    if way == "error of all":
        group.share(lambda: end("error"))
    if group.rank == 1:
        end(way)
    elif way != "end together":
        group.gather_metrics("what never comes")
        time.sleep(60)
    sys.exit(2)


if __name__ == "__main__":
    main()
