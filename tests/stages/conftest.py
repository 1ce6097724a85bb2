"""Conversions sync every file they write; their tests do so in memory where the system offers that, in a sixth of the time."""

import os
import tempfile
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(request, tmp_path):
    """pytest's own folder; for tests of conversions one on a file system in memory, where there is one."""
    if not (request.path.name.startswith("test_convert_") and MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="adapterfit-", dir=MEMORY) as folder:
        yield Path(folder)
