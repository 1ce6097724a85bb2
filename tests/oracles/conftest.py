"""`--record FILE` writes down which claims the tests bear out: a test names them with `bears`, its outcome is theirs."""

import datetime as dt
import importlib.metadata
from pathlib import Path

import pytest
from tools import record_runs

from adapterfit.consumers import facts, runs

_SEEN = "bears out"
# What earlier runs said is not looked at: a refuted claim, which weighs nothing, could never be confirmed again.
runs.read = lambda *_: {}


def pytest_addoption(parser):
    parser.addoption("--record", metavar="FILE", help="write what came of every claim that was run")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Record(config.getoption("--record", None)))


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in item.iter_markers("bears"):
            item.user_properties.append((_SEEN, list(mark.args)))


class _Record:
    """Adds up the outcomes of all tests of a claim; tests that were skipped say nothing."""

    def __init__(self, file):
        self.file, self.found = file, {}

    def pytest_runtest_logreport(self, report):
        if report.skipped or (report.passed and report.when != "call"):
            return
        for consumer, version, *claims in (value for name, value in report.user_properties if name == _SEEN):
            for claim in claims:
                self.found.setdefault((consumer, version, claim), []).append(report.passed)

    def pytest_sessionfinish(self):
        if self.file and self.found:
            written(Path(self.file), self.found)


def written(file, found):
    """Write the outcomes; of every version that was run at all, what an earlier run said is forgotten."""
    again = {key[:2] for key in found}
    made = [line(*key, outcomes) for key, outcomes in found.items()]
    record_runs.write(file, made, lambda row: (row["consumer"], row["version"]) in again)


def line(consumer, version, claim, outcomes):
    """One line of the file. A claim that does not exist is the test's mistake."""
    said = facts.load(consumer).claim(claim, version)
    if said is None:
        raise pytest.UsageError(f"{consumer} {version} has no claim {claim}")
    beside = {name: importlib.metadata.version(name) for name in ("peft", "transformers")}
    return record_runs.line(consumer, version, said, outcomes, beside, dt.datetime.now(dt.timezone.utc).date())
