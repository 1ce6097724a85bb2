"""`adapterfit lint` in a process of its own: output, exit codes, what is written and what is not."""

from __future__ import annotations

import json
import os
import re
import stat
import sys

import pytest

pytest.importorskip("libcst", reason="libcst is not installed: pip install adapterfit[lint]")

import sarif_shape

IMPORTS = "import torch\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n"
SAFE = IMPORTS + 'state = torch.load("adapter_model.bin")\n'
UNSAFE = (
    IMPORTS
    + 'm = AutoModelForCausalLM.from_pretrained("b")\nm.load_state_dict(torch.load("a/adapter_model.bin", weights_only=True))\n'
)
CLEAN = IMPORTS + 'm = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("b"), "a")\n'


@pytest.fixture
def lint(adapterfit, tmp_path):
    def run(*arguments, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return adapterfit("lint", *arguments)

    return run


def test_a_finding_is_one_line_with_its_place(lint):
    result = lint("a.py", a=SAFE)
    first, *_, last = result.stdout.splitlines()
    assert re.match(r"a\.py:4:9: adapter-unpickled a \.bin is a pickle .* \[\*\]$", first)
    assert "1 can be mended with --fix" in last
    assert (result.returncode, result.stderr) == (1, "")


def test_nothing_found_is_exit_code_0(lint):
    result = lint(".", a=CLEAN)
    assert (result.returncode, result.stdout) == (0, "Nothing found.\n")


def test_a_folder_is_gone_through_and_other_peoples_code_is_not(lint, tmp_path):
    for folder in ("src/deep", ".venv", ".git", "node_modules", "mine"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.py").write_text(SAFE)
    (tmp_path / "mine" / "pyvenv.cfg").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "src")
    assert re.findall(r"^(\S+):4:9", lint(".").stdout, re.MULTILINE) == ["src/deep/x.py"]


def test_fix_writes_what_is_safe_and_says_what_is_left(lint, tmp_path):
    result = lint("a.py", "b.py", "--fix", a=SAFE, b=UNSAFE)
    assert (tmp_path / "a.py").read_text() == SAFE.replace('.bin")', '.bin", weights_only=True)')
    assert (tmp_path / "b.py").read_text() == UNSAFE
    assert result.stdout.startswith("b.py:5:1: adapter-into-bare-base ")
    assert "1 fixed." in result.stdout
    assert result.returncode == 1


def test_unsafe_fixes_are_written_on_request(lint, tmp_path):
    result = lint("b.py", "--fix", "--unsafe-fixes", b=UNSAFE)
    assert 'm = PeftModel.from_pretrained(m, "a")' in (tmp_path / "b.py").read_text()
    assert (result.returncode, result.stdout) == (0, "1 fixed.\nNothing found.\n")


def test_fixing_twice_changes_nothing_more(lint, tmp_path):
    lint(".", "--fix", "--unsafe-fixes", a=SAFE, b=UNSAFE)
    once = {path.name: path.read_bytes() for path in tmp_path.glob("*.py")}
    assert lint(".", "--fix", "--unsafe-fixes").stdout == "Nothing found.\n"
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.py")} == once


def test_diff_shows_and_writes_nothing(lint, tmp_path):
    result = lint("a.py", "--diff", a=SAFE)
    assert result.stdout.splitlines()[:2] == ["--- a.py", "+++ a.py"]
    assert '+state = torch.load("adapter_model.bin", weights_only=True)' in result.stdout
    assert result.returncode == 1
    assert (tmp_path / "a.py").read_text() == SAFE
    assert lint("a.py", "--diff", "--fix").returncode == 1
    assert (tmp_path / "a.py").read_text() == SAFE


def test_a_diff_can_be_applied(lint, tmp_path):
    import subprocess

    diff = lint("a.py", "--diff", a=SAFE.rstrip("\n")).stdout
    if not any(os.access(f"{folder}/patch", os.X_OK) for folder in os.environ["PATH"].split(":")):
        pytest.skip("patch is not installed")
    subprocess.run(["patch", "-p0"], input=diff, text=True, cwd=tmp_path, check=True, capture_output=True, timeout=30)
    assert (tmp_path / "a.py").read_text().endswith('torch.load("adapter_model.bin", weights_only=True)')


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_mended_file_keeps_its_permissions_and_leaves_nothing_beside_it(lint, tmp_path):
    (tmp_path / "a.py").write_text(SAFE)
    (tmp_path / "a.py").chmod(0o750)
    (tmp_path / "link.py").symlink_to("a.py")
    lint("link.py", "--fix")
    assert stat.S_IMODE((tmp_path / "a.py").stat().st_mode) == 0o750
    assert (tmp_path / "link.py").is_symlink()
    assert "weights_only" in (tmp_path / "a.py").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.py", "link.py"]


def test_a_byte_order_mark_and_windows_line_ends_stay(lint, tmp_path):
    data = b"\xef\xbb\xbf" + SAFE.replace("\n", "\r\n").encode()
    (tmp_path / "a.py").write_bytes(data)
    lint("a.py", "--fix")
    assert (tmp_path / "a.py").read_bytes() == data.replace(b'.bin")', b'.bin", weights_only=True)')


def test_select_and_ignore(lint):
    assert "adapter-unpickled" not in lint(".", "--ignore", "adapter-unpickled", a=SAFE, b=UNSAFE).stdout
    assert "adapter-into-bare-base" not in lint(".", "--select", "adapter-unpickled").stdout


USAGE = {
    "no path": (),
    "an unknown rule": (".", "--select", "nothing"),
    "unsafe fixes without fix": (".", "--unsafe-fixes"),
    "a page that is not there": ("--explain", "wrapped-trice"),
    "a path that is not there": ("nowhere",),
    "a file of another kind": ("notes.txt",),
    "a path with a zero": ("a\ufffdb.py",),
}


@pytest.mark.parametrize("arguments", USAGE.values(), ids=list(USAGE))
def test_what_cannot_be_done_is_exit_code_2_and_no_traceback(lint, tmp_path, arguments):
    (tmp_path / "notes.txt").write_text("peft")
    result = lint(*arguments)
    assert result.returncode == 2
    assert result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_without_libcst_it_says_what_to_install(adapterfit, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'libcst': raise ModuleNotFoundError(name)\n"
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'libcst' else find(name, package)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    result = adapterfit("lint", ".", PYTHONPATH=str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.endswith("pip install adapterfit[lint]\n")
    assert len(result.stderr.splitlines()) == 1


def test_pages(lint):
    from adapterfit.lint.rule import all_rules

    listed = lint("--list").stdout
    assert all(rule in listed for rule in all_rules())
    page = lint("--explain", "merge-result-dropped").stdout
    assert "Why it happens" in page
    assert "model = model.merge_and_unload()" in page


def test_json(lint):
    document = json.loads(lint(".", "--format", "json", a=SAFE, b="x = (").stdout)
    (finding,) = document["findings"]
    assert document["schema"] == "adapterfit/lint/v1"
    assert (finding["id"], finding["path"], finding["line"], finding["column"]) == ("adapter-unpickled", "a.py", 4, 9)
    assert finding["fix"] == {"safety": "safe", "summary": "weights_only=True"}
    assert document["not_checked"] == []


def test_sarif(lint):
    document = json.loads(lint(".", "--format", "sarif", a=SAFE).stdout)
    assert sarif_shape.faults(document) == []
    run = document["runs"][0]
    (result,) = run["results"]
    assert document["version"] == "2.1.0"
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "adapter-unpickled"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a.py"
    assert place["region"] == {"startLine": 4, "startColumn": 9, "endLine": 4, "endColumn": 40}


def test_sarif_of_a_notebook_a_file_that_cannot_be_read_and_a_name_of_other_letters(lint, tmp_path):
    lines = SAFE.splitlines(keepends=True)
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": lines}
    tmp_path.joinpath("a book ü.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))
    document = json.loads(lint(".", "--format", "sarif", broken="import peft  # adapter\ndef (").stdout)
    assert sarif_shape.faults(document) == []
    run = document["runs"][0]
    assert [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in run["results"]] == [
        "a%20book%20%C3%BC.ipynb"
    ]
    assert run["invocations"][0]["executionSuccessful"] is False


def test_what_is_no_sarif_is_found_out(lint):
    text = lint(".", "--format", "sarif", a=SAFE).stdout
    wrong = {
        "$.runs[0]: lacks tool": lambda run: run.pop("tool"),
        "$.runs[0].results[0]: lacks message": lambda run: run["results"][0].pop("message"),
        "$.runs[0].results[0]: lines is no key of result": lambda run: run["results"][0].update(lines=3),
        "$.runs[0].results[0].level: 'bad' is no level": lambda run: run["results"][0].update(level="bad"),
    }
    for fault, change in wrong.items():
        document = json.loads(text)
        change(document["runs"][0])
        assert sarif_shape.faults(document) == [fault]


def test_github(lint):
    result = lint(".", "--format", "github", a=UNSAFE)
    (line,) = result.stdout.splitlines()
    assert line.startswith("::error file=a.py,line=5,col=1,endLine=5,endColumn=")
    assert ",title=adapterfit lint adapter-into-bare-base::" in line


def test_output_goes_to_a_file_and_never_over_a_script(lint, tmp_path):
    lint("a.py", "--format", "json", "--output", "report.json", a=SAFE)
    assert json.loads((tmp_path / "report.json").read_text())["findings"]
    assert lint("a.py", "--output", "a.py").returncode == 2
    assert (tmp_path / "a.py").read_text() == SAFE


HOSTILE = {
    "parentheses": "(" * 5_000 + ")" * 5_000,
    "lists within Python's limit": "x = " + "[" * 150 + "1" + "]" * 150,
    "signs": "x = " + "-" * 4_000 + "1",
    "nots": "x = " + "not " * 800 + "1",
    "attributes": "x = a" + ".b" * 900,
    "calls": "x = a" + "()" * 900,
    "sums": "x = " + "+".join(["1"] * 900),
    "lambdas": "x = " + "lambda: " * 400 + "1",
    "elifs": "if a:\n  pass\n" + "elif a:\n  pass\n" * 700,
    "indentation": "".join(f"{' ' * at}if 1:\n" for at in range(99)) + " " * 99 + "pass",
    "a zero byte": "x = 1\0",
    "Python 2": "print 'peft'",
    "a lone surrogate": "x = '\ud800'",
    "a long line": "x = '" + "a" * 1_500_000 + "'",
    "escape sequences in a path": 'torch.load("\x1b[31m/adapter_model.bin")\nx = (',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_source_is_said_not_to_be_checked_and_the_rest_is(lint, tmp_path, text):
    (tmp_path / "bad.py").write_bytes((IMPORTS + text).encode("utf-8", "surrogatepass"))
    result = lint(".", "--fix", a=UNSAFE)
    assert result.returncode == 1
    assert "bad.py: not checked: " in result.stdout
    assert "a.py:5:1: adapter-into-bare-base" in result.stdout
    assert "Traceback" not in result.stderr + result.stdout
    assert "\x1b" not in result.stdout
    assert (tmp_path / "bad.py").read_bytes() == (IMPORTS + text).encode("utf-8", "surrogatepass")


def test_a_file_that_alone_cannot_be_read_is_exit_code_2(lint, tmp_path):
    (tmp_path / "bad.py").write_bytes(b"import peft\n# \xff")
    result = lint("bad.py")
    assert result.returncode == 2
    assert result.stdout.startswith("bad.py: not checked: it is not UTF-8\n")


def test_what_is_linted_is_never_run(lint, tmp_path):
    lint("a.py", "--fix", "--unsafe-fixes", a=f'{SAFE}\nopen("ran", "w")\n__import__("os").system("touch ran")\n')
    assert not (tmp_path / "ran").exists()


def test_a_path_in_a_script_never_leads_out_of_the_folder(lint, tmp_path):
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "adapter_config.json").write_text("{}")
    (outside / "w.bin").write_text("")
    (tmp_path / "inside").symlink_to(outside)
    for path in (f"../{outside.name}/w.bin", str(outside / "w.bin"), "inside/w.bin"):
        assert lint("a.py", a=f"import torch, peft\ntorch.load({path!r})\n").returncode == 0
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "adapter_config.json").write_text("{}")
    (tmp_path / "in" / "w.bin").write_text("")
    assert lint("a.py", a="import torch, peft\ntorch.load('in/w.bin')\n").returncode == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(lint, tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    result = lint("pipe.py")
    assert (result.returncode, "no regular file" in result.stdout) == (2, True)


LATIN = f"# -*- coding: latin-1 -*-\n# caf\xe9\n{SAFE}"


def test_a_script_in_another_encoding_is_read_and_written_in_it(lint, tmp_path):
    (tmp_path / "old.py").write_bytes(LATIN.encode("latin-1"))
    result = lint("old.py", "--fix")
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "old.py").read_bytes() == LATIN.replace('.bin")', '.bin", weights_only=True)').encode("latin-1")


def test_an_encoding_that_there_is_not_is_said(lint, tmp_path):
    (tmp_path / "odd.py").write_bytes(b"# coding: no-such\n" + SAFE.encode())
    assert lint("odd.py").stdout.startswith("odd.py: not checked: its encoding cannot be told: ")


def test_a_script_on_the_standard_input_is_read_and_not_changed(tmp_path):
    import subprocess

    def run(*arguments):
        command = [sys.executable, "-m", "adapterfit", "lint", "-", *arguments]
        return subprocess.run(command, input=SAFE, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert run().stdout.startswith("<stdin>:4:9: adapter-unpickled ")
    assert "+state = torch.load" in run("--diff").stdout
    refused = run("--fix")
    assert refused.returncode == 2
    assert "--fix cannot change the standard input" in refused.stderr


def test_a_file_that_is_read_only_is_left_alone(lint, tmp_path):
    (tmp_path / "a.py").write_text(SAFE)
    (tmp_path / "a.py").chmod(0o444)
    result = lint("a.py", "--fix")
    assert "a.py: not checked: it cannot be written: it is read-only" in result.stdout
    assert (tmp_path / "a.py").read_text() == SAFE
