"""Runs hostile inputs in a fenced process and says what was found.

A row is a `Row`: a name, a function that writes the input into an empty folder, and what is due. `outcomes(rows)`
builds the folders here, then starts one Python for all of them with an address-space and a CPU limit, a deadline
and an audit hook: after a warm-up, importing anything new, opening a file outside the row's folder, a socket or a
new process is recorded as a breach. A module `evil` lies on its path; it leaves a mark when something imports it.

What is run on a folder is an *action*: the name of a function in `actions.py` that takes the folder and returns
`(flaws, facts)`, a list of flaws as dicts and whatever else a row wants to look at.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

HERE = Path(__file__).parent
MEMORY = 768 * 1024 * 1024
CPU_SECONDS = 50
DEADLINE = 90
#: Largest file whose bytes are compared before and after; sparse giants are compared by size.
_HASHED = 64 * 1024 * 1024


@dataclass(frozen=True)
class Row:
    """One bad input: `build(folder)` writes it; `due` are flaw codes that must occur; `refused` whether it must be refused.

    `seconds` bounds the time of one check, `says` are words that its messages must hold, `action` names the function
    of `actions.py` that is run, `codes_only` says that no other codes than `due` may occur.
    """

    name: str
    build: Callable[[Path], None]
    due: tuple[str, ...] = ()
    refused: bool | None = True
    says: tuple[str, ...] = ()
    seconds: float = 5.0
    action: str = "weights"
    codes_only: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a fenced process answered for one row. `error` is an exception's class and text (`CannotCheck: …`)."""

    codes: tuple[str, ...]
    refused: bool
    messages: str
    facts: Any
    seconds: float
    error: str
    traceback: str
    breaches: tuple[str, ...]
    same_twice: bool
    unchanged: bool


def outcomes(rows: Sequence[Row], work: Path) -> dict[str, Outcome]:
    """Every row's outcome, by its name."""
    names = [row.name for row in rows]
    assert len(set(names)) == len(names), "two rows of one name"
    folders = {row.name: work / f"row{i}" for i, row in enumerate(rows)}
    for row in rows:
        folders[row.name].mkdir()
        row.build(folders[row.name])
    before = {name: _prints(folder) for name, folder in folders.items()}
    _plant_evil(work / "path")
    answers = _run([(row.name, row.action, str(folders[row.name])) for row in rows], work)
    return {name: _outcome(answers[name], before[name] == _prints(folders[name])) for name in names}


def verify(row: Row, outcome: Outcome) -> None:
    """What every row promises, and this one in particular."""
    assert not outcome.traceback, outcome.traceback
    assert outcome.breaches == ()
    assert outcome.unchanged, "the input was changed"
    assert outcome.same_twice, "two runs answered differently"
    assert outcome.seconds < row.seconds, f"took {outcome.seconds:.1f} s"
    expected_error = row.refused is None
    assert bool(outcome.error) == expected_error, outcome.error or "it was checked"
    assert set(row.due) <= set(outcome.codes), (outcome.codes, outcome.messages)
    if row.codes_only:
        assert set(outcome.codes) <= set(row.due), (outcome.codes, outcome.messages)
    if row.refused is not None:
        assert outcome.refused == row.refused, outcome.messages
    text = outcome.messages + outcome.error
    for words in row.says:
        assert words in text, text
    assert all(char == "\n" or char.isprintable() for char in text), repr(text)


def _outcome(answer: dict[str, Any], unchanged: bool) -> Outcome:
    flaws = answer["flaws"]
    return Outcome(
        codes=tuple(flaw["code"] for flaw in flaws),
        refused=any(flaw["refused"] for flaw in flaws),
        messages="\n".join(flaw["message"] for flaw in flaws),
        facts=answer["facts"],
        seconds=answer["seconds"],
        error=answer["error"],
        traceback=answer["traceback"],
        breaches=tuple(answer["breaches"]),
        same_twice=answer["same_twice"],
        unchanged=unchanged,
    )


def _run(tasks: list[tuple[str, str, str]], work: Path) -> dict[str, dict[str, Any]]:
    """One process for all rows; where it dies, the row it died on is named."""
    (work / "tasks.json").write_text(json.dumps(tasks))
    command = [sys.executable, "-B", str(HERE / "fenced.py"), str(work), str(MEMORY), str(CPU_SECONDS)]
    home = {
        "HOME": str(work),
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(work / "path"),
        "PYTHONHASHSEED": "0",
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, env=home, cwd=work, check=False)
    answers = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    missing = [name for name, _, _ in tasks if name not in answers]
    assert not missing, f"the process died on {missing[0]}: rc {done.returncode}\n{done.stderr[-2000:]}"
    assert not (work / "evil-was-here").exists(), "code from an input ran"
    return answers


def _plant_evil(folder: Path) -> None:
    folder.mkdir()
    mark = folder.parent / "evil-was-here"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\ndef run(*a): pass\n")


def _prints(folder: Path) -> dict[str, str]:
    """Name → what tells that a file was touched."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            status = path.lstat()
            regular = path.is_file() and not path.is_symlink() and status.st_blocks * 512 <= _HASHED
            small = regular and status.st_size <= _HASHED and os.access(path, os.R_OK)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if small else ""
            found[os.fsencode(path).hex()] = f"{status.st_mode} {status.st_size} {status.st_mtime_ns} {digest}"
    return found
