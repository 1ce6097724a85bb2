"""Documents say only what is there."""

import re

import pytest
from source import ROOT

from adapterfit import discover

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")]
COMMANDS = set(discover.names("adapterfit.cli")) - {"main"}

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


@every_document
def test_only_commands_that_exist_are_mentioned(path):
    mentioned = set(re.findall(r"(?:^|`|\$ )adapterfit ([a-z]+)", path.read_text("utf-8"), re.MULTILINE))
    assert mentioned <= COMMANDS


@every_document
def test_only_make_targets_that_exist_are_mentioned(path):
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`|\$ )make ([a-z0-9]+)", path.read_text("utf-8"), re.MULTILINE)) <= targets


@every_document
def test_only_files_that_exist_are_linked(path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_readme_mentions_every_command(command):
    assert f"adapterfit {command}" in (ROOT / "README.md").read_text("utf-8")
