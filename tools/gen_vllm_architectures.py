"""Make `consumers/vllm_architectures.json` from the sources of vLLM's releases: the architectures that take a LoRA.

Each argument is a folder with `vllm/` and its `dist-info` in it, as `make oracles` and `make oracles-older` unpack them. The
classes are read, not imported: attributes that are set at run time do not show; where a mapper is an expression, `certain` is
false and paths that do not match prove nothing. An entry that every release shares stands by itself; one that changed is
`{"since": [[release, entry], …]}`, oldest first, with "absent" where the release does not know the architecture.
"""

from __future__ import annotations

import ast
import json
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from adapterfit.consumers.versions import version

OUT = Path(__file__).resolve().parents[1] / "src" / "adapterfit" / "consumers" / "vllm_architectures.json"
MODELS = "vllm.model_executor.models"
_WANTED = (
    "supports_lora", "packed_modules_mapping", "embedding_modules", "is_3d_moe_weight", "hf_to_vllm_mapper",
)  # fmt: skip
ABSENT = "absent"


class Module:
    """One file: its classes, and where its other names come from."""

    def __init__(self, root: Path, name: str) -> None:
        path, package = root / f"{name.replace('.', '/')}.py", root / name.replace(".", "/") / "__init__.py"
        inside, path = (f"{name}.__init__", package) if package.is_file() else (name, path)
        body = ast.parse(path.read_text("utf-8")).body if path.is_file() else []
        self.classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
        self.values = {key: value for node in body for key, value in _assigned(node)}
        self.imports = dict(
            _imported(inside, node) for top in body if isinstance(top, ast.ImportFrom) for node in _each(top)
        )


def _each(node: ast.ImportFrom) -> list[tuple[ast.ImportFrom, ast.alias]]:
    return [(node, alias) for alias in node.names]


def _imported(importer: str, found: tuple[ast.ImportFrom, ast.alias]) -> tuple[str, tuple[str, str]]:
    node, alias = found
    parent = ".".join(importer.split(".")[: -node.level]) if node.level else ""
    module = ".".join(filter(None, (parent, node.module or "")))
    return alias.asname or alias.name, (module, alias.name)


def _assigned(node: ast.stmt) -> list[tuple[str, ast.expr]]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return [(node.target.id, node.value)]
    if isinstance(node, ast.Assign):
        return [(target.id, node.value) for target in node.targets if isinstance(target, ast.Name)]
    return []


class Release:
    """The sources of one release."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.version = next(root.glob("vllm-*.dist-info")).name[len("vllm-") : -len(".dist-info")]
        self._modules: dict[str, Module] = {}

    def module(self, name: str) -> Module:
        """A file, parsed once."""
        if name not in self._modules:
            self._modules[name] = Module(self.root, name)
        return self._modules[name]

    @cached_property
    def registry(self) -> dict[str, tuple[str, str]]:
        """Architecture → module and class, from every table of the registry."""
        found: dict[str, tuple[str, str]] = {}
        for value in self.module(f"{MODELS}.registry").values.values():
            if isinstance(value, ast.Dict):
                found.update(_entries(value))
        return found

    def mro(self, module: str, name: str) -> list[tuple[str, ast.ClassDef]]:
        """The classes that an attribute is looked up in, by C3 where the sources allow it."""
        found = self.module(module).classes.get(name)
        if found is None:
            origin = self.module(module).imports.get(name)
            return self.mro(*origin) if origin is not None and origin[0].startswith("vllm") else []
        lines = [self.mro(module, _last(base)) for base in found.bases]
        heads = [line[0] for line in lines if line]
        return [(module, found), *_merged([*lines, heads])]

    def attributes(self, architecture: str) -> dict[str, Any]:
        """What the class of an architecture has, as far as it can be read."""
        wanted: dict[str, Any] = {}
        for _, node in self.mro(*self._class(architecture)):
            for key, value in (pair for statement in node.body for pair in _assigned(statement)):
                if key in _WANTED and key not in wanted:
                    wanted[key] = _value(value)
        return wanted

    def table(self) -> dict[str, Any]:
        """Architecture → its entry; what the sources do not show the class of is left out."""
        there = [name for name in sorted(self.registry) if self.mro(*self._class(name))]
        return {name: entry(self.attributes(name)) for name in there}

    def _class(self, architecture: str) -> tuple[str, str]:
        module, name = self.registry[architecture]
        return (module if module.startswith("vllm.") else f"{MODELS}.{module}"), name


def _entries(table: ast.Dict) -> dict[str, tuple[str, str]]:
    """Those of a table that maps names to a module and a class."""
    found = {}
    for key, value in zip(table.keys, table.values):
        parts = [each.value for each in getattr(value, "elts", ()) if isinstance(each, ast.Constant)]
        if isinstance(key, ast.Constant) and len(parts) == 2 and all(isinstance(part, str) for part in parts):
            found[str(key.value)] = (str(parts[0]), str(parts[1]))
    return found


def _last(node: ast.expr) -> str:
    node = node.value if isinstance(node, ast.Subscript) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _merged(lines: list[list[tuple[str, ast.ClassDef]]]) -> list[tuple[str, ast.ClassDef]]:
    lines, done = [list(line) for line in lines if line], []
    while lines:
        head = next((line[0] for line in lines if not any(line[0] in other[1:] for other in lines)), lines[0][0])
        done.append(head)
        lines = [[each for each in line if each is not head and each != head] for line in lines]
        lines = [line for line in lines if line]
    return done


def _value(node: ast.expr) -> Any:
    """A literal, the keywords of a mapper, else the expression as text."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        pass
    if isinstance(node, ast.Call) and _last(node.func) == "WeightsMapper" and not node.args:
        try:
            return {word.arg: ast.literal_eval(word.value) for word in node.keywords}
        except ValueError:
            pass
    return ast.unparse(node)


def entry(found: dict[str, Any]) -> dict[str, Any] | None:
    """What the rule needs of one architecture; None for one without LoRA support."""
    if found.get("supports_lora") is not True:
        return None
    packed, embeddings, mapper = (
        found.get(key) for key in ("packed_modules_mapping", "embedding_modules", "hf_to_vllm_mapper")
    )
    packed = {} if packed is None else packed
    literal = isinstance(packed, dict) and (embeddings is None or isinstance(embeddings, dict))
    plain = mapper in (None, "None") or isinstance(mapper, dict) or "(" not in mapper
    leaves = {name for key, parts in packed.items() for name in (key, *parts)} if isinstance(packed, dict) else set()
    return {
        "leaves": sorted(leaf.rpartition(".")[2] for leaf in leaves),
        "embeddings": sorted(embeddings) if isinstance(embeddings, dict) else [],
        "fused": bool(found.get("is_3d_moe_weight")),
        "prefixes": mapper.get("orig_to_new_prefix", {}) if isinstance(mapper, dict) else {},
        "certain": bool(literal and plain),
    }


def joined(tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Tables by release, oldest first → one table."""
    found: dict[str, Any] = {}
    for name in sorted({name for table in tables.values() for name in table}):
        spans: list[list[Any]] = []
        for release, table in tables.items():
            now = table.get(name, ABSENT)
            if not spans or spans[-1][1] != now:
                spans.append([release, now])
        found[name] = spans[0][1] if len(spans) == 1 else {"since": spans}
    return found


def main() -> int:
    """Read the folders named on the command line, write the table."""
    releases = sorted((Release(Path(folder)) for folder in sys.argv[1:]), key=lambda each: version(each.version))
    tables = {each.version: each.table() for each in releases}
    rows = [f" {json.dumps(name)}: {json.dumps(found)}" for name, found in joined(tables).items()]
    OUT.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    for release, table in tables.items():
        print(f"vLLM {release}: {len(table)} architectures, {sum(map(bool, table.values()))} with LoRA")
    return 0


if __name__ == "__main__":
    sys.exit(main())
