"""The guide and the pre-commit hooks say what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("libcst", reason="libcst is not installed: pip install adapterfit[lint]")

from adapterfit.lint.rule import all_rules

ROOT = Path(__file__).resolve().parents[2]


def test_the_guide_lists_every_rule_with_its_title_and_its_fix():
    guide = (ROOT / "docs" / "lint.md").read_text("utf-8")
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \| (.*) \|$", guide, re.MULTILINE)
    assert listed == [
        (entry.id, entry.page.strip().splitlines()[0], " or ".join(entry.fixes) or "none")
        for entry in all_rules().values()
    ]


def test_the_hooks_run_commands_that_there_are(adapterfit):
    hooks = (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8")
    entries = re.findall(r"^  entry: adapterfit (.*)$", hooks, re.MULTILINE)
    assert entries == ["lint", "lint --fix"]
    for entry in entries:
        (command, *options) = entry.split()
        assert all(option in adapterfit(command, "--help").stdout for option in options)
