"""Which model types every transformers release knows, as `src/adapterfit/consumers/model_types.json`.

    python tools/gen_model_types.py WHEELS

WHEELS holds one folder per release, `t4.57.6/transformers/models/auto/…`, unpacked from its wheel (`pip download --no-deps`);
the last patch of every minor from 4.28 on. Read with `ast`, never imported.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable
from pathlib import Path

OUT = Path(__file__).parent.parent / "src" / "adapterfit" / "consumers" / "model_types.json"
_NAME = "CONFIG_MAPPING_NAMES"


def main() -> None:
    """Read every release, write from which to which each model type was there."""
    root = Path(sys.argv[1])
    folders = sorted(root.glob("t[0-9]*"), key=lambda path: [int(part) for part in path.name[1:].split(".")])
    releases = [folder.name[1:] for folder in folders]
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for place, folder in enumerate(folders):
        for name in model_types(folder / "transformers" / "models" / "auto"):
            first.setdefault(name, place)
            last[name] = place
    newest = len(releases) - 1
    types = {name: [first[name]] if last[name] == newest else [first[name], last[name]] for name in sorted(first)}
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in types.items())
    OUT.write_text(f'{{"releases": {json.dumps(releases)}, "types": {{\n{lines}\n}}}}\n')
    print(f"{OUT.name}: {len(types)} model types, {len(releases)} releases, {OUT.stat().st_size:,} bytes")


def model_types(folder: Path) -> set[str]:
    """The keys of CONFIG_MAPPING_NAMES."""
    for path in (folder / "auto_mappings.py", folder / "configuration_auto.py"):
        if path.exists():
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, (ast.Assign, ast.AnnAssign)) and _names(node):
                    return set(_keys(node.value))
    raise SystemExit(f"no {_NAME} in {folder}")


def _names(node: ast.Assign | ast.AnnAssign) -> bool:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return isinstance(target, ast.Name) and target.id == _NAME


def _keys(value: ast.expr | None) -> Iterable[str]:
    """Of a dict, or of `OrderedDict([(key, value), …])`."""
    inner = value.args[0] if isinstance(value, ast.Call) else value
    if isinstance(inner, ast.Dict):
        return [key.value for key in inner.keys if isinstance(key, ast.Constant)]
    pairs = inner.elts if isinstance(inner, ast.List) else []
    return [
        pair.elts[0].value for pair in pairs if isinstance(pair, ast.Tuple) and isinstance(pair.elts[0], ast.Constant)
    ]


if __name__ == "__main__":
    main()
