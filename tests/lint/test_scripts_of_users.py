"""Whole scripts and notebooks as users write them: what is wrong in them is found, and nothing else is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("libcst", reason="libcst is not installed: pip install adapterfit[lint]")

import users_frameworks
import users_loads
import users_right
import users_saves

from adapterfit.lint import engine, files

SCRIPTS = {**users_loads.SCRIPTS, **users_saves.SCRIPTS, **users_right.SCRIPTS, **users_frameworks.SCRIPTS}


def source(code, folder):
    if isinstance(code, str):
        return files.Source(folder / "script.py", code.encode())
    cells = [
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": cell.splitlines(keepends=True)} for cell in code
    ]
    return files.Source(folder / "x.ipynb", json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}).encode())


@pytest.mark.parametrize("what", SCRIPTS)
def test_a_users_script_gets_the_findings_that_are_due(what, tmp_path):
    code, rules, beside = SCRIPTS[what]
    for name, text in beside.items():
        path = Path(tmp_path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    result, _ = engine.lint(source(code, tmp_path))
    assert result.unread == ()
    assert sorted({finding.rule for finding in result.findings}) == rules


def test_there_are_enough_of_both_kinds():
    due = [bool(rules) for _, rules, _ in SCRIPTS.values()]
    assert due.count(True) >= 35
    assert due.count(False) >= 50
