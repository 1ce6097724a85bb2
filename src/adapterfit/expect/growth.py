"""From lines of facts to modules: loops unrolled, conditions decided, sizes computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable

from adapterfit import limits
from adapterfit.expect.fields import Facts, FactsOf, Fields, reads_loop
from adapterfit.expect.formulas import FormulaError, UnknownFieldError, compile_formula, integer, names_in
from adapterfit.records import Module, Shape
from adapterfit.text import quote, show

#: Path, facts, class and fields of a part that comes from the facts of another type.
SubModel = tuple[str, Facts, str, Fields]
#: Dimensions beyond this overflow the size of any tensor.
_DIM = 1 << 48
#: A condition, and the parameters with their dimensions that it decides; those with `*` are numbered together.
Run = tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]
#: Fields that many models take as one number or as one for each side.
_SIDED = frozenset(("image_size", "pretrain_image_size", "patch_size"))
_SIDES = (2, 3)
#: The most dimensions that a tensor may have, as in torch.
_RANK = 64


@dataclass
class Part:
    """One line of facts with the lines below it. `params`: runs of names with dimensions under one condition."""

    name: str
    kind: str
    cls: str
    params: list[Run]
    more: Mapping[str, Any]
    children: list[Part] = field(default_factory=list)
    loops: bool = False


def _part(found: Facts, where: str, name: str) -> Part:
    kept: Part | None = found.parts.get((where, name))
    if kept is None:
        lines = found[where][name]
        kept = found.parts[where, name] = _parsed(lines["modules"] if where == "classes" else lines)
    return kept


def _parsed(lines: list[list[Any]]) -> Part:
    """Lines in depth-first order as a tree; a path may come twice, as variants, each followed by its own children."""
    stack: list[tuple[str, Part]] = []
    root: Part | None = None
    for path, kind, cls, *rest in lines:
        part = Part(path.rpartition(".")[2], kind, cls, _params(rest[0] if rest else {}), rest[1] if rest[1:] else {})
        parent = path.rpartition(".")[0]
        while stack and (stack[-1][0] != parent or not path):
            stack.pop()
        if stack and path:
            stack[-1][1].children.append(part)
        root = root or part
        stack.append((path, part))
    if root is None:
        raise ValueError("no lines")
    _mark(root)
    return root


def _params(given: Mapping[str, list[Any]]) -> list[Run]:
    found: list[Run] = []
    for name, dims in given.items():
        conditional = bool(dims) and isinstance(dims[0], dict)
        when = dims[0]["if"] if conditional else "true"
        one = (name, tuple(dims[1:] if conditional else dims))
        if found and "*" in name and "*" in found[-1][1][-1][0] and found[-1][0] == when:
            found[-1] = (when, (*found[-1][1], one))
        else:
            found.append((when, (one,)))
    return found


def copies(run: Run, wanted: object) -> Iterable[tuple[str, tuple[str, ...]]]:
    """The parameters that one run of facts stands for: none, itself, or those with `*` once for each number below `wanted`."""
    names = run[1]
    if "*" not in names[0][0] or wanted is None:
        return names if wanted else ()
    if integer(wanted) > limits.LAYERS:
        raise FormulaError(f"{show(wanted, 40)} parameters; at most {limits.LAYERS} are plausible")
    return ((name.replace("*", str(at)), dims) for at in range(integer(wanted)) for name, dims in names)


def _mark(part: Part) -> bool:
    """Note on each part whether anything in it depends on a loop variable, and so must be computed per turn."""
    texts = [text for when, names in part.params for text in (when, *(dim for _, dims in names for dim in dims))]
    texts += [part.more[key] for key in ("if", "each", "times", "names", "groups") if key in part.more]
    below = [_mark(child) for child in part.children]
    part.loops = any(map(reads_loop, texts)) or any(below)
    return part.loops


class Growth:
    """Grows one class into `modules`; `doubts` says what could not be known.

    `sub_models`: path, facts, class and fields of each part that comes from the facts of another type.
    """

    def __init__(self, fields: Fields, facts_of: FactsOf, common: Callable[[], Mapping[str, Any]]) -> None:
        self.fields, self.facts_of, self.common = fields, facts_of, common
        self.modules: list[Module] = []
        self.doubts: list[str] = []
        self.sub_models: list[SubModel] = []

    def grow(self, found: Facts, class_name: str, path: str = "") -> None:
        """All modules of a class of these facts, the class itself at `path`."""
        self._one(_part(found, "classes", class_name), path, Turn(self.fields), found)

    def _one(self, part: Part, path: str, turn: Turn, found: Facts) -> None:
        if part.kind == "=":
            self._one(_part(found, "fragments", part.cls), path, turn, found)
            return
        if part.kind == "@":
            self._sub_model(part, path)
            return
        more = part.more
        self.modules.append(
            Module(
                path,
                part.kind,
                {
                    one: self._shape(dims, turn)
                    for run in part.params
                    for one, dims in (copies(run, turn.value(run[0])) if run[0] != "true" else run[1])
                },
                self._class(part) if not part.cls else part.cls,
                turn.value(more["groups"]) if "groups" in more else 1,
                bool(more.get("transposed")),
            )
        )
        if len(self.modules) > limits.MODULES:
            raise FormulaError(f"more than {limits.MODULES} modules")
        if "each" in more:
            self._loop(part, path, turn, found)
            return
        for child in part.children:
            if "times" in child.more:
                self._row(child, path, turn, found)
            elif "names" in child.more:
                self._named(child, path, turn, found)
            elif "if" not in child.more or turn.value(child.more["if"]):
                self._one(child, f"{path}.{child.name}" if path else child.name, turn, found)

    def _shape(self, dims: Iterable[str], turn: Turn) -> Shape:
        """The sizes that these formulas give; one after `*` gives a list of them, as in `torch.zeros(1, *sizes)`."""
        return tuple(
            size
            for dim in dims
            for size in (self._listed(dim[1:], turn) if dim[:1] == "*" else (self._size(dim, turn),))
        )

    def _listed(self, text: str, turn: Turn) -> Iterable[int]:
        sizes = turn.value(text)
        if not isinstance(sizes, (list, tuple)) or len(sizes) > _RANK:
            raise FormulaError(f"no list of sizes, where {self._values(text)}")
        return (self._size(f"{text}[{at}]", turn) for at in range(len(sizes)))

    def _size(self, text: str, turn: Turn) -> int:
        try:
            size = integer(turn.value(text))
        except UnknownFieldError:
            raise
        except FormulaError as problem:
            if any(map(self._has_sides, names_in(text))):
                raise UnknownFieldError(f"adapterfit's facts know one number, where {self._values(text)}") from problem
            raise FormulaError(f"{problem}, where {self._values(text)}") from problem
        if not 0 <= size <= _DIM:
            raise FormulaError(f"a size of {show(size, 40)}, where {self._values(text)}")
        return size

    def _has_sides(self, name: str) -> bool:
        """Whether a field is a size in pixels that this config gives side by side, as models take it that were proven with one number."""
        if name.rpartition(".")[2] not in _SIDED:
            return False
        sides = self.fields[name]
        return isinstance(sides, (list, tuple)) and len(sides) in _SIDES and all(type(one) is int for one in sides)

    def _values(self, text: str) -> str:
        """The fields that a formula reads, with what they are here."""
        names = sorted(names_in(text) - {"i", "j"})
        return ", ".join(map(self.fields.told, names)) or "no field decides"

    # -------------------------------------------------------------------------------------------- loops

    def _row(self, child: Part, path: str, turn: Turn, found: Facts) -> None:
        """Children that are numbered under one word, as `expert_0`, `expert_1`."""
        count = self._size(child.more["times"], turn)
        if count > limits.LAYERS:
            given = self._values(child.more["times"])
            raise FormulaError(f"{count} of {show(child.name)}, where {given}; at most {limits.LAYERS} are plausible")
        for at in range(count):
            name = child.name.replace("*", str(at))
            self._one(child, f"{path}.{name}" if path else name, turn.inner(at), found)

    def _named(self, child: Part, path: str, turn: Turn, found: Facts) -> None:
        """Children of a `ModuleDict` that a list in the config names, each once."""
        names = turn.value(child.more["names"])
        if not isinstance(names, (list, tuple)) or not all(map(_is_name, names)) or len(names) > limits.LAYERS:
            raise FormulaError(f"no list of names of modules, where {self._values(child.more['names'])}")
        for name in dict.fromkeys(names):
            self._one(child, f"{path}.{name}" if path else name, turn, found)

    def _loop(self, part: Part, path: str, turn: Turn, found: Facts) -> None:
        count = self._size(part.more["each"], turn)
        if count > limits.LAYERS:
            given = self._values(part.more["each"])
            raise FormulaError(f"{count} entries of {show(path)}, where {given}; at most {limits.LAYERS} are plausible")
        prefix = f"{path}." if path else ""
        if not count:  # a list without entries is no container
            self.modules[-1] = replace(self.modules[-1], kind="norm" if "Norm" in part.cls else "other")
            return
        if not any(child.loops for child in part.children):
            self._copies(part, prefix, count, turn, found)
            return
        for at in range(count):
            inner = turn.inner(at)
            for child in part.children:
                if "if" not in child.more or inner.value(child.more["if"]):
                    self._one(child, f"{prefix}{at}", inner, found)

    def _copies(self, part: Part, prefix: str, count: int, turn: Turn, found: Facts) -> None:
        """Equal turns: the first is grown, the others are copies under another number."""
        start = len(self.modules)
        for child in part.children:
            if "if" not in child.more or turn.value(child.more["if"]):
                self._one(child, f"{prefix}0", turn, found)
        first = self.modules[start:]
        if len(first) * count > limits.MODULES:
            raise FormulaError(f"more than {limits.MODULES} modules")
        cut = len(prefix) + 1
        rest = [(m.name[cut:], m.kind, m.params, m.class_name, m.groups, m.transposed_experts) for m in first]
        add = self.modules.append
        for at in range(1, count):
            here = f"{prefix}{at}"
            for tail, kind, params, cls, groups, transposed in rest:
                add(Module(here + tail, kind, params, cls, groups, transposed))

    # -------------------------------------------------------------------------------------------- other files

    def _sub_model(self, part: Part, path: str) -> None:
        """A part that a sub-config makes, by the facts of its own type; `task`: what an Auto class asks for, or the class itself.

        The model around it may change it: `without` names children that it leaves out, `instead` what its norms become.
        """
        key, task = part.cls, part.more.get("task", "bare")
        model_type, sub = self.fields.sub_type(key), self.fields.sub(key)
        found = self.facts_of(model_type)
        bare = next(
            (name for name, entry in (found["classes"] if found else {}).items() if task in (name, *entry["tasks"])),
            None,
        )
        if found is None or sub is None or bare is None:
            self.doubts.append(
                f"adapterfit has no facts about {quote(model_type)}, the type of {key}: {path} is missing"
            )
            return
        other = Growth(sub, self.facts_of, self.common)
        other.grow(found, bare, path)
        left_out = tuple(f"{path}.{name}" for name in part.more.get("without", ()))
        kept = [m for m in other.modules if not _within(m.name, left_out)] if left_out else other.modules
        self.modules += _frozen(kept, part.more["instead"]) if "instead" in part.more else kept
        self.sub_models += [
            (path, found, bare, sub),
            *(one for one in other.sub_models if not _within(one[0], left_out)),
        ]
        self.doubts += [*found["classes"][bare]["doubts"], *other.doubts]

    def _class(self, part: Part) -> str:
        """The class name of a module whose class a text field decides."""
        name, table = (part.more["act"], None) if "act" in part.more else part.more["by"]
        value = self.fields[name]
        if table is None:
            table = self.fields.facts["activations"]
            table = table if isinstance(value, str) and value in table else self.common()["activations"]
        if not isinstance(value, str) or value not in table:
            self.doubts.append(f"field {name} is {quote(value)}: unknown what module it makes")
            return ""
        return str(table[value])


def _is_name(name: object) -> bool:
    """Whether torch takes this for the name of a module."""
    return isinstance(name, str) and bool(name) and "." not in name


def _within(path: str, others: Iterable[str]) -> bool:
    """Whether a module is one of these or below one."""
    return any(path == other or path.startswith(f"{other}.") for other in others)


def _frozen(modules: Iterable[Module], instead: Mapping[str, str]) -> list[Module]:
    """Modules with those of some classes replaced by norms of fixed numbers, which have no parameters."""
    return [
        replace(m, kind="norm", params={}, class_name=instead[m.class_name]) if m.class_name in instead else m
        for m in modules
    ]


class Turn:
    """The environment of one turn of a loop (or of none): loop variables first, then the fields."""

    def __init__(self, fields: Fields, loop: tuple[int, ...] = ()) -> None:
        self.fields, self.loop = fields, loop

    def inner(self, at: int) -> Turn:
        """Turn `at` of a loop in this one."""
        return Turn(self.fields, (*self.loop, at))

    def value(self, text: str) -> Any:
        """The value of a formula, which may read the loop variables."""
        return compile_formula(text)(self) if self.loop and reads_loop(text) else self.fields.value(text)

    def __getitem__(self, name: str) -> Any:
        if name == "i":
            return self.loop[0]
        return self.loop[-1] if name == "j" else self.fields[name]
