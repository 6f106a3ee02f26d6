"""What several tests compare their runs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.killing import OPTIONS
from tests.distributed.launching import lines_of
from tests.distributed.test_command import TRAIN


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lines_of(2, *TRAIN, *OPTIONS, f"--output-dir={folder}")
    return folder
