"""Files are the same whatever the backend, so these tests run on one; those that ask for ``backend`` run on each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from numbacnn import backends


@pytest.fixture(autouse=True)
def _reference_by_default(request: pytest.FixtureRequest) -> Iterator[None]:
    if "backend" in request.fixturenames:
        yield
    else:
        with backends.use_backend("reference"):
            yield
