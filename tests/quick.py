"""For tests of what is the same on every backend: they run on the one that has nothing to compile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from numbacnn import backends


@pytest.fixture(autouse=True)
def reference_by_default(request: pytest.FixtureRequest) -> Iterator[None]:
    """The reference backend is the default one, but for tests that ask for ``backend`` and so run on each."""
    if "backend" in request.fixturenames:
        yield
    else:
        with backends.use_backend("reference"):
            yield
