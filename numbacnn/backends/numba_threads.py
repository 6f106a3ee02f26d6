"""How many threads Numba was told to use, without starting its own."""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["numba_threads", "set_numba_threads"]


def numba_threads() -> int:
    """What ``numba.get_num_threads`` says, which starts them first.

    Before that, which takes a lock that a fork may leave locked, there is one answer: NUMBA_NUM_THREADS.
    """
    config, parallel = _numba()
    return int(parallel._get_num_threads() if parallel._is_initialized else config.NUMBA_NUM_THREADS)


def set_numba_threads(number: int) -> None:
    """Let kernels that this thread asks for run on as many, as another thread was told: each has a number of its own.

    A thread begins with NUMBA_NUM_THREADS, and Numba's are not started where that is it.
    """
    if numba_threads() != number:
        from numba import set_num_threads

        set_num_threads(number)


@functools.cache
def _numba() -> tuple[Any, Any]:
    # Here, so that ``import numbacnn`` is quick.
    from numba.core import config
    from numba.np.ufunc import parallel

    return config, parallel
