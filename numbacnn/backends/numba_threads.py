"""How many threads Numba was told to use, without starting its own."""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["numba_threads"]


def numba_threads() -> int:
    """What ``numba.get_num_threads`` says, which starts them first.

    Before that, which takes a lock that a fork may leave locked, there is one answer: NUMBA_NUM_THREADS.
    """
    config, parallel = _numba()
    return int(parallel._get_num_threads() if parallel._is_initialized else config.NUMBA_NUM_THREADS)


@functools.cache
def _numba() -> tuple[Any, Any]:
    # Here, so that ``import numbacnn`` is quick.
    from numba.core import config
    from numba.np.ufunc import parallel

    return config, parallel
