"""The measure of code, the limits, and the oldest Python."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from source import FILES, ROOT, SRC

FUNCTION_LINES = 80
FILE_LINES = 600


def test_a_file_is_not_longer_than_one_can_read():
    assert [file.name for file in FILES if len(file.text.splitlines()) > FILE_LINES] == []


def test_no_function_is_longer_than_a_screen_or_two():
    functions = [
        (f"{file.name}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1)
        for file in FILES
        for node in ast.walk(file.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert [where for where, lines in functions if lines > FUNCTION_LINES] == []


def test_every_file_says_what_it_is():
    assert [file.name for file in FILES if not ast.get_docstring(file.tree)] == []


def test_no_room_for_odds_and_ends():
    assert [file.name for file in FILES if file.path.stem in {"utils", "util", "helpers", "misc"}] == []


def constants():
    limits = next(file for file in FILES if file.name == "limits.py")
    return [node.targets[0].id for node in limits.tree.body if isinstance(node, ast.Assign)]


def test_every_limit_is_used():
    words = set().union(*(re.findall(r"\w+", file.text) for file in FILES if file.name != "limits.py"))
    assert set(constants()) - words == set()


def test_every_limit_has_its_reason():
    lines = (SRC / "limits.py").read_text("utf-8").splitlines()
    bare = [
        line
        for before, line in zip(lines, lines[1:])
        if re.match(r"[A-Z_]+ = ", line) and not before.startswith("#") and not re.match(r"[A-Z_]+ = ", before)
    ]
    assert bare == []


@pytest.mark.slow
def test_the_source_runs_on_python_3_9():
    command = [str(Path(sys.executable).with_name("vermin")), "--no-tips", "-t=3.9-", "-vv", str(SRC)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    newer = [line for line in result.stdout.splitlines() if re.match(r"\s*(!2, )?3\.1\d", line)]
    assert result.returncode == 0, newer


def tracked():
    result = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in result.stdout.splitlines()]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


#: Paths of some machine. `/tmp`, `/dev/null` and the like are everybody's.
MACHINE_PATH = re.compile(rb"(?<![\w.:/~-])/(?:work|root|home|Users|opt|mnt)/[\w.-]+")


def test_no_file_names_a_path_of_somebodys_machine():
    """Error lines that users really saw keep `/home/…` and the like, so causes and hostile input are left out."""
    left_out = ("tests/hostile", "tests/law", "tests/causes", "src/adapterfit/causes")
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in tracked()
        if not path.relative_to(ROOT).as_posix().startswith(left_out)
        for match in MACHINE_PATH.finditer(path.read_bytes())
    ]
    assert found == []
