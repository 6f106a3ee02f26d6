"""Divisions by a multiplication, for every kind of divisor and where a quotient changes."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn import backends

pytestmark = pytest.mark.skipif(backends.available()["cuda"] is not None, reason="neither a GPU nor the simulator")

if backends.available()["cuda"] is None:
    from numbacnn.backends import cuda
    from numbacnn.backends.cuda.runtime.kernel import mapping
    from numbacnn.backends.cuda.runtime.target import divided, divisor

    @mapping
    def quotients(i, a, by):  # type: ignore[no-untyped-def]
        return divided(a[i], by)


LARGEST = 2**31 - 1
DIVISORS = sorted(
    {b for power in range(32) for b in (2**power - 1, 2**power, 2**power + 1) if 1 <= b <= LARGEST}
    | {10, 49, 56, 112, 641, 3136, 6700417, 715827883}
)


def test_quotients() -> None:
    for b in DIVISORS:
        multiples = {0, b, 7 * b, 1000 * b, LARGEST // (2 * b) * b, LARGEST // b * b, LARGEST}
        near = sorted({m + more for m in multiples for more in (-1, 0, 1) if 0 <= m + more <= LARGEST})
        a = cuda.asarray(np.array(near, np.int64))
        found = cuda.empty(a.shape, np.int64)
        quotients(a.size, found, a, divisor(b))
        np.testing.assert_array_equal(np.asarray(found), np.array(near) // b)
