"""Write `src/adapterfit/expect/default_targets.json`: what PEFT targets for a model type when a config leaves it open.

A table that equals an earlier one is written as that one's name. `then` says what older releases had instead: below a release,
the model types whose targets were others, null for none; or null where the method had no table at all. Run with the `dev` extra
installed, beside the wheels of the releases (`pip download --no-deps peft==...`), which are read and not run:

    python tools/gen_default_targets.py --wheels DIR
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "src/adapterfit/expect/default_targets.json"
#: Tables that are no tuner's `target_module_mapping`.
MORE = {
    "IA3": "TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING",
    "IA3_FEEDFORWARD": "TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING",
}


def tables() -> dict[str, Mapping[str, Any]]:
    """Method → model type → targets; LoRA's first, since most others are copies of it."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils import constants

    found = {name: getattr(constants, table) for name, table in MORE.items()}
    for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items():
        table = getattr(tuner, "target_module_mapping", None)
        if table:
            found[kind.value] = table
    ranked = sorted(found, key=lambda name: (name != "LORA", name))
    return {name: dict(sorted(found[name].items())) for name in ranked}


def shortened(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Copies by the name of the first of their kind."""
    first: dict[str, str] = {}
    short: dict[str, Any] = {}
    for name, table in found.items():
        text = json.dumps(table)
        short[name] = first.get(text, table)
        first.setdefault(text, name)
    return short


# ------------------------------------------------------------------------------------------------ older releases

_TABLE = re.compile(r"TRANSFORMERS_MODELS_TO_\w+_MODULES_MAPPING")
_FEEDFORWARD = "IA3_FEEDFORWARD"


class Release:
    """One wheel of PEFT, read as text."""

    def __init__(self, wheel: Path) -> None:
        self.version = wheel.name.split("-")[1]
        self._files = zipfile.ZipFile(wheel)
        self._names = set(self._files.namelist())
        self.constants: dict[str, dict[str, Any]] = {}
        for place in ("peft/utils/other.py", "peft/utils/constants.py"):
            for statement in ast.parse(self._text(place)).body:
                self._take(statement)

    def _text(self, name: str) -> str:
        return self._files.read(name).decode("utf-8") if name in self._names else ""

    def _take(self, statement: ast.stmt) -> None:
        """`X = {...}`, `X = Y.copy()` and `X["type"] = [...]`."""
        if not isinstance(statement, ast.Assign):
            return
        to, value = statement.targets[0], statement.value
        if isinstance(to, ast.Subscript) and isinstance(to.value, ast.Name) and to.value.id in self.constants:
            self.constants[to.value.id][ast.literal_eval(to.slice)] = ast.literal_eval(value)
        elif isinstance(to, ast.Name) and _TABLE.fullmatch(to.id):
            self.constants[to.id] = dict(
                ast.literal_eval(value) if isinstance(value, ast.Dict) else self._copied(value)
            )

    def _copied(self, value: ast.expr) -> dict[str, Any]:
        """Another table: `Y.copy()` or `Y`."""
        return self.constants[next(each.id for each in ast.walk(value) if isinstance(each, ast.Name))]

    def table(self, method: str) -> dict[str, Any] | None:
        """The targets by model type that a method's model reads; None where it reads none."""
        folder = method.removesuffix("_FEEDFORWARD").lower()
        text = self._text(f"peft/tuners/{folder}/model.py") or self._text(f"peft/tuners/{folder}.py")
        found = {name for name in _TABLE.findall(text) if ("FEEDFORWARD" in name) == (method == _FEEDFORWARD)}
        if len(found) > 1:
            message = f"{self.version} {method}: {sorted(found)}"
            raise ValueError(message)
        return self.constants[found.pop()] if found else None

    def has(self, method: str) -> bool:
        """Whether there was such a method."""
        folder = method.removesuffix("_FEEDFORWARD").lower()
        return any(name.startswith((f"peft/tuners/{folder}/", f"peft/tuners/{folder}.py")) for name in self._names)


def releases(folder: Path) -> list[Release]:
    """Oldest first."""
    found = [Release(wheel) for wheel in folder.glob("peft-*.whl")]
    return sorted(found, key=lambda release: [int(part) for part in release.version.split(".")])


def then(method: str, newest: Mapping[str, Any], every: list[Release]) -> Iterator[list[Any]]:
    """`[release, what was otherwise below it]`, oldest first; nothing of releases that had the table of today."""
    before: Any = {}
    for release in (one for one in every if one.has(method)):
        old = release.table(method)
        types = sorted({*newest, *(old or ())})
        now = None if old is None else {t: old.get(t) for t in types if old.get(t) != newest.get(t)}
        if before not in (now, {}):
            yield [release.version, before]
        before = now


def main() -> None:
    """Write the file."""
    import peft

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True)
    every = releases(parser.parse_args().wheels)
    found = tables()
    older = {name: list(then(name, table, every)) for name, table in found.items()}
    made = {
        "made_by": "python tools/gen_default_targets.py --wheels DIR",
        "peft": peft.__version__,
        "since": every[0].version,
        "tables": shortened(found),
        "then": shortened({name: runs for name, runs in older.items() if runs}),
    }
    OUT.write_text(json.dumps(made, separators=(",", ":")) + "\n")
    print(f"{OUT.name}: " + ", ".join(f"{name} {len(table)}" for name, table in found.items()))


if __name__ == "__main__":
    main()
