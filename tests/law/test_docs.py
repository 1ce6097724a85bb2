"""Documents say only what is there."""

import html
import json
import re
import subprocess
import sys

import pytest
from readme import transcripts
from source import ROOT

from adapterfit import discover
from adapterfit.cli._page import pages, rules

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


@pytest.fixture(scope="module")
def search_index(tmp_path_factory):
    """What the site's search looks through: page → its text; and the pattern that its words are split at."""
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install adapterfit[docs]")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    index = json.loads((out / "search" / "search_index.json").read_text("utf-8"))
    texts = {}
    for part in index["docs"]:
        page = part["location"].partition("#")[0]
        texts[page] = f"{texts.get(page, '')} {html.unescape(re.sub(r'<[^>]+>', ' ', part['text']))}"
    return texts, index["config"]["separator"]


@pytest.mark.slow
def test_the_sites_search_knows_every_line_that_users_see(search_index):
    texts, separator = search_index
    missing = [
        (page.id, word)
        for page in pages().values()
        for message in page.cause.messages
        for word in set(re.split(separator, message)) - set(re.split(separator, texts[f"causes/{page.id}/"]))
    ]
    assert missing == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "page"),
    [("modules_to_save", "vocabulary-grown"), ("peft_type", "config-not-peft"), ("_orig_mod", "wrapper-prefix")],
)
def test_the_sites_search_finds_a_name_inside_a_dotted_or_quoted_one(search_index, asked, page):
    texts, separator = search_index
    assert asked in re.split(separator, texts[f"causes/{page}/"])


def test_every_cause_and_rule_has_a_page_of_its_own():
    for folder, found in (("causes", pages()), ("rules", rules())):
        assert {path.stem for path in (ROOT / "docs" / folder).glob("*.md")} - {"README", "prelude"} == set(found)
