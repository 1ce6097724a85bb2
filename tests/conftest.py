"""What all tests share: where the shared data lies, and a fresh process to run a command in."""

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Read by huggingface_hub when it is first imported, whoever imports it: a page that names a model of the Hub would else wait
# for the network to give up, five times over.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared():
    """The shared data beside the checkout; the test is skipped, saying so, where there is none."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no shared data at {SHARED}")
    return SHARED


@pytest.fixture
def adapterfit(tmp_path):
    """Run `adapterfit …` in a process of its own, in an empty folder; returns the CompletedProcess with bytes decoded."""

    def run(*arguments, cwd=tmp_path, stdin=None, **environment):
        plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "TERM")}
        return subprocess.run(
            [sys.executable, "-m", "adapterfit", *map(str, arguments)],
            cwd=cwd,
            env={**plain, "HF_HUB_OFFLINE": "1", **environment},
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


#: Folders and files whose tests take long together, most of them a process each: they run in the slow tier.
SLOW = {"crash", "hostile", "property", "test_read_hub.py", "test_command.py", "test_commands.py"}
#: What `make fast` asks for, and the line by which a whole file says that it is not that.
FAST, OTHERS = "not exact and not slow", re.compile(r"^pytestmark = .*\bmark\.(exact|slow)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path, config):
    """In the fast tier, files of which no test runs are not imported: most import torch, peft and transformers."""
    if config.option.markexpr != FAST or not collection_path.match("test_*.py"):
        return None
    slow = SLOW & {collection_path.parent.name, collection_path.name}
    return bool(slow or OTHERS.search(collection_path.read_text("utf-8"))) or None


def pytest_collection_finish():
    """What was imported and collected stays: the garbage collector took a third of the slow tier to walk it again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Mark the tests of the slow folders, and those that ask other programs, which run in `make oracles` alone."""
    for item in items:
        if item.path.parent.name == "oracles":
            item.add_marker(pytest.mark.oracle)
        if SLOW & {item.path.parent.name, item.path.name}:
            item.add_marker(pytest.mark.slow)
