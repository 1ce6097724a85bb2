"""Documents say only what is there."""

import re
import subprocess
import sys

import pytest
from readme import transcripts
from source import ROOT

from adapterfit import discover

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")]
COMMANDS = set(discover.names("adapterfit.cli")) - {"main"}

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def words_after(program, path):
    """The word after a program's name, wherever code is shown: in backticks, or at the start of a line of a code block."""
    text = path.read_text("utf-8")
    blocks = "".join(re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(rf"^(?:\$ )?{program} ([a-z0-9-]+)", blocks, re.MULTILINE)
    return {*lines, *re.findall(rf"`{program} ([a-z0-9-]+)", text)}


@every_document
def test_only_commands_that_exist_are_mentioned(path):
    assert words_after("adapterfit", path) <= COMMANDS


@every_document
def test_only_make_targets_that_exist_are_mentioned(path):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert words_after("make", path) <= targets


@every_document
def test_only_files_that_exist_are_linked(path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_readme_mentions_every_command(command):
    assert f"adapterfit {command}" in (ROOT / "README.md").read_text("utf-8")


SHOWN = list(transcripts((ROOT / "README.md").read_text("utf-8")))


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_the_readme_shows_what_is_really_printed(adapterfit, tmp_path, command, output):
    adapterfit("demo", "--keep", "play")
    assert adapterfit(*command.split()[1:], cwd=tmp_path / "play").stdout == output


def test_the_readme_shows_a_check():
    assert [command for command, _ in SHOWN if command.startswith("adapterfit check")]


def test_committed_pages_of_causes_are_up_to_date():
    if not (ROOT / "docs" / "causes").is_dir():
        pytest.skip("docs/causes is not there: `make docs` makes it")
    command = [sys.executable, str(ROOT / "tools" / "gen_docs.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout
