"""`%load_ext adapterfit` in a real IPython, without a terminal."""

from __future__ import annotations

import os

import pytest
import real

pytestmark = pytest.mark.exact

CELL = """
import peft
peft.PeftModel.from_pretrained(real.base({base}), {folder!r})
"""


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """An IPython of this test's own."""
    pytest.importorskip("IPython", reason="IPython is not installed")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    from IPython.core.interactiveshell import InteractiveShell

    made = InteractiveShell()
    made.colors = "nocolor"
    made.user_ns["real"] = real
    made.history_manager.enabled = False
    return made


def out(shell, cell, capsys):
    with real.quiet():
        shell.run_cell(cell, store_history=False)
    return capsys.readouterr().out


def without_addresses(text):
    return "\n".join(line for line in text.splitlines() if "File" not in line)


def test_a_failing_load_is_explained_below_the_same_traceback(shell, tmp_path, capsys):
    folder = real.saved(tmp_path / "adapter")
    cell = CELL.format(base="hidden_size=96", folder=os.fspath(folder))
    before = out(shell, cell, capsys)
    assert "size mismatch" in before
    assert "adapterfit:" not in before
    out(shell, "%load_ext adapterfit", capsys)
    after = out(shell, cell, capsys)
    assert "wrong-base: error" in after
    assert without_addresses(after).startswith(without_addresses(before).rstrip())


def test_loading_the_extension_twice_explains_once_and_unloading_stops_it(shell, tmp_path, capsys):
    folder = real.saved(tmp_path / "adapter")
    cell = CELL.format(base="hidden_size=96", folder=os.fspath(folder))
    out(shell, "%load_ext adapterfit\n%reload_ext adapterfit", capsys)
    assert out(shell, cell, capsys).count("why this adapter does not load") == 1
    out(shell, "%unload_ext adapterfit", capsys)
    assert "adapterfit:" not in out(shell, cell, capsys)


def test_other_errors_and_good_cells_get_no_words(shell, tmp_path, capsys):
    folder = real.saved(tmp_path / "adapter")
    out(shell, "%load_ext adapterfit", capsys)
    assert "adapterfit" not in out(shell, "1 / 0", capsys)
    assert "adapterfit" not in out(shell, "x = = 1", capsys)
    assert "adapterfit:" not in out(shell, CELL.format(base="", folder=os.fspath(folder)), capsys)
