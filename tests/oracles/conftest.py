"""`--record FILE` writes down which claims the tests bear out: a test names them with `bears`, its outcome is theirs."""

import datetime as dt
import importlib.metadata
import json
from pathlib import Path

import pytest

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
    kept = [row for row in runs.rows(file) if (row["consumer"], row["version"]) not in again]
    made = [row(*key, outcomes) for key, outcomes in found.items()]
    lines = sorted(json.dumps(each) for each in (*kept, *made))
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def row(consumer, version, claim, outcomes):
    """One line of the file. A claim that does not exist is the test's mistake."""
    said = facts.load(consumer).claim(claim, version)
    if said is None:
        raise pytest.UsageError(f"{consumer} {version} has no claim {claim}")
    return {
        "consumer": consumer,
        "version": version,
        "claim": claim,
        "value": runs.digest(said.value),
        "outcome": runs.CONFIRMED if all(outcomes) else runs.REFUTED,
        "tests": len(outcomes),
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "with": {name: importlib.metadata.version(name) for name in ("peft", "transformers")},
    }
